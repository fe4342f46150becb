"""`.ci/run` with stand-ins for make and apt-get: what it calls, and that a failure is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def ci(tmp_path):
    """Run `.ci/run` where nothing but the stand-ins is installed; gives (exit code, output, calls)."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("`.ci/run` needs bash")
    calls = tmp_path / "calls.txt"
    programs = tmp_path / "bin"
    programs.mkdir()

    def run(*, apt: int | None = 0, failing: str = "none") -> tuple[int, str, list[str]]:
        stand_ins = {"dirname": f'exec {shutil.which("dirname")} "$@"', "make": f'[ "$1" != "{failing}" ]'}
        if apt is not None:
            stand_ins["apt-get"] = f"exit {apt}"
        for name, body in stand_ins.items():
            (programs / name).write_text(f'#!{bash}\necho "{name} $*" >>"{calls}"\n{body}\n')
            (programs / name).chmod(0o755)
        calls.write_text("")
        done = subprocess.run(
            [bash, str(ROOT / ".ci/run")], env={"PATH": str(programs), "CI": "true"}, capture_output=True, text=True
        )
        lines = [line for line in calls.read_text().splitlines() if not line.startswith("dirname")]
        return done.returncode, done.stdout, lines

    return run


def test_both_targets_run_in_order(ci):
    code, output, calls = ci()
    assert code == 0, output
    assert calls[-2:] == ["make test", "make test-real"]


@pytest.mark.skipif(os.geteuid() != 0, reason="apt-get is called by root alone")
def test_missing_package_is_installed(ci):
    calls = ci()[2]
    assert calls[0].startswith("apt-get update")
    assert calls[1].startswith("apt-get install")
    assert set(calls[1].split()) >= {"dicom3tools", "chromium"}


@pytest.mark.parametrize("apt", [100, None], ids=["apt-get fails", "no apt-get"])
def test_package_that_cannot_be_had_is_said_and_tolerated(ci, apt):
    code, output, calls = ci(apt=apt)
    assert code == 0
    needed = re.search(r"the tests that need (.*) are skipped", output)
    assert needed
    assert set(needed[1].split()) == {"dicom3tools", "chromium"}
    assert calls[-1] == "make test-real"


@pytest.mark.parametrize("target", ["test", "test-real"])
def test_failing_target_fails_the_run(ci, target):
    code, output, calls = ci(failing=target)
    assert code != 0
    assert calls[-1] == f"make {target}"
    assert "passed" not in output
