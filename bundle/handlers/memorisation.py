"""Distance of generated volumes to training and to held-out volumes, as a table of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine

from bundle.handlers.scores import Knee
from bundle.handlers.sections import Section, SectionHandler, known_methods, limits, volume_at
from bundle.keys import MRI, PARTICIPANT
from bundle.metrics.bootstrap import ratio_of_means
from bundle.metrics.memorisation import compare_nearest
from bundle.metrics.vectors import VECTOR_SHAPE, pairwise_rmse, volume_vector

REAL_ROW = "Real volumes (what no copying gives)"


class MemorisationHandler(SectionHandler):
    """Does it copy: section `memorisation`. The held-out volumes are the evaluation's own, of other participants.

    Args:
        methods: key of a volume to its name on the page; one that no knee has makes no row.
        training: the training set, items with `mri` (1, H, W, S) and `participant`; read once, at the end.
        shape: cells of the vectors that are compared, see `volume_vector`.
        real, resamples, interval, seed: see `SectionHandler`.
    """

    def __init__(
        self,
        methods: Mapping[str, str],
        *,
        training: Iterable[Mapping[str, Any]],
        shape: Sequence[int] = VECTOR_SHAPE,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.methods, self.training, self.shape = dict(methods), training, tuple(shape)

    def note(self, item: Mapping[str, Any], knee: Knee) -> dict[str, Any]:
        """Vectors of one knee."""
        present = [self.real, *(key for key in self.methods if item.get(key) is not None)]
        return {key: volume_vector(volume_at(item, key), shape=self.shape) for key in present} | {" knee": knee}

    def sections(self, records: Sequence[dict[str, Any]], engine: Engine) -> dict[str, Section]:
        """The table: each method, and the real volumes as a generator that copies nothing."""
        who = [record[" knee"].participant for record in records]
        if len(set(who)) < 2:
            return {}  # no held-out volume of another person
        names, vectors = [], []
        for item in self.training:
            names.append(str(item[PARTICIPANT]))
            vectors.append(volume_vector(item[MRI], shape=self.shape))
        training, real = np.stack(vectors), np.stack([record[self.real] for record in records])
        rows = []
        for key, name in {self.real: REAL_ROW, **known_methods(records, self.methods)}.items():
            generated = np.stack([record[key] for record in records])
            found = compare_nearest(
                pairwise_rmse(generated, training),
                pairwise_rmse(generated, real),
                participants=who,
                training_participants=names,
                held_out_participants=who,
            )
            pair = np.stack([found.training, found.held_out], 1)
            rows.append(
                [
                    *(name, len(records), len(training), float(found.count.mean())),
                    *map(float, pair.mean(0)),
                    *self.with_interval(pair, who, ratio_of_means),
                    *self.with_interval(found.nearer, who),
                    *(int(found.copies.sum()), int(np.isnan(found.first_to_second).sum())),
                ]
            )
        return {
            "memorisation": {
                "title": "Does it copy?",
                "note": (
                    "Distance to the nearest training volume against the nearest held-out volume of another person, at "
                    "equal numbers of both. Without copying the share is 1/2 and the ratio 1; copying lowers the ratio "
                    "and raises the share. A copy is three times nearer to one training volume than to any other "
                    "person's."
                ),
                "columns": [
                    *("method", "volumes", "training volumes", "compared on either side"),
                    *("to training", "to held-out"),
                    *limits("ratio"),
                    *limits("share nearer to training"),
                    *("copies", "without a second participant"),
                ],
                "rows": rows,
                "convention": {
                    "distance": "root mean squared difference, intensities in [-1, 1]",
                    "resolution": f"means over {' x '.join(map(str, self.shape))} cells, float32",
                    "equal numbers": "expectation over all subsamples of the larger side",
                    "copy": "nearest of all training volumes at under 1/3 of the distance to another person's nearest",
                    "interval": self.interval_words(),
                },
            }
        }
