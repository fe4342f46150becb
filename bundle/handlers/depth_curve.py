"""The paper's curve of slice correlation over the number of slices, as a section of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import nn

from bundle.handlers.structure import voxel_edges
from bundle.keys import FILM, READINGS
from bundle.metrics.depth_curve import PUBLISHED_COUNTS, correlation_at, slice_count_curve

KEYS = ("slices", "spacing_mm", "adjacent", "equal")


class SliceCountCurve:
    """Synthesise the first knees with ever more slices, and leave the curve in `engine.state.report_sections`.

    Args:
        network: called as the model is, `network(film, readings, slices=n, seed=seed)`; film (1, 1, H, W).
        counts: numbers of slices.
        knees: how many, the first of the data; 0 leaves the section out. Each costs a synthesis per count.
        seed: of the noise.
        real: key of the real volume; all are compared at the largest slice distance among them.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        counts: Sequence[int] = PUBLISHED_COUNTS,
        knees: int = 2,
        seed: int = 0,
        real: str = CommonKeys.LABEL,
    ) -> None:
        if knees < 0 or not counts or min(counts) < 2:
            raise ValueError(f"`knees` must not be negative and `counts` at least 2 each, got {knees}, {list(counts)}.")
        self.network, self.counts, self.knees, self.seed, self.real = network, tuple(counts), knees, seed, real
        self._curves: list[list[dict[str, float]]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to `engine`, before `EvaluationReport`."""
        engine.add_event_handler(Events.STARTED, self._curves.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    @torch.no_grad()
    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):  # type: ignore[arg-type]
            if len(self._curves) >= self.knees:
                return
            self._curves.append(self._curve({**item, **{k: v for k, v in output.items() if v is not None}}))

    def _curve(self, item: Mapping[str, Any]) -> list[dict[str, float]]:
        real = item[self.real]
        pitch, slices = voxel_edges(real)[2], real.shape[-1]
        readings = item.get(READINGS)
        vector = readings[None].to(real.device) if isinstance(readings, torch.Tensor) else None

        def synthesise(count: int) -> torch.Tensor:
            volume = self.network(item[FILM][None].to(real.device), vector, slices=count, seed=self.seed)
            return torch.as_tensor(volume).as_subclass(torch.Tensor).float().cpu()

        depth = pitch * (slices - 1)
        distance = max(pitch, depth / (min(self.counts) - 1))  # the coarsest volume has no smaller one
        rows = slice_count_curve(synthesise, depth_mm=depth, distance_mm=distance, counts=self.counts)
        volume = torch.as_tensor(real).as_subclass(torch.Tensor).float().cpu()[0]
        ends = (correlation_at(volume, slice_spacing_mm=pitch, distance_mm=at) for at in (pitch, distance))
        own = dict(zip(("adjacent", "equal"), ends, strict=True))
        return [*rows, {"slices": slices, "spacing_mm": pitch, **own}]

    def _write(self, engine: Engine) -> None:
        ranks: Any = idist.all_gather(self._curves) if idist.get_world_size() > 1 else [self._curves]
        curves = [curve for rank in ranks for curve in rank]
        if not curves:
            return
        state: Any = engine.state
        if not hasattr(state, "report_sections"):
            state.report_sections = {}
        names = [*("synthesised" for _ in self.counts), "real"]
        state.report_sections["slice_count_curve"] = {
            "title": "Adjacent-slice correlation over the number of slices",
            "note": f"Mean of {len(curves)} knees. As published, neighbours are compared at any distance; the last "
            "column compares all at the distance of the coarsest.",
            "columns": ["volume", "slices", "slice distance, mm", "neighbours (as published)", "at equal distance"],
            "rows": [
                [name, *(_mean([curve[k][key] for curve in curves]) for key in KEYS)] for k, name in enumerate(names)
            ],
            "convention": {"measure": "Pearson r of slices, all pixels", "seed": self.seed},
        }


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None
