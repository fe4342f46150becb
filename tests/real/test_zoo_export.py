"""`scripts/export_zoo.py`: what is exported, that it is the commit's, and the zoo's checks on the unpacked zip."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPORT = runpy.run_path(str(ROOT / "scripts/export_zoo.py"))
NAME = EXPORT["NAME"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("git") is None or not (ROOT / ".git").exists(),
        reason="the export is made from git, and this is no checkout",
    ),
]


def export(out: Path, *options: str) -> Path:
    program = [sys.executable, str(ROOT / "scripts/export_zoo.py"), "--out", str(out), *options]
    done = subprocess.run(program, capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """The checked export; making it fails where a check of the zoo's would."""
    return export(tmp_path_factory.mktemp("first"))


def test_the_checked_export_is_named_by_the_version(zipped):
    with zipfile.ZipFile(zipped) as archive:
        metadata = json.loads(archive.read(f"{NAME}/configs/metadata.json"))
    assert zipped.name == f"{NAME}_v{metadata['version']}.zip"


def test_the_export_holds_the_bundle_and_nothing_else(zipped):
    with zipfile.ZipFile(zipped) as archive:
        sizes = {info.filename.removeprefix(f"{NAME}/"): info.file_size for info in archive.infolist()}
    needed = {"LICENSE", "configs/metadata.json", "models/model.pt", "docs/README.md", "docs/data_license.txt"}
    assert needed <= set(sizes)
    assert max(sizes.values()) <= 25e6
    first = {name.split("/")[0] for name in sizes}
    assert not first & {"tests", "eval", "runs", "data", "dist", "demo", ".git", ".venv", ".ci"}
    assert not [name for name in sizes if "__pycache__" in name or name.endswith(".pyc")]


def test_equal_commits_give_equal_bytes(zipped, tmp_path):
    assert export(tmp_path, "--no-checks").read_bytes() == zipped.read_bytes()


def test_what_is_not_committed_stays_out(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "kept.txt").write_text("committed\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/left_out.py").write_text("\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "One")
    (tmp_path / "kept.txt").write_text("changed afterwards\n")
    (tmp_path / "secret.txt").write_text("not committed\n")
    assert EXPORT["committed_files"]("HEAD", tmp_path) == {"kept.txt": b"committed\n"}


def test_a_committed_cache_is_refused(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "bundle/__pycache__").mkdir(parents=True)
    (tmp_path / "bundle/__pycache__/a.pyc").write_bytes(b"0")
    git(tmp_path, "add", "-f", ".")
    git(tmp_path, "commit", "-qm", "One")
    with pytest.raises(ValueError, match="a run makes"):
        EXPORT["committed_files"]("HEAD", tmp_path)


@pytest.fixture(scope="module")
def files():
    return EXPORT["committed_files"]("HEAD")


def test_the_commit_has_no_fault(files):
    assert EXPORT["faults"](files) == []


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("models/model.pt", lambda content: bytes(25_000_001), "at most 25 MB"),
        ("docs/data_license.txt", None, "is not there"),
        (
            "configs/metadata.json",
            lambda content: content.replace(b'"changelog": {', b'"changelog": {}, "x": {'),
            "changelog",
        ),
        ("docs/README.md", lambda content: content.replace(b"## Performance", b"## Speed"), "Performance"),
        ("configs/inference.json", lambda content: content.replace(b'"output_dir":', b'"out":'), "output_dir"),
    ],
)
def test_a_fault_is_named(files, name, change, fault):
    broken = dict(files)
    content = broken.pop(name)
    if change:
        broken[name] = change(content)
        assert broken[name] != content
    found = EXPORT["faults"](broken)
    assert len(found) == 1
    assert name in found[0]
    assert fault in found[0]
