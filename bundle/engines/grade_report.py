"""How well a network grades films: AUC and agreement of each variable, for the log and as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers import from_engine
from monai.metrics import compute_roc_auc
from torch import Tensor

from bundle.networks.grade_blocks import log_probabilities
from bundle.writers import whole


class GradeReport:
    """Collect scores and targets of an evaluation; leave `accuracy` and `auc` in its metrics, all else in a file.

    Both are means over the variables that have them: a variable without a known grade has no accuracy, one whose known
    grades are all zero, or all above, has no AUC (grade 0 against any other). Both are counted.

    Args:
        blocks: variable to number of grades.
        path: JSON file; None writes none.
    """

    def __init__(self, blocks: Mapping[str, int], path: str | None = None) -> None:
        self.blocks, self.path = dict(blocks), None if path is None else Path(path)
        self.scores: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.take = from_engine(["pred", "label"])

    def attach(self, evaluator: Engine) -> None:
        """Attach to an evaluator whose output has `pred` (outputs,) and `label` (outputs,) a knee."""
        evaluator.add_event_handler(Events.STARTED, self.start)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        evaluator.add_event_handler(Events.COMPLETED, self.write)

    def start(self, _: Engine) -> None:
        """Forget what was collected."""
        self.scores, self.targets = [], []

    def add(self, evaluator: Engine) -> None:
        """Collect a batch."""
        scores, targets = self.take(evaluator.state.output)
        self.scores += [score.detach().cpu() for score in scores]
        self.targets += [target.detach().cpu() for target in targets]

    def write(self, evaluator: Engine) -> None:
        """Score all knees."""
        rows = agreement(torch.stack(self.scores), torch.stack(self.targets), self.blocks)
        for name in ("accuracy", "auc"):
            found = [row[name] for row in rows.values() if row[name] is not None]
            evaluator.state.metrics[name] = sum(found) / len(found) if found else float("nan")
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = {"knees": len(self.scores), "variables": rows}
            with whole(self.path) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n")
            print(self.path)


def agreement(scores: Tensor, targets: Tensor, blocks: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Agreement of the most likely grade with the known one, a variable.

    Args:
        scores: (N, sum of grades).
        targets: the same shape; zeros where a grade is missing. A fractional grade counts as its nearer neighbour.
        blocks: variable to number of grades.

    Returns:
        variable to `known` and `missing` (counts of knees), `grades` (knees of each grade), `accuracy`,
        `sensitivity` and `specificity` (of a grade above 0, at the most likely grade), `mean_error` (grades, absolute),
        `auc` (of the probability of a grade above 0); None where there is nothing to take it from.
    """
    rows: dict[str, dict[str, Any]] = {}
    parts = targets.split(tuple(blocks.values()), dim=1)
    for (name, log), wanted in zip(log_probabilities(scores.float(), blocks).items(), parts, strict=True):
        known = wanted.sum(dim=1) > 0
        truth, answer, any_grade = (wanted[known].argmax(dim=1), log[known].argmax(dim=1), 1 - log[known][:, 0].exp())
        positive = truth > 0
        both = bool(positive.any()) and not bool(positive.all())
        rows[name] = {
            "known": int(known.sum()),
            "missing": int((~known).sum()),
            "grades": [int((truth == grade).sum()) for grade in range(blocks[name])],
            "accuracy": _mean(answer == truth),
            "sensitivity": _mean(answer[positive] > 0),
            "specificity": _mean(answer[~positive] == 0),
            "mean_error": _mean((answer - truth).abs()),
            "auc": float(compute_roc_auc(any_grade, positive.float())) if both else None,
        }
    return rows


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None
