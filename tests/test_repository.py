"""What is true of every tracked file, and of the documents together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import bundle
from bundle.writers.mark import MODEL

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 25 * 2**20
"""The model zoo's limit for one file."""
HOMES = re.compile(rb"(?<![\w.:/-])/(?:home|root|Users|work)/[\w.]|\b[A-Z]:\\Users\\")
"""Folders that only exist on somebody's machine."""


@pytest.fixture(scope="module")
def tracked():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("the tracked files are known in a git checkout alone")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name for name in listing.decode().split("\0") if name]
    return [path for path in files if path.is_file()]


def machine_traces(content: bytes) -> list[bytes]:
    """Paths of one machine in a file's bytes; its name is not looked for, since it may be any word."""
    own = {str(ROOT), str(Path.home())} - {"/"}
    names = [name.encode() for name in own if len(name) > 5]
    return [match[0] for match in HOMES.finditer(content)] + [name for name in names if name in content]


def test_no_tracked_file_names_a_machine(tracked):
    traces = {str(path.relative_to(ROOT)): machine_traces(path.read_bytes()) for path in tracked}
    assert {name: found for name, found in traces.items() if found} == {}


def test_machine_traces_are_found():
    home = "/".join(["", "home", "somebody", "data"])
    assert machine_traces(f"root = '{home}'".encode())
    assert machine_traces(str(ROOT).encode())
    assert not machine_traces(b"https://example.org/home/page, data/phantom, ./home/x")


def test_no_tracked_file_is_too_large_for_the_zoo(tracked):
    assert [path.name for path in tracked if path.stat().st_size > LARGEST] == []


def test_locks_name_no_index():
    """The index comes from the environment (docs/decisions/002-locks-and-uv.md)."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        lines = [line for line in lock.read_text().splitlines() if re.match(r"\s*--(?!hash=)", line)]
        assert lines == [], lock.name


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    metadata = json.loads((ROOT / "configs/metadata.json").read_text())
    newest = re.search(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    stated = [bundle.__version__, metadata["version"], newest, citation]
    assert stated == [project] * 4
    assert project in metadata["changelog"]


def test_the_bundle_has_one_name():
    """The scripts that have it import nothing of `bundle`, and so write it themselves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"].replace("-", "_")
    found = {path.stem: re.findall(r'^NAME = "(.+)"$', path.read_text(), re.M) for path in ROOT.glob("scripts/*.py")}
    assert {script: names for script, names in found.items() if names} == {
        "export_zoo": [project],
        "serve_label": [project],
    }
    assert project == MODEL


def test_python_floor_is_stated_once_and_alike():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floor = project["requires-python"].removeprefix(">=")
    assert f"--python-version {floor}" in (ROOT / "Makefile").read_text()
    assert f"({floor.replace('.', ', ')})" in (ROOT / "requirements/install.sh").read_text()


@pytest.mark.parametrize("document", ["README.md", "docs/README.md", "docs/data.md", "docs/method.md"])
def test_local_links_lead_somewhere(document):
    path = ROOT / document
    if not path.exists():
        pytest.skip(f"{document} is not written yet")
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("document", ["README.md", ".ci/run", "docs/data.md", "docs/decisions/002-locks-and-uv.md"])
def test_targets_that_documents_name_exist(document):
    named = set(re.findall(r"(?:`|^|ci: )make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named - targets == set()
