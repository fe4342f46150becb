"""`requirements/install.sh`: what is installed when, and how it recovers; a stand-in python logs the calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

STAND_IN = """#!/bin/sh
# Does what the set-up needs of a python, and logs how it was called.
printf '%s\\n' "$*" >>"$CALLS"
case "$*" in
"-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && : >.venv/pyvenv.cfg ;;
"-m uv "*) exit "${UV_STATUS:-0}" ;;
*"--editable .") exit "${EDITABLE_STATUS:-0}" ;;
*"config get"*) exit 1 ;;
esac
"""


class Checkout:
    """A checkout with nothing but what the set-up reads, in a path with a space."""

    def __init__(self, folder: Path):
        self.root = folder / "a b" / "repo"
        self.calls_file = folder / "calls.txt"
        self.python = folder / "stand-in"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)
        (self.root / "requirements").mkdir(parents=True)
        for name in ("uv.txt", "run.txt", "dev.txt", "install.sh"):
            shutil.copyfile(ROOT / "requirements" / name, self.root / "requirements" / name)
        shutil.copyfile(ROOT / "pyproject.toml", self.root / "pyproject.toml")

    def set_up(self, lock: str = "run", **environment: str) -> subprocess.CompletedProcess:
        """Run the script from another directory; `calls` then holds how python was called."""
        self.calls_file.write_text("")
        variables = {"PATH": os.environ["PATH"], "PYTHON": str(self.python), "CALLS": str(self.calls_file)}
        command = ["sh", str(self.root / "requirements/install.sh"), lock]
        return subprocess.run(command, cwd="/", env=variables | environment, capture_output=True, text=True)

    def calls(self, start: str) -> list[str]:
        return [line for line in self.calls_file.read_text().splitlines() if line.startswith(start)]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_first_set_up_installs_the_hashed_lock_and_the_root(checkout):
    result = checkout.set_up("run")
    assert result.returncode == 0, result.stderr
    assert checkout.calls("-m venv") == ["-m venv .venv"]
    assert checkout.calls("-m uv") == [
        "-m uv pip install --python .venv/bin/python --require-hashes -r requirements/run.txt"
    ]
    assert len(checkout.calls("-m pip install --quiet --require-hashes -r requirements/uv.txt")) == 1
    assert checkout.calls("-m pip install --quiet --no-deps --no-build-isolation --editable .")
    assert "GB to download" in result.stderr


def test_second_set_up_does_nothing_and_says_nothing(checkout):
    checkout.set_up("run")
    result = checkout.set_up("run")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert checkout.calls("-m") == []


def test_developing_adds_to_running(checkout):
    checkout.set_up("run")
    assert checkout.set_up("dev").returncode == 0
    assert checkout.calls("-m venv .venv") == [], "the environment is kept"
    assert "requirements/dev.txt" in checkout.calls("-m uv")[0]


def test_developing_lock_serves_running_too(checkout):
    checkout.set_up("dev")
    assert checkout.set_up("run").returncode == 0
    assert checkout.calls("-m") == []


@pytest.mark.parametrize("changed", ["requirements/run.txt", "requirements/uv.txt", "pyproject.toml"])
def test_change_of_what_is_locked_installs_again(checkout, changed):
    checkout.set_up("run")
    with open(checkout.root / changed, "a") as file:
        file.write("# changed\n")
    checkout.set_up("run")
    assert len(checkout.calls("-m uv")) == 1
    assert checkout.calls("-m venv .venv") == []


def test_moved_checkout_is_installed_editable_again(checkout):
    checkout.set_up("run")
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert checkout.set_up("run").returncode == 0
    assert checkout.calls("-m pip install --quiet --no-deps --no-build-isolation --editable .")


def test_where_uv_fails_pip_installs_the_same_lock(checkout):
    result = checkout.set_up("dev", UV_STATUS="1")
    assert result.returncode == 0
    assert checkout.calls("-m pip install --require-hashes -r requirements/dev.txt")
    assert "trying pip" in result.stderr


def test_failed_set_up_fails_and_the_next_starts_afresh(checkout):
    assert checkout.set_up("run", EDITABLE_STATUS="1").returncode != 0
    result = checkout.set_up("run")
    assert result.returncode == 0
    assert "starting afresh" in result.stderr
    assert checkout.calls("-m venv") == ["-m venv .venv"]


def test_set_up_at_work_is_left_alone(checkout):
    checkout.set_up("run")
    (checkout.root / ".venv/.unfinished").write_text(str(os.getpid()))
    result = checkout.set_up("dev")
    assert result.returncode != 0
    assert f"process {os.getpid()}" in result.stderr
    assert (checkout.root / ".venv/bin/python").exists()


def test_environment_whose_python_is_gone_is_made_anew(checkout):
    checkout.set_up("run")
    (checkout.root / ".venv/bin/python").unlink()
    assert checkout.set_up("run").returncode == 0
    assert checkout.calls("-m venv") == ["-m venv .venv"]


def test_pips_index_is_handed_on_to_uv(checkout):
    program = checkout.python.read_text().replace('"-m uv "*)', '"-m uv "*) echo "$UV_DEFAULT_INDEX" >>"$CALLS";')
    checkout.python.write_text(program)
    checkout.set_up("run", PIP_INDEX_URL="https://mirror.example/simple")
    assert checkout.calls("https://") == ["https://mirror.example/simple"]


@pytest.mark.parametrize("named", [True, False], ids=["PYTHON=...", "on the PATH"])
def test_older_python_gets_one_line(checkout, tmp_path, named):
    """Every name that is tried refuses the version check, as Python 3.10 does."""
    old = tmp_path / "old"
    old.mkdir()
    for name in ("python", "python3", *(f"python3.{minor}" for minor in range(11, 16))):
        (old / name).write_text("#!/bin/sh\nexit 1\n")
        (old / name).chmod(0o755)
    result = checkout.set_up(
        "run", PATH=f"{old}{os.pathsep}{os.environ['PATH']}", PYTHON=str(old / "python3") if named else ""
    )
    assert result.returncode != 0
    assert len(result.stderr.splitlines()) == 1
    assert "Python 3.11 or newer is needed" in result.stderr
    assert not (checkout.root / ".venv").exists()


@pytest.mark.slow
def test_clone_in_a_path_with_a_space_sets_itself_up_and_can_be_moved(tmp_path):
    """The real thing: clone, `make env`, import, move the checkout, `make env`, use a launcher."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout to clone")
    probe = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "-r", "requirements/uv.txt"]
    if subprocess.run([*probe, "--dest", str(tmp_path / "probe")], cwd=ROOT).returncode:
        pytest.skip("the package index is out of reach")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}

    def run(*command: str, cwd: Path) -> str:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    clone = tmp_path / "a b" / "repo"
    run("git", "clone", "--quiet", str(ROOT), str(clone), cwd=tmp_path)
    where = [".venv/bin/python", "-c", "import bundle; print(bundle.__file__)"]
    try:
        run("make", "env", cwd=clone)
        assert Path(run(str(clone / where[0]), *where[1:], cwd=tmp_path).strip()) == clone / "bundle/__init__.py"

        moved = clone.rename(clone.with_name("elsewhere"))
        run("make", "env", cwd=moved)
        assert Path(run(str(moved / where[0]), *where[1:], cwd=tmp_path).strip()) == moved / "bundle/__init__.py"
        assert "usage" in run(str(moved / ".venv/bin/torchrun"), "--help", cwd=tmp_path)

        start = time.monotonic()
        assert "GB" not in run("make", "env", cwd=moved)
        assert time.monotonic() - start < 1, "nothing has changed"
    finally:
        shutil.rmtree(tmp_path / "a b")
