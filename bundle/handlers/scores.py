"""From the metric handlers' details to rows for a table and a summary of each column."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from bundle.keys import PARTICIPANT, READINGS, SIDE, VISIT
from bundle.readings import kl_grade

REAL = "real"
"""Method name of the real volumes' own scores."""


@dataclass(frozen=True)
class Knee:
    """Which knee a volume shows.

    Args:
        participant: study identifier; side: R or L; visit: such as 00m; kl_grade: 0 to 4, None where missing.
    """

    participant: str
    side: str
    visit: str
    kl_grade: int | None

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Knee:
        """Read it from one decollated batch item.

        Raises:
            ValueError: if participant, side or visit is missing.
        """
        missing = [key for key in (PARTICIPANT, SIDE, VISIT) if key not in item]
        if missing:
            raise ValueError(
                f"the batch lacks {', '.join(f'`{key}`' for key in missing)}, which name a volume in the report; "
                "keep these entries of dataset.json in the datalist."
            )
        participant, side, visit = (str(item[key]) for key in (PARTICIPANT, SIDE, VISIT))
        return cls(participant, side, visit, kl_grade(item.get(READINGS)))


@dataclass(frozen=True)
class ScoreTable:
    """Scores and counts of every method, volume by volume.

    Args:
        knees: the volumes, in the order of the scores.
        scores: method to metric to one float a volume.
        counts: method to metric to one whole number a volume: what scores left out.
    """

    knees: Sequence[Knee]
    scores: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    counts: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, details: Mapping[str, Tensor], *, knees: Sequence[Knee], methods: Sequence[str]) -> ScoreTable:
        """Sort `engine.state.metric_details` by method.

        Args:
            details: `<method>_<metric>` to a tensor of one value a volume; whole numbers are counts.
            knees: the volumes, in the order of the values.
            methods: names of the methods; the real volumes' own scores are named `real_<metric>`.

        Raises:
            ValueError: if an entry has another number of values than there are knees, or a method has no score.
        """
        table = cls(knees)
        for name, values in details.items():
            # The longest name first: `pred_mean_psnr` is of `pred_mean` where there is one, else of `pred`.
            owners = [m for m in sorted((*methods, REAL), key=len, reverse=True) if name.startswith(f"{m}_")]
            if not owners:
                continue
            if values.numel() != len(knees):
                raise ValueError(
                    f"metric `{name}` has {values.numel()} values for {len(knees)} volumes; it must give one a volume."
                )
            column = values.detach().flatten().cpu().numpy()
            kind = table.scores if values.is_floating_point() else table.counts
            kind.setdefault(owners[0], {})[name.removeprefix(f"{owners[0]}_")] = column
        silent = [method for method in methods if method not in table.scores]
        if silent:
            raise ValueError(
                f"no metric is named `{silent[0]}_...`; attach metric handlers under `<method>_<metric>` for each of "
                f"the report's methods ({', '.join(methods)}). There are: {', '.join(details) or 'none'}."
            )
        return table

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in order of appearance."""
        return list(dict.fromkeys(metric for scores in self.scores.values() for metric in scores))

    def to_csv(self) -> str:
        """A row for each volume and method; a cell is empty without such a metric, `nan` where it gave no value."""
        counts = list(dict.fromkeys(name for columns in self.counts.values() for name in columns))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([PARTICIPANT, SIDE, VISIT, "kl_grade", "method", *self.metrics, *counts])
        for index, knee in enumerate(self.knees):
            for method in self.scores:
                scores, left_out = self.scores[method], self.counts.get(method, {})
                writer.writerow(
                    [knee.participant, knee.side, knee.visit, "" if knee.kl_grade is None else knee.kl_grade, method]
                    + [repr(float(scores[name][index])) if name in scores else "" for name in self.metrics]
                    + [int(left_out[name][index]) if name in left_out else "" for name in counts]
                )
        return text.getvalue()

    def summary(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Method to metric to `summarise`."""
        return {
            method: {metric: summarise(values) for metric, values in scores.items()}
            for method, scores in self.scores.items()
        }

    def totals(self) -> dict[str, dict[str, int]]:
        """Method to count to its sum over volumes."""
        return {method: {name: int(v.sum()) for name, v in c.items()} for method, c in self.counts.items()}


def summarise(values: np.ndarray) -> dict[str, Any]:
    """Statistics of the finite values, and how many were not; None stands where there is nothing to compute from.

    `sd` is the sample standard deviation (n - 1); quartiles interpolate linearly.
    """
    finite = values[np.isfinite(values)]
    counts = {"n": len(values), "n_nan": int(np.isnan(values).sum()), "n_infinite": int(np.isinf(values).sum())}
    names = ("mean", "median", "sd", "q25", "q75")
    if not len(finite):
        return counts | dict.fromkeys(names)
    q25, median, q75 = np.quantile(finite, [0.25, 0.5, 0.75])
    spread = float(finite.std(ddof=1)) if len(finite) > 1 else None
    statistics = (float(finite.mean()), float(median), spread, float(q25), float(q75))
    return counts | dict(zip(names, statistics, strict=True))
