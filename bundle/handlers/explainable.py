"""How much of what can be known a model has found, as tables of the report; both need the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine

from bundle.handlers.scores import Knee
from bundle.handlers.sections import (
    Section,
    SectionHandler,
    array_at,
    known_methods,
    labels_at,
    limits,
    number,
    samples_at,
)
from bundle.metrics.explainable import explainable_share, mean_squared_error, share_above_floor
from bundle.metrics.regions import FOREGROUND, TISSUES, region_masks


class ExplainableShareHandler(SectionHandler):
    """Section `explainable`: squared error between the mean volume's and the oracle's; absent without an oracle.

    Args:
        methods: key of samples (K, 1, H, W, S), or of a point estimate (1, H, W, S), to its name on the page.
        oracle: key of the oracle's samples, (K, 1, H, W, S), K of 2 or more.
        mean: key of the mean training volume.
        given: what the oracle knows, for the page: it must be what the model is given.
        tissues, threshold: see `UncertaintyHandler`.
        labels: key of the labels; a knee without them has foreground alone.
        real, resamples, interval, seed: see `SectionHandler`.
    """

    def __init__(
        self,
        methods: Mapping[str, str],
        *,
        oracle: str = "oracle_samples",
        mean: str = "mean_volume",
        given: str = "film",
        tissues: Mapping[str, Sequence[int]] = TISSUES,
        threshold: float = FOREGROUND,
        labels: str = "labels",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.methods, self.oracle, self.mean, self.given = dict(methods), oracle, mean, given
        self.tissues, self.threshold, self.labels = dict(tissues), threshold, labels

    def note(self, item: Mapping[str, Any], knee: Knee) -> dict[str, Any]:
        """Errors of one knee by region: mean volume, model, oracle; then model and oracle at equal K, uncorrected."""
        record: dict[str, Any] = {" knee": knee}
        if item.get(self.oracle) is None:
            return record
        real, oracle, mean = array_at(item, self.real), samples_at(item, self.oracle), array_at(item, self.mean)
        if len(oracle) < 2:
            raise ValueError(
                f"`{self.oracle}` must hold 2 samples or more, got {len(oracle)}; make_phantom --posterior."
            )
        masks = region_masks(mean, labels_at(item, self.labels), tissues=self.tissues, threshold=self.threshold)
        for key in self.methods:
            if item.get(key) is None:
                continue
            samples = samples_at(item, key)
            equal = min(len(samples), len(oracle))
            record[key] = {"K": (len(samples), len(oracle), equal)}
            for name, mask in masks.items():
                if not mask.any():
                    continue
                ours, theirs, truth = samples[:, mask], oracle[:, mask], real[mask]
                record[key][name] = (
                    mean_squared_error(mean[mask][None], truth),
                    mean_squared_error(ours, truth),
                    mean_squared_error(theirs, truth),
                    mean_squared_error(ours[:equal], truth, corrected=False),
                    mean_squared_error(theirs[:equal], truth, corrected=False),
                )
        return record

    def sections(self, records: Sequence[dict[str, Any]], engine: Engine) -> dict[str, Section]:
        """One row for each method and region."""
        rows = []
        for key, name in known_methods(records, self.methods).items():
            count, oracle_count, equal = records[0][key]["K"]
            for region in [
                region for region in dict.fromkeys(r for record in records for r in record[key]) if region != "K"
            ]:
                have = [record for record in records if region in record[key]]
                who = [record[" knee"].participant for record in have]
                errors = np.array([record[key][region] for record in have])
                at_equal = explainable_share(errors[:, [0, 3, 4]]) if equal > 1 else np.nan
                rows.append(
                    [
                        *(name, region, len(have), count, oracle_count),
                        *map(float, errors[:, :3].mean(0)),
                        *self.with_interval(errors[:, :3], who, explainable_share),
                        *(equal if equal > 1 else None, number(at_equal)),
                    ]
                )
        if not rows:
            return {}
        return {
            "explainable": {
                "title": "How much of what can be known?",
                "note": (
                    f"(MSE of mean volume - MSE of model) / (MSE of mean volume - MSE of oracle). The oracle knows "
                    f"{self.given} and how knees are made, and nothing else. 1 is all that can be known."
                ),
                "columns": [
                    *("method", "of", "knees", "samples", "oracle's samples"),
                    *("MSE of mean volume", "MSE of model", "MSE of oracle"),
                    *limits("share"),
                    *("equal K", "share at equal K"),
                ],
                "rows": rows,
                "convention": {
                    "MSE": "of the samples' mean; s^2 / K taken off, s^2 the samples' variance; intensities in [-1, 1]",
                    "reduction": "mean over a knee's voxels, then over knees, then the ratio",
                    "one sample": "a point estimate: nothing is taken off, and no share at equal K",
                    "at equal K": "nothing taken off: so many samples of the model, as many of the oracle",
                    "foreground": f"mean volume above {self.threshold:g} in [-1, 1]",
                    "interval": self.interval_words(),
                },
            }
        }


class FloorShareHandler(SectionHandler):
    """Section `above_floor`: where the model stands between another person's knee and the oracle, by any metric.

    For metrics without a correction for the number of samples: floor, model and oracle must each be the mean of equally
    many volumes. Reads the scores that metric handlers leave under `<method>_<metric>`.

    Args:
        methods: keys that metrics are attached to, to their names on the page.
        metrics: names of metrics, such as `ssim`.
        oracle, floor: keys of the oracle and of the other person's knee.
        samples: how many volumes each is the mean of, for the page.
        real, resamples, interval, seed: see `SectionHandler`.
    """

    def __init__(
        self,
        methods: Mapping[str, str],
        *,
        metrics: Sequence[str],
        oracle: str = "oracle",
        floor: str = "other_knee",
        samples: int,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.methods, self.metrics, self.oracle, self.floor = dict(methods), tuple(metrics), oracle, floor
        self.samples = samples

    def note(self, item: Mapping[str, Any], knee: Knee) -> str:
        """Whose knee it is."""
        return knee.participant

    def sections(self, records: Sequence[str], engine: Engine) -> dict[str, Section]:
        """One row for each method and metric that has all three scores."""
        state: Any = engine.state
        details = {
            name: values.detach().cpu().double().numpy().ravel()
            for name, values in getattr(state, "metric_details", {}).items()
        }
        rows = []
        for metric in self.metrics:
            for key, name in self.methods.items():
                names = [f"{method}_{metric}" for method in (self.floor, key, self.oracle)]
                if not all(one in details for one in names):
                    continue
                scores = np.stack([details[one] for one in names], 1)
                finite = np.isfinite(scores).all(1)
                who = [one for one, keep in zip(records, finite, strict=True) if keep]
                cells: list[str | float | int | None] = [None] * 6
                if who:
                    cells = [*map(float, scores[finite].mean(0))]
                    cells += self.with_interval(scores[finite], who, share_above_floor)
                rows.append([name, metric, len(who), int((~finite).sum()), *cells])
        if not rows:
            return {}
        return {
            "above_floor": {
                "title": "Between another person's knee and the oracle",
                "note": f"(model - floor) / (oracle - floor), each the mean of {self.samples} volumes.",
                "columns": [
                    *("method", "metric", "knees", "knees without a score", "other person's knee", "model", "oracle"),
                    *limits("share"),
                ],
                "rows": rows,
                "convention": {"reduction": "means over knees before the ratio", "interval": self.interval_words()},
            }
        }
