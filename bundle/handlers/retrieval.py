"""Retrieval of a film's own volume among those of the test set, as a table of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import Tensor

from bundle.geometry import Grid
from bundle.handlers.scores import Knee
from bundle.handlers.sections import Cell, Section, SectionHandler, known_methods, labels_at, limits, volume_at
from bundle.metrics.retrieval import Retrieval, bone_width_mm, matched_distractors, residual_correlation, retrieve
from bundle.metrics.vectors import VECTOR_SHAPE, volume_vector


class RetrievalHandler(SectionHandler):
    """Does it carry the patient: section `retrieval`.

    Args:
        methods: key of a volume to its name on the page; one that no knee has makes no row.
        mean: key of the mean training volume, which every residual is against.
        shape: cells of the vectors that are compared, see `volume_vector`.
        distractors: at most so many matched ones a film.
        size: entry with the body mass index or another size, for matching where there are no labels.
        labels: key of the labels, whose bone width is the size where every knee has them.
        real, resamples, interval, seed: see `SectionHandler`.
    """

    def __init__(
        self,
        methods: Mapping[str, str],
        *,
        mean: str = "mean_volume",
        shape: Sequence[int] = VECTOR_SHAPE,
        distractors: int = 10,
        size: str = "bmi",
        labels: str = "labels",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.methods, self.mean, self.shape = dict(methods), mean, tuple(shape)
        self.distractors, self.size, self.labels = distractors, size, labels

    def note(self, item: Mapping[str, Any], knee: Knee) -> dict[str, Any]:
        """Residual vectors of one knee, and what it is matched by."""
        real, mean = volume_at(item, self.real), volume_vector(volume_at(item, self.mean), shape=self.shape)

        def residual(volume: Tensor) -> np.ndarray:
            return volume_vector(volume, shape=self.shape) - mean

        record: dict[str, Any] = {
            key: residual(volume_at(item, key)) for key in self.methods if item.get(key) is not None
        }
        labels, size = labels_at(item, self.labels), item.get(self.size)
        return record | {
            " real": residual(real),
            " knee": knee,
            " sex": str(item.get("sex") or ""),
            " size": math.nan if size is None else float(size),
            " width": None if labels is None else bone_width_mm(labels, column_mm=_column_mm(real)),
        }

    def sections(self, records: Sequence[dict[str, Any]], engine: Engine) -> dict[str, Section]:
        """The table: each method among all test volumes, then among matched distractors."""
        knees = [record[" knee"] for record in records]
        participants = [knee.participant for knee in knees]
        by_labels = all(record[" width"] is not None for record in records)
        matched = matched_distractors(
            participants=participants,
            sexes=[record[" sex"] for record in records],
            grades=[knee.kl_grade for knee in knees],
            sizes=[record[" width" if by_labels else " size"] for record in records],
            count=self.distractors,
        )
        have = np.array([len(others) > 0 for others in matched])
        real = np.stack([record[" real"] for record in records])
        own, rows = range(len(records)), []
        for key, name in known_methods(records, self.methods).items():
            similarity = residual_correlation(np.stack([record[key] for record in records]), real)
            everyone = np.ones(len(records), dtype=bool)
            for words, kept, distractors in (("all test volumes", everyone, None), ("matched", have, matched)):
                found = retrieve(similarity, own, distractors)
                rows.append([name, words, *self._cells(found, kept, participants, np.isnan(similarity[:, 0]))])
        measure = "bone width of femur and tibia" if by_labels else f"`{self.size}`"
        return {
            "retrieval": {
                "title": "Does it carry the patient?",
                "note": (
                    "Rank of a film's own real volume by correlation with the generated one, the mean training volume "
                    "taken off both. AUC 0.5 is chance; films without a matched distractor are not among the matched "
                    "rows' films."
                ),
                "columns": [
                    *("method", "candidates", "films", "mean candidates", "chance top-1", "chance top-5"),
                    *(column for name in ("top-1", "top-5", "mean rank", "AUC") for column in limits(name)),
                    "films with no residual",
                ],
                "rows": rows,
                "convention": {
                    "similarity": "Pearson r of residuals (volume minus mean training volume)",
                    "resolution": f"means over {' x '.join(map(str, self.shape))} cells, float32",
                    "ties": "in random order, in expectation; a film whose volume has no residual ties with all",
                    "all test volumes": "the other knee of the same participant is a candidate",
                    "matched": f"other participants, same sex, same KL, up to {self.distractors} nearest in {measure}",
                    "interval": self.interval_words(),
                },
            }
        }

    def _cells(
        self, found: Retrieval, kept: np.ndarray, participants: Sequence[str], without: np.ndarray
    ) -> list[Cell]:
        who = [one for one, keep in zip(participants, kept, strict=True) if keep]
        if not who:
            return [0, *[None] * 15, 0]
        candidates = found.candidates[kept]
        cells: list[Cell] = [len(who), float(candidates.mean())]
        cells += [float(np.minimum(1, k / candidates).mean()) for k in (1, 5)]
        for values in (found.top(1), found.top(5), found.rank, found.auc):
            cells += self.with_interval(values[kept], who)
        return [*cells, int(without[kept].sum())]


def _column_mm(volume: Tensor) -> float:
    if isinstance(volume, MetaTensor):
        return float(volume.affine[:3, 1].norm())
    return Grid.of(image_size=volume.shape[1], slices=volume.shape[3]).spacing_mm
