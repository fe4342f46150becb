"""What a table consists of, read from JSON: cohort, rows, sizes, seeds, numbers of knees, tuning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One method of the table.

    Args:
        key: names its folder.
        name: in the table.
        overlays: configurations over train.json and inference.json, as paths below `configs/` without `.json`.
        options: of its training, over the plan's.
        evaluation: options of its evaluation, over the plan's: those of its training that shape the network.
        trained: whether it has weights to train; the others are fitted when an evaluation starts.
        baseline: whether the other rows are tested against it.
    """

    key: str
    name: str
    overlays: Sequence[str] = ()
    options: Options = field(default_factory=dict)
    evaluation: Options = field(default_factory=dict)
    trained: bool = True
    baseline: bool = True


@dataclass(frozen=True)
class Plan:
    """A table.

    Args:
        title: of its page.
        note: what a reader must not conclude from it, at the head of the page.
        cohort: `participants`, `seed` and `size` of the phantom release, and `image_size` of the prepared set.
        rows: its methods.
        sizes: overlays that lie over every row's.
        options: of every training.
        knee_epochs: option that counts epochs to epochs times training knees: fewer knees are seen more often, so that
            every training of an option's stage takes the same number of steps.
        evaluation: options of every evaluation.
        seeds: one training each.
        knees: numbers of training knees, the table's first (None is all), then those of the learning curve.
        tuning: candidates, the same for every trained row: option to its values, tried one training each with the
            first seed and number of knees, and `share`, the part of `knee_epochs` that a trial takes. Empty: none.
        pictured: keys of the rows that the picture of the methods shows, in its order. Empty: all.
    """

    title: str
    note: str
    cohort: Mapping[str, Any]
    rows: Sequence[Row]
    sizes: Sequence[str] = ()
    options: Options = field(default_factory=dict)
    knee_epochs: Mapping[str, int] = field(default_factory=dict)
    evaluation: Options = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    knees: Sequence[int | None] = (None,)
    tuning: Mapping[str, Any] = field(default_factory=dict)
    pictured: Sequence[str] = ()


COHORT = {"participants", "seed", "size", "image_size"}


def read_plan(path: str | Path) -> Plan:
    """Read and check a plan; its `_desc_` is for readers.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, an entry is unknown or missing, or two rows share a key or a name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"plan {path}: no such file; configs/tables/ has some.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"plan {path}: not JSON ({error}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"plan {path}: must be an object.")
    content.pop("_desc_", None)
    rows = content.pop("rows", [])
    plan = _made(Plan, {**content, "rows": [_made(Row, row, f"{path}, a row") for row in rows]}, str(path))
    for what in ("key", "name"):
        values = [getattr(row, what) for row in plan.rows]
        if len(set(values)) < len(values) or not values:
            raise ValueError(f"plan {path}: needs rows, each with a `{what}` of its own; got {values}.")
    if set(plan.cohort) != COHORT:
        raise ValueError(f"plan {path}: `cohort` must have {', '.join(sorted(COHORT))}, got {sorted(plan.cohort)}.")
    unknown = [key for key in plan.pictured if key not in {row.key for row in plan.rows}]
    if unknown:
        raise ValueError(f"plan {path}: `pictured` names {unknown[0]!r}, which is no row's key.")
    if not plan.seeds or not plan.knees:
        raise ValueError(f"plan {path}: `seeds` and `knees` must hold at least one entry each.")
    if plan.tuning and not candidates(plan):
        raise ValueError(f"plan {path}: `tuning` must name an option and its values beside `share`.")
    return plan


def candidates(plan: Plan) -> list[dict[str, Any]]:
    """The options that each trained row tries: one varied at a time, as the plan lists them; none where it has none."""
    return [{name: value} for name, values in plan.tuning.items() if name != "share" for value in values]


def epochs_of(plan: Plan, training_knees: int, *, share: float = 1.0) -> dict[str, int]:
    """Epochs of `knee_epochs` for so many training knees, at least one; validation at the end alone."""
    found = {name: max(1, round(share * total / training_knees)) for name, total in plan.knee_epochs.items()}
    return found | ({"val_interval": found["epochs"]} if "epochs" in found else {})


def autoencoder_epochs_of(plan: Plan, training_knees: int) -> dict[str, int]:
    """Epochs of the autoencoder, where `knee_epochs` has them: rows share it, and no trial takes less of it."""
    return {name: n for name, n in epochs_of(plan, training_knees).items() if name == "autoencoder_epochs"}


def _made(kind: type, content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f"plan {where}: must be an object, got {content!r}.")
    known = {f.name for f in fields(kind)}
    if set(content) - known:
        raise ValueError(
            f"plan {where}: unknown entries {', '.join(sorted(set(content) - known))}; there are {', '.join(known)}."
        )
    try:
        return kind(**content)
    except TypeError as error:
        raise ValueError(f"plan {where}: {error}.") from None
