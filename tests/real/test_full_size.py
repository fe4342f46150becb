"""`configs/paper.json` at its full size on a CPU, on request; at width 64 always.

The full size needs 21 GB of memory and some minutes:
`FULL_SIZE=1 python -m pytest -m slow tests/real/test_full_size.py`.
Continuous integration does not set `FULL_SIZE`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
asked = pytest.mark.skipif(not os.environ.get("FULL_SIZE"), reason="21 GB and minutes; set FULL_SIZE=1 to run it")
WIDTHS = pytest.mark.parametrize("width", [64, pytest.param(None, marks=asked, id="full")])


def measured(piece, width, pattern):
    """Seconds, and the process's peak memory in GB, that the benchmark says."""
    options = [] if width is None else ["--width", str(width)]
    command = [sys.executable, "scripts/benchmark.py", "paper", piece, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return (float(re.search(found, done.stdout)[1]) for found in (pattern, r"peak memory of the process: ([\d.]+) GB"))


@WIDTHS
def test_a_stage_2_training_step_of_one_slice_stays_below_21_gb(width):
    seconds, memory = measured("step", width, r"one step of batch 1: ([\d.]+) s")
    assert memory < (21 if width is None else 4)
    assert seconds < (600 if width is None else 60)


@WIDTHS
def test_four_slices_in_two_steps_take_less_than_ten_minutes(width):
    seconds, memory = measured("volume", width, r"volume \(1, 1, \d+, \d+, 4\) in 2 steps: ([\d.]+) s")
    assert memory < (21 if width is None else 4)
    assert seconds < (600 if width is None else 60)
