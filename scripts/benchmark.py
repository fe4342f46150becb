"""Measure what the parts cost: seconds a knee and core, by stage, and memory; ratios are of one run on one machine."""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from bundle.data.prepare import Options, prepare
from bundle.phantom.anatomy import sample_person
from bundle.phantom.cohort import Recipe, make_cohort
from bundle.phantom.film import SPACINGS, render_film
from bundle.phantom.mri import SIZES, render_labels, render_mri
from bundle.phantom.oai_writer import write_participant
from bundle.phantom.pose import solve_pose

FINDER = Path(__file__).resolve().parents[1] / "models" / "knee_finder.pt"
_STAGES = {
    "read the series": ("oai_dicom", "read_mr_series"),
    "read the film": ("film_files", "read_film"),
    "find and cut the knee": ("knee_roi", "__call__"),
    "resample the series": ("prepare_knee", "resample_series"),
    "write": ("nifti", "write_nifti"),
}
"""Stage to the module and name of the function that is all of it."""
_OAI_KNEES = 2 * 4796


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    phantom = what.add_parser("phantom", help="render and write phantom knees")
    phantom.add_argument("--size", choices=tuple(SIZES), default="demo", help="pixels a side of the MRI")
    phantom.set_defaults(measure=lambda a: measure_phantom(a.knees, a.seed, a.size))
    preparation = what.add_parser("prepare", help="prepare a phantom release")
    preparation.add_argument("--size", type=int, default=256, help="rows and columns of the prepared volumes")
    preparation.set_defaults(measure=lambda a: measure_prepare(a.knees, a.seed, a.size))
    for command in (phantom, preparation):
        command.add_argument("--knees", type=int, default=6, metavar="N", help="how many to measure")
        command.add_argument("--seed", type=int, default=0, metavar="S", help="cohort of the phantom")
    arguments = parser.parse_args()
    if arguments.knees < 1:
        parser.error(f"--knees must be 1 or more, got {arguments.knees}.")
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {cores} cores, torch {torch.__version__}, one thread")
    arguments.measure(arguments)
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")
    return 0


def processor() -> str:
    """Name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def measure_phantom(knees: int, seed: int, size: str) -> None:
    """Print CPU seconds a knee of each stage of the phantom; the first person warms up and does not count."""
    spent = dict.fromkeys(("pose, both scans", "film, a knee", "MRI", "labels", "write, a participant"), 0.0)

    def timed(stage: str, work: Callable, share: float = 1.0):
        began = time.process_time()
        result = work()
        spent[stage] += (time.process_time() - began) * share
        return result

    with tempfile.TemporaryDirectory() as folder:
        for index in range(knees + 1):
            if index == 1:
                spent = dict.fromkeys(spent, 0.0)
            person = sample_person(seed, index)
            supine = timed("pose, both scans", lambda p=person: solve_pose(p.knees["R"], "mri"))
            standing = {
                side: timed("pose, both scans", lambda k=knee: solve_pose(k, "film"), 0.5)
                for side, knee in person.knees.items()
            }
            film, spacing = timed(
                "film, a knee", lambda p=person, h=standing: render_film(p, spacing_mm=SPACINGS[size], posed=h), 0.5
            )
            mri, affine = timed("MRI", lambda p=person, h=supine: render_mri(p, "R", size=SIZES[size], posed=h))
            timed("labels", lambda h=supine: render_labels(h, size=SIZES[size]))
            home = Path(folder, str(index))
            timed(
                "write, a participant",
                lambda h=home, p=person, f=film, s=spacing, m=mri, a=affine: write_participant(h, p, f, s, m, a),
            )
    print(f"phantom at size {size}: CPU seconds, mean of {knees}")
    for stage, seconds in spent.items():
        print(f"  {stage:22s} {seconds / knees:6.2f}")
    print(f"  {'film and MRI, a knee':22s} {(sum(spent[s] for s in list(spent)[:3])) / knees:6.2f}")


def measure_prepare(knees: int, seed: int, size: int) -> None:
    """Print knees a second and core of the preparation, the share of each stage, and hours for the whole of OAI."""
    with tempfile.TemporaryDirectory() as folder:
        oai, out = Path(folder, "oai"), Path(folder, "prepared")
        make_cohort(oai, Recipe(seed), participants=knees)
        profile = cProfile.Profile()
        began = time.perf_counter()
        report = profile.runcall(prepare, oai, out, Options(image_size=size), workers=1, finder=FINDER, say=lambda _: None)
        seconds = time.perf_counter() - began
    done = report["counts"]["prepared"]
    # Rows of (file, line, function): (calls, primitive calls, own seconds, seconds with callees, callers).
    rows = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    print(f"prepare at {size} x {size} x 50: {done} knees, {done / seconds:.2f} knees a second and core")
    for stage, name in _STAGES.items():
        spent = sum(row[3] for (file, _, function), row in rows.items() if (Path(file).stem, function) == name)
        print(f"  {stage:22s} {100 * spent / seconds:5.1f} %")
    print(f"  {_OAI_KNEES} knees on 16 cores: {_OAI_KNEES * seconds / done / 16 / 3600:.1f} hours")


if __name__ == "__main__":
    sys.exit(main())
