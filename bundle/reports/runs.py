"""An evaluation's folder read back: the scores of every knee and what they were computed under."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

IDENTITY = ("participant", "side", "visit", "kl_grade", "method")
"""Columns of metrics.csv that come before the scores."""
MODEL = "pred"
"""Method of a run's own model."""

KneeKey = tuple[str, str, str]


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Args:
        folder: where it lies.
        summary: its summary.json.
        grades: knee (participant, side, visit) to its Kellgren-Lawrence grade or None, in the order of the file.
        scores: method to metric to one float a knee, in the order of `grades`; NaN where there is none.
    """

    folder: Path
    summary: Mapping[str, Any]
    grades: Mapping[KneeKey, int | None]
    scores: Mapping[str, Mapping[str, np.ndarray]]

    def name_of(self, method: str) -> str:
        """A method's name on pages."""
        return "Real volumes" if method == "real" else str(self.summary["methods"].get(method, method))


def read_run(folder: str | Path) -> Run:
    """Read `metrics.csv` and `summary.json`.

    Raises:
        FileNotFoundError: if folder or a file is absent.
        ValueError: if a file is not what an evaluation writes.
    """
    folder = Path(folder)
    for name in ("metrics.csv", "summary.json"):
        if not (folder / name).is_file():
            what = f"no {name} in it" if folder.is_dir() else "no such folder"
            raise FileNotFoundError(f"run {folder}: {what}; name a folder that an evaluation wrote.")
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        metrics = {metric for of in summary["metrics"].values() for metric in of}
        if not isinstance(summary["methods"], dict) or "conventions" not in summary:
            raise KeyError("conventions")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{folder / 'summary.json'}: not an evaluation's summary ({error!r}); evaluate again."
        ) from None
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple((reader.fieldnames or ())[: len(IDENTITY)]) != IDENTITY:
            raise ValueError(f"{folder / 'metrics.csv'}: must begin with the columns {', '.join(IDENTITY)}.")
        rows = list(reader)
    grades, by_method = _sorted(rows, folder / "metrics.csv")
    scores = {
        method: {
            metric: np.array([_score(of[knee].get(metric), folder) for knee in grades])
            for metric in summary["metrics"].get(method, {})
        }
        for method, of in by_method.items()
    }
    if MODEL not in scores or not metrics:
        raise ValueError(f"run {folder}: has no scores of the method `{MODEL}`; evaluate a model.")
    return Run(folder, summary, grades, scores)


def _sorted(
    rows: list[dict[str, str]], path: Path
) -> tuple[dict[KneeKey, int | None], dict[str, dict[KneeKey, dict[str, str]]]]:
    """Knees with their grades, and each method's line of each knee."""
    grades: dict[KneeKey, int | None] = {}
    by_method: dict[str, dict[KneeKey, dict[str, str]]] = {}
    for row in rows:
        knee = (row["participant"], row["side"], row["visit"])
        grades[knee] = int(row["kl_grade"]) if row["kl_grade"] else None
        if by_method.setdefault(row["method"], {}).setdefault(knee, row) is not row:
            raise ValueError(f"{path}: knee {' '.join(knee)} occurs twice for `{row['method']}`.")
    for method, of in by_method.items():
        if len(of) != len(grades):
            raise ValueError(f"{path}: `{method}` has {len(of)} of {len(grades)} knees; evaluate again.")
    if not grades:
        raise ValueError(f"{path}: holds no knee.")
    return grades, by_method


def _score(text: str | None, folder: Path) -> float:
    if not text:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{folder / 'metrics.csv'}: {text!r} is not a score.") from None
