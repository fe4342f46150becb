"""What `make lint` asks of the code base."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKS = {"style": "ruff check .", "format": "ruff format --check .", "types": "mypy"}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_lint_finds_nothing(check):
    done = subprocess.run([sys.executable, "-m", *CHECKS[check].split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_these_are_the_checks_of_make_lint():
    recipe = (ROOT / "Makefile").read_text().split("\nlint:", 1)[1].split("\n\n", 1)[0]
    assert [line.removeprefix("\t$(python) -m ") for line in recipe.splitlines()[1:]] == list(CHECKS.values())
