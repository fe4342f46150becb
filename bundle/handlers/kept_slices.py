"""The middle slice of one knee of each grade, kept for pictures that compare models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys

from bundle.handlers.knee_images import entry, kept_slice, knee_items, unit_volume
from bundle.handlers.scores import Knee
from bundle.keys import PRED
from bundle.metrics.volume_metric import check_data_range, lowest_intensity
from bundle.reports.kept import GRADES, MIDDLE, SLICES_FILE, KeptSlice, grade_label, write_kept


class KeepSlices:
    """Write `slices.npz`: of each grade the first knee by name, so that evaluations of one split keep the same knees.

    Args:
        output_dir: the evaluation's folder.
        methods: keys of the volumes that are kept beside film and real volume.
        grades: Kellgren-Lawrence grades; one that no knee has is absent.
        data_range: width of the volumes' intensity range.
        lo: lowest intensity; None is -1 for range 2 and 0 for range 1.
        real: key of the real volume.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        methods: Sequence[str] = (PRED,),
        grades: Sequence[int] = GRADES,
        data_range: float = 2.0,
        lo: float | None = None,
        real: str = CommonKeys.LABEL,
    ) -> None:
        self.path = Path(output_dir) / SLICES_FILE
        self.methods, self.grades, self.real = tuple(methods), tuple(grades), real
        self.data_range = check_data_range(data_range)
        self.lo = lowest_intensity(self.data_range, lo)
        self._kept: dict[int, KeptSlice] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda _: self._kept.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        for item in knee_items(engine):
            knee = Knee.of(item)
            grade = knee.kl_grade
            if grade not in self.grades:
                continue
            if grade not in self._kept or (knee.participant, knee.side, knee.visit) < self._kept[grade].knee:
                self._kept[grade] = self._slice(item)

    def _slice(self, item: dict[str, Any]) -> KeptSlice:
        real = entry(item, self.real)
        return kept_slice(
            item,
            {name: self._unit(entry(item, name)) for name in self.methods},
            real=self._unit(real),
            index=round(MIDDLE * (real.shape[-1] - 1)),
        )

    def _unit(self, volume: Any) -> Any:
        return unit_volume(volume, lo=self.lo, data_range=self.data_range)

    def _write(self, _: Engine) -> None:
        ranks: Any = idist.all_gather(self._kept) if idist.get_world_size() > 1 else [self._kept]
        if idist.get_rank() != 0:
            return
        found = {g: [kept[g] for kept in ranks if g in kept] for g in self.grades}
        write_kept(self.path, {grade_label(g): min(of, key=lambda s: s.knee) for g, of in found.items() if of})
