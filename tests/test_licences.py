"""docs/licences.md holds what the lock holds, and the bill of materials' tool stays out of it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def locked(name):
    """Package to its versions in a lock; one for several Pythons may hold several."""
    found = {}
    text = (ROOT / "requirements" / name).read_text()
    for package, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


def listed():
    """Rows of the page, package to version and licence, and the packages of other systems."""
    text = (ROOT / "docs/licences.md").read_text()
    rows = re.findall(r"^\| (?:\[)?([a-zA-Z0-9._-]+)[^|]* \| (\d[^ |]*) \| ([^|]+) \|$", text, re.MULTILINE)
    others = re.search(r"not looked at here: (.*)\.$", text, re.MULTILINE)
    return {name: (version, licence) for name, version, licence in rows}, others[1].split(", ") if others else []


def test_every_locked_package_is_listed_with_its_version():
    """If this fails: make licences."""
    rows, others = listed()
    lock = locked("run.txt")
    assert set(rows) | set(others) == set(lock)
    assert {name: version for name, (version, _) in rows.items() if version not in lock[name]} == {}


def test_no_package_is_under_a_licence_that_binds_the_bundle():
    rows, _ = listed()
    binds = re.compile(r"\bA?GPL|GNU (Affero )?General")
    assert {name: licence for name, (_, licence) in rows.items() if binds.search(licence)} == {}


def test_tools_of_the_audit_are_not_in_the_locks_for_running_and_developing():
    tools = {"cyclonedx-bom", "pip-licenses"}
    assert tools <= set(locked("audit.txt"))
    assert not tools & (set(locked("run.txt")) | set(locked("dev.txt")))
