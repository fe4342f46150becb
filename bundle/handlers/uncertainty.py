"""Spread, coverage, ranks and CRPS skill of samples, by tissue and for scalars, as tables of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from torch import Tensor

from bundle.handlers.scores import Knee
from bundle.handlers.sections import (
    Cell,
    Section,
    SectionHandler,
    array_at,
    known_methods,
    labels_at,
    limits,
    number,
    plain_array,
    samples_at,
)
from bundle.keys import MRI
from bundle.metrics.bootstrap import column_mean, ratio_of_means
from bundle.metrics.ensembles import (
    LEVELS,
    covered,
    fair_crps,
    rank_histogram,
    reachable_level,
    reliability_index,
    spread_and_error,
)
from bundle.metrics.regions import FOREGROUND, TISSUES, region_masks

Scalar = Callable[[Tensor], float]


class UncertaintyHandler(SectionHandler):
    """Does it know what it does not know: sections `uncertainty` and `rank_histograms`.

    Args:
        samples: key of samples, (K, 1, H, W, S), K of 2 or more, to their name on the page; one that no knee has makes
            no row.
        training: the training set, a sequence of items with `mri` (1, H, W, S), whose volumes are the climatology.
        climatology: at most so many of them, drawn by `seed`; they stay in memory.
        tissues: name to the values in `labels`.
        threshold: what lies above it in the climatology's mean is foreground.
        stride: of each three axes every so manieth voxel is looked at: neighbours say the same.
        scalars: name to a function of a volume (1, H, W, S), such as a joint space width; NaN where there is none.
        labels: key of the labels, (1, H, W, S); a knee without them has foreground alone.
        real, resamples, interval, seed: see `SectionHandler`.
    """

    def __init__(
        self,
        samples: Mapping[str, str],
        *,
        training: Sequence[Mapping[str, Any]],
        climatology: int = 24,
        tissues: Mapping[str, Sequence[int]] = TISSUES,
        threshold: float = FOREGROUND,
        stride: int = 2,
        scalars: Mapping[str, Scalar] | None = None,
        labels: str = "labels",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if climatology < 2 or stride < 1:
            raise ValueError(f"`climatology` must be 2 or more and `stride` positive, got {climatology} and {stride}.")
        self.samples, self.training, self.climatology = dict(samples), training, climatology
        self.tissues, self.threshold, self.stride = dict(tissues), threshold, stride
        self.scalars, self.labels = dict(scalars or {}), labels
        self._everyone = np.empty(0)
        self._everyones: dict[str, np.ndarray] = {}

    def _start(self, engine: Engine) -> None:
        """Read the climatology too."""
        super()._start(engine)
        total = len(self.training)
        if total < 2:
            raise ValueError(f"`training` must hold two volumes or more for a climatology, got {total}.")
        chosen = np.random.default_rng(self.seed).permutation(total)[: self.climatology]
        volumes, scalars = [], []
        for index in sorted(int(place) for place in chosen):
            volume = self.training[index][MRI]
            volumes.append(self._thin(plain_array(volume)[0]))
            scalars.append([float(function(volume)) for function in self.scalars.values()])
        self._everyone = np.stack(volumes)
        self._everyones = dict(zip(self.scalars, np.array(scalars, dtype=float).T, strict=True))

    def _thin(self, volume: np.ndarray) -> np.ndarray:
        """The looked-at voxels of (..., H, W, S), as a copy."""
        step = slice(None, None, self.stride)
        return volume[..., step, step, step].copy()

    def note(self, item: Mapping[str, Any], knee: Knee) -> dict[str, Any]:
        """Sums of one knee by region and scalar, for each kind of samples."""
        real, labels = array_at(item, self.real), labels_at(item, self.labels)
        masks = region_masks(
            self._everyone.mean(0),
            None if labels is None else self._thin(labels),
            tissues=self.tissues,
            threshold=self.threshold,
        )
        record: dict[str, Any] = {" knee": knee}
        for key in self.samples:
            if item.get(key) is None:
                continue
            samples = samples_at(item, key)
            thin, truth = self._thin(samples), self._thin(real)
            found = {
                name: _scores(thin[:, mask], truth[mask], self._everyone[:, mask])
                for name, mask in masks.items()
                if mask.any()
            }
            for name, function in self.scalars.items():
                values = np.array([float(function(torch.from_numpy(sample)[None])) for sample in samples])
                value = float(function(torch.from_numpy(real)[None]))
                everyone = self._everyones[name][np.isfinite(self._everyones[name])]
                if np.isfinite(values).all() and np.isfinite(value) and len(everyone) > 1:
                    found[name] = _scores(values[:, None], np.array([value]), everyone[:, None])
            record[key] = found
        return record

    def sections(self, records: Sequence[dict[str, Any]], engine: Engine) -> dict[str, Section]:
        """One row for each kind of samples and region or scalar."""
        rows, histograms, ranks = [], [], 0
        for key, name in known_methods(records, self.samples).items():
            regions_found = list(dict.fromkeys(region for record in records for region in record[key]))
            for region in regions_found:
                have = [record for record in records if region in record[key]]
                who = [record[" knee"].participant for record in have]
                scores = {term: np.array([r[key][region][term] for r in have]) for term in have[0][key][region]}
                rows.append([name, region, len(have), len(records) - len(have), *self._cells(scores, who)])
                shares = scores["ranks"].mean(0)
                histograms.append([name, region, *map(float, shares)])
                ranks = max(ranks, len(shares))
        if not rows:
            return {}
        histograms = [row + [None] * (ranks + 2 - len(row)) for row in histograms]
        convention = {
            "foreground": f"mean of the climatology above {self.threshold:g} in [-1, 1]",
            "tissues": ", ".join(f"{tissue} = labels {list(values)}" for tissue, values in self.tissues.items())
            + "; of the truth, so that not even the oracle's ranks are flat there",
            "voxels": f"every {self.stride}. along each axis",
            "reduction": "mean over a knee's voxels, then over knees that have the region",
            "spread, error": "roots; (K + 1) / K times the variance against the squared error of the samples' mean",
            "coverage": "central intervals at plotting positions r / (K + 1); `at best` is what K samples can reach",
            "CRPS": "fair (Ferro 2014); skill 1 - CRPS / CRPS of the climatology, ratio of means",
            "climatology": f"{len(self._everyone)} training volumes",
            "interval": self.interval_words(),
        }
        return {
            "uncertainty": {
                "title": "Does it know what it does not know?",
                "note": (
                    "Samples of one film against the truth. Spread over error is 1, coverage its level at best and the "
                    "flatness index small for samples that know; skill is 0 for the climatology, 1 for the truth."
                ),
                "columns": [
                    *("method", "of", "knees", "knees without", "samples", "spread", "error"),
                    *limits("spread / error"),
                    *(
                        column
                        for level in LEVELS
                        for column in (*limits(f"covered at {level:.0%}"), f"{level:.0%} at best")
                    ),
                    *("CRPS", "CRPS of climatology"),
                    *limits("CRPS skill"),
                    *("rank flatness index", "outer ranks", "outer ranks if flat"),
                ],
                "rows": rows,
                "convention": convention,
            },
            "rank_histograms": {
                "title": "Rank of the truth among the samples",
                "note": "Share at each rank. Flat is right; a U says too narrow, a hump too wide, a slope biased.",
                "columns": ["method", "of", *(f"rank {rank + 1}" for rank in range(ranks))],
                "rows": histograms,
                "convention": {name: convention[name] for name in ("foreground", "voxels", "reduction")},
            },
        }

    def _cells(self, scores: Mapping[str, np.ndarray], who: Sequence[str]) -> list[Cell]:
        count = scores["ranks"].shape[1] - 1
        pair = np.stack([scores["spread"], scores["error"]], 1)
        cells: list[Cell] = [count, *(float(np.sqrt(value)) for value in pair.mean(0))]
        cells += self.with_interval(pair, who, lambda values: ratio_of_means(values) ** 0.5)
        for level in LEVELS:
            cells += [*self.with_interval(scores[f"{level}"], who), reachable_level(level, count)]
        crps = np.stack([scores["crps"], scores["climatology"]], 1)
        cells += [float(value) for value in crps.mean(0)]
        cells += self.with_interval(crps, who, lambda values: 1 - ratio_of_means(values))
        shares = scores["ranks"].mean(0)
        outer = float(shares[0] + shares[-1])
        return [*cells, number(reliability_index(shares)), outer, 2 / (count + 1)]


def _scores(samples: np.ndarray, truth: np.ndarray, everyone: np.ndarray) -> dict[str, Any]:
    """Means over one knee's values: samples (K, N), truth (N,), climatology (M, N)."""
    spread, error = spread_and_error(samples, truth)
    return {
        "spread": float(spread.mean()),
        "error": float(error.mean()),
        **{f"{level}": float(covered(samples, truth, level=level).mean()) for level in LEVELS},
        "crps": column_mean(fair_crps(samples, truth)),
        "climatology": column_mean(fair_crps(everyone, truth)),
        "ranks": rank_histogram(samples, truth) / truth.size,
    }
