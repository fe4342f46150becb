"""The benchmark command says what it measured."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments):
    command = [sys.executable, "scripts/benchmark.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_preparation_s_stages_are_found_and_add_up_to_no_more_than_the_whole():
    """Each stage is looked up by its function's name: one that is renamed would show as 0."""
    done = run("prepare", "--knees", "1", "--size", "64")
    assert done.returncode == 0, done.stderr
    assert "1 knees" in done.stdout
    shares = [float(share) for share in re.findall(r"([\d.]+) %", done.stdout)]
    assert len(shares) == 5
    assert min(shares) > 0
    assert sum(shares) <= 100


def test_phantom_s_stages_are_timed():
    done = run("phantom", "--knees", "1", "--size", "test")
    assert done.returncode == 0, done.stderr
    seconds = [float(value) for value in re.findall(r"  ([\d.]+)\n", done.stdout)]
    assert len(seconds) == 6
    assert max(seconds) > 0.02


def test_service_is_measured_as_processes_of_their_own():
    done = run("service", "--films", "1", "--only", "the posterior mean")
    assert done.returncode == 0, done.stderr
    seconds, peak = map(float, re.search(r"the posterior mean +([\d.]+) +([\d.]+)", done.stdout).groups())
    assert seconds > 1
    assert 0.5 < peak < 3, "GB, and not the pages or kilobytes of the system"


def test_model_is_measured_beside_plain_loops_and_the_same_network_of_diffusers():
    done = run("model", "--slices", "2", "--steps", "1", "--batch", "2", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    ours, theirs = re.search(r"without the heads ([\d,]+), diffusers' ([\d,]+)", done.stdout).groups()
    assert ours == theirs
    seconds = [float(value) for value in re.findall(r"([\d.]+) s ", done.stdout)]
    assert len(seconds) == 10
    assert min(seconds) > 0
    assert "slices that see each other" in done.stdout


def test_slices_that_see_each_other_are_not_compared_to_loops_over_slices():
    done = run("model", "--overlays", "smoke")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: --overlays")


def test_no_knee_is_an_error():
    done = run("phantom", "--knees", "0")
    assert done.returncode == 2
    assert "--knees must be 1 or more, got 0" in done.stderr
