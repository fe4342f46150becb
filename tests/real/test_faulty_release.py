"""A release with every fault that the phantom can plant: the reader takes or refuses each as it should."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.phantom.faults import PACKAGINGS, faults_for

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("packaging", PACKAGINGS)
def test_every_fault_is_read_or_refused_by_name_and_the_run_ends(tmp_path, packaging):
    release, out = tmp_path / "inside/oai", tmp_path / "inside/prepared"
    people = len(faults_for(packaging))
    made = ["--participants", str(people), "--seed", "31", "--size", "test", "--faults", "--packaging", packaging]
    for script, options in (
        ("make_phantom.py", ["--out", str(release), *made]),
        ("prepare_data.py", ["--oai", str(release), "--out", str(out), "--size", "64"]),
    ):
        done = subprocess.run([sys.executable, f"scripts/{script}", *options], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    planted = json.loads((release / "faults.json").read_text())["participants"]
    assert {one["fault"] for one in planted.values()} == {fault.name for fault in faults_for(packaging)}
    kept = json.loads((out / "dataset.json").read_text())
    read = {entry["participant"] for split in ("training", "validation", "test") for entry in kept[split]}
    wrong = {one["fault"] for person, one in planted.items() if (person in read) != (one["expect"] == "read")}
    assert wrong == set()
    with open(out / "rejected.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["reason"] != "film without an MR series"]
    named = {row["knee"][:7] for row in rows}
    assert named >= {person for person, one in planted.items() if one["expect"] == "refuse"}
    assert all(row["file"] and row["reason"] for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
