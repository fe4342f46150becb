"""The commands of a plan: cohort, trainings, evaluations, each with a file that it leaves."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.tables.plan import Plan, Row


@dataclass(frozen=True)
class Step:
    """One command.

    Args:
        name: says what it does; names its record and its log.
        command: words.
        makes: a file that is there when it has ended well.
    """

    name: str
    command: tuple[str, ...]
    makes: Path


@dataclass(frozen=True)
class Case:
    """One training of one row: how often it was seeded, on how many knees.

    Args:
        row: of the plan.
        seed: of its training.
        knees: number of training knees; None is all.
    """

    row: Row
    seed: int
    knees: int | None

    @property
    def label(self) -> str:
        """Path of its folder below `runs`."""
        return f"{self.row.key}/{_knees(self.knees)}/seed_{self.seed}"


def cohort_steps(plan: Plan, out: Path) -> list[Step]:
    """The phantom release and its prepared set."""
    cohort = plan.cohort
    release = ["scripts/make_phantom.py", "--out", str(out / "release")]
    release += [part for name in ("participants", "seed", "size") for part in (f"--{name}", str(cohort[name]))]
    prepare = ["scripts/prepare_data.py", "--oai", str(out / "release"), "--out", str(out / "data")]
    return [
        Step("phantom release", (sys.executable, *release), out / "release" / "phantom.json"),
        Step(
            "prepared set",
            (sys.executable, *prepare, "--size", str(cohort["image_size"])),
            out / "data" / "dataset.json",
        ),
    ]


def data_of(out: Path, knees: int | None) -> Path:
    """Folder of the prepared set with so many training knees."""
    return out / "data" if knees is None else out / f"data_{knees}_knees"


def training_step(plan: Plan, case: Case, out: Path, options: Mapping[str, Any], *, folder: Path, name: str) -> Step:
    """A training; `options` come after the plan's and before the row's own."""
    command = _workflow("training", ["train", *case.row.overlays, *plan.sizes])
    merged = {**plan.options, **options, **case.row.options, "seed": case.seed}
    command += _given({"dataset_dir": data_of(out, case.knees), "output_dir": folder} | merged)
    return Step(name, tuple(command), folder / "model.pt")


def autoencoder_step(plan: Plan, seed: int, knees: int | None, out: Path, epochs: Mapping[str, int]) -> Step:
    """The training of the autoencoder that all rows of a seed and a number of knees share."""
    case = Case(Row("autoencoder", "Autoencoder", options={"stages": "['autoencoder']"}), seed, knees)
    folder = out / "autoencoders" / f"{_knees(knees)}/seed_{seed}"
    return training_step(plan, case, out, epochs, folder=folder, name=f"autoencoder {_knees(knees)} seed_{seed}")


def shared_from(autoencoder: Step, epochs: Mapping[str, int]) -> dict[str, Any]:
    """Options of a training that finds its first stage done, and what all rows encode alike is encoded once."""
    folder = autoencoder.makes.parent
    checkpoints = {"autoencoder_checkpoints#folder": folder / "checkpoints" / "autoencoder"}
    return {**checkpoints, "train#dataset#folder": folder, **epochs}


def evaluation_step(plan: Plan, case: Case, out: Path, *, weights: Path | None, folder: Path, name: str) -> Step:
    """An evaluation on the test split, which is every case's; a row without weights is fitted by it."""
    # A row names its method in the evaluation's list, so it lies over it.
    command = _workflow("evaluation", ["inference", "evaluate", *case.row.overlays, *plan.sizes])
    given: dict[str, Any] = {"dataset_dir": data_of(out, case.knees), "output_dir": folder}
    given |= {} if weights is None else {"weights": weights}
    command += _given({**given, **plan.evaluation, **case.row.evaluation})
    return Step(name, tuple(command), folder / "summary.json")


def _knees(knees: int | None) -> str:
    return f"{'all' if knees is None else knees}_knees"


def _workflow(what: str, configs: Sequence[str]) -> list[str]:
    files = ",".join(f"'configs/{config}.json'" for config in configs)
    return [sys.executable, "-m", "monai.bundle", "run", what, "--config_file", f"[{files}]"]


def _given(options: Mapping[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]
