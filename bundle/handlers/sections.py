"""Handlers that look at a whole set of volumes and leave a table for the report."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.utils.enums import CommonKeys
from torch import Tensor

from bundle.handlers.knee_images import knee_items
from bundle.handlers.scores import Knee
from bundle.metrics.bootstrap import METHODS, Statistic, column_mean, participant_interval

Cell = str | float | int | None
Section = dict[str, Any]


class SectionHandler(ABC):
    """Note something of every knee while an evaluator runs; when it has, make tables of it.

    A table is `engine.state.report_sections[name]`, a dictionary of `title`, `note`, `columns`, `rows` (text, numbers,
    None for no value) and `convention` (term to value); `EvaluationReport`, attached after, writes it. The engine must
    decollate. Under several ranks all knees are gathered and every rank has the tables.

    Args:
        real: key of the real volume, (1, H, W, S).
        resamples: of the bootstrap over participants.
        interval: its method, `percentile` or `BCa`.
        seed: of its draws.
    """

    def __init__(
        self, *, real: str = CommonKeys.LABEL, resamples: int = 1000, interval: str = "percentile", seed: int = 0
    ) -> None:
        if interval not in METHODS or resamples < 1:
            raise ValueError(
                f"`interval` must be one of {', '.join(METHODS)} and `resamples` positive, got {interval!r} and "
                f"{resamples}."
            )
        self.real, self.resamples, self.interval, self.seed = real, resamples, interval, seed
        self._records: list[Any] = []

    def attach(self, engine: Engine) -> None:
        """Attach to `engine`, before the report."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    @abstractmethod
    def note(self, item: Mapping[str, Any], knee: Knee) -> Any:
        """What is kept of one knee; small, and the same fields for every knee."""

    @abstractmethod
    def sections(self, records: Sequence[Any], engine: Engine) -> dict[str, Section]:
        """Tables by name, of all knees' notes."""

    def _start(self, engine: Engine) -> None:
        self._records = []

    def _collect(self, engine: Engine) -> None:
        self._records += [self.note(item, Knee.of(item)) for item in knee_items(engine)]

    def _finish(self, engine: Engine) -> None:
        ranks: Any = idist.all_gather(self._records) if idist.get_world_size() > 1 else [self._records]
        records = [record for rank in ranks for record in rank]
        state: Any = engine.state
        if not hasattr(state, "report_sections"):
            state.report_sections = {}
        state.report_sections.update(self.sections(records, engine) if records else {})
        self._records = []

    def with_interval(
        self, values: np.ndarray, participants: Sequence[Hashable], statistic: Statistic = column_mean
    ) -> list[Cell]:
        """A statistic and its 95 % limits, as three cells."""
        limits = participant_interval(
            values, participants, statistic=statistic, resamples=self.resamples, method=self.interval, seed=self.seed
        )
        return [number(value) for value in (statistic(values), *limits)]

    def interval_words(self) -> str:
        """How limits are made, for a convention."""
        return f"95 %, {self.interval} bootstrap over participants, {self.resamples} draws, seed {self.seed}"


def number(value: float) -> float | None:
    """A finite float, or None."""
    return float(value) if math.isfinite(value) else None


def limits(name: str) -> list[str]:
    """Names of the three columns of `SectionHandler.with_interval`."""
    return [name, f"{name}, low", f"{name}, high"]


def volume_at(item: Mapping[str, Any], key: str) -> Tensor:
    """The item's volume, (1, H, W, S); ValueError if there is none, or it has another shape."""
    volume = item.get(key)
    if not isinstance(volume, Tensor) or volume.ndim != 4 or volume.shape[0] != 1:
        found = tuple(volume.shape) if isinstance(volume, Tensor) else type(volume).__name__
        raise ValueError(f"`{key}` must be a volume (1, H, W, S), got {found}; the item has {', '.join(item)}.")
    return volume


def array_at(item: Mapping[str, Any], key: str) -> np.ndarray:
    """The item's volume without its channel, (H, W, S) float32."""
    return plain_array(volume_at(item, key))[0]


def samples_at(item: Mapping[str, Any], key: str) -> np.ndarray:
    """The item's samples, (K, H, W, S) float32; a volume (1, H, W, S) is one sample."""
    samples = item.get(key)
    if isinstance(samples, Tensor) and samples.ndim == 5 and samples.shape[1] == 1:
        return plain_array(samples)[:, 0]
    return plain_array(volume_at(item, key))


def plain_array(tensor: Tensor) -> np.ndarray:
    """float32 array of a tensor or image, on the CPU."""
    return (tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor).detach().cpu().float().numpy()


def labels_at(item: Mapping[str, Any], key: str) -> np.ndarray | None:
    """The item's labels, (H, W, S) whole numbers, or None where it has none."""
    return np.rint(array_at(item, key)).astype(int) if isinstance(item.get(key), torch.Tensor) else None


def known_methods(records: Sequence[Mapping[str, Any]], methods: Mapping[str, str]) -> dict[str, str]:
    """The methods that the knees have; ValueError if some knees have one and others lack it."""
    counts = {key: sum(key in record for record in records) for key in methods}
    partial = [key for key, count in counts.items() if 0 < count < len(records)]
    if partial:
        raise ValueError(
            f"`{partial[0]}` is there for {counts[partial[0]]} of {len(records)} knees; a method must give "
            "every knee one."
        )
    return {key: name for key, name in methods.items() if counts[key]}
