"""What the metrics share: one score a volume, checked input, and a mean that hides no NaN."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import Cumulative, CumulativeIterationMetric
from torch import Tensor

LOWEST = {2.0: -1.0, 1.0: 0.0}
"""Lowest intensity of the two ranges this code base has: [-1, 1] inside, [0, 1] in files."""
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": torch.mean,
    # quantile, not torch.median: the middle of an even count lies between its two middle values.
    "median": lambda scores: torch.quantile(scores, 0.5),
}


class VolumeMetric(CumulativeIterationMetric):
    """A MONAI metric with one score for each volume, and a count of what a score had to leave out.

    MONAI's reduction drops NaN without a word, and gives 0 where nothing is left. Here `aggregate` reduces over the
    volumes that have a score, warns with the number of those that have none, and gives NaN where nothing is left.

    Args:
        counts: what `left_out` counts, as a word for column names (`empty_slices`).
        reduction: over volumes, `mean` or `median`.
        get_not_nans: whether `aggregate` returns (score, number of volumes behind it).
    """

    def __init__(self, *, counts: str, reduction: str = "mean", get_not_nans: bool = False) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(f"`reduction` must be one of {', '.join(REDUCTIONS)}, got {reduction!r}.")
        self._left_out = _Counts()
        super().__init__()
        self.counts = counts
        self.reduction = reduction
        self.get_not_nans = get_not_nans

    def reset(self) -> None:
        """Forget every volume."""
        super().reset()
        self._left_out.reset()

    def left_out(self) -> Tensor | None:
        """How much each volume's score left out (see `counts`): (N, 1) int64 over all ranks, None before a volume."""
        return self._left_out.get_buffer()

    def aggregate(self) -> Tensor | tuple[Tensor, Tensor]:
        """Reduce over volumes.

        Returns:
            the reduced score, float64; with `get_not_nans` also the number of volumes that had one.

        Raises:
            ValueError: if there is no volume at all.
        """
        scores = self.get_buffer()
        if not isinstance(scores, Tensor):
            raise ValueError(f"{self} has no volume to aggregate; call it on a batch first.")
        valid = scores[~scores.isnan()]
        if len(valid) < scores.numel():
            warnings.warn(
                f"{self}: {scores.numel() - len(valid)} of {scores.numel()} volumes have no score (NaN); "
                f"the {self.reduction} is over the other {len(valid)}.",
                stacklevel=2,
            )
        score = REDUCTIONS[self.reduction](valid) if len(valid) else scores.new_tensor(float("nan"))
        return (score, torch.tensor(len(valid))) if self.get_not_nans else score

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **options: Any) -> Tensor:
        y_pred = checked_volumes(y_pred, name="y_pred")
        if y is not None:
            y = checked_volumes(y, name="y")
            if y.shape != y_pred.shape:
                raise ValueError(
                    f"`y_pred` and `y` must have one shape, got {tuple(y_pred.shape)} and {tuple(y.shape)}; "
                    "resample one onto the other's grid."
                )
            y = y.to(y_pred.device)  # a baseline's volume need not be where the real one is
        scores, left_out = self._score(y_pred, y, **options)
        self._left_out.extend(left_out)
        return scores

    @abstractmethod
    def _score(self, y_pred: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores (B, 1), float64, and what each left out (B, 1), int64, of checked volumes (B, 1, H, W, S)."""


class _Counts(Cumulative):
    """Whole numbers, one a volume, gathered over ranks."""

    def aggregate(self) -> Tensor:
        """Their sum."""
        return self.get_buffer().sum()


def checked_volumes(volumes: Tensor, *, name: str) -> Tensor:
    """Plain tensor of `volumes`, or ValueError unless they are (B, 1, H, W, S) and finite."""
    if volumes.ndim != 5 or volumes.shape[1] != 1 or 0 in volumes.shape:
        raise ValueError(f"`{name}` must have shape (B, 1, H, W, S), got {tuple(volumes.shape)}.")
    check_finite(volumes, name=name)
    return volumes.as_tensor() if isinstance(volumes, MetaTensor) else volumes


def checked_volume(volume: np.ndarray | Tensor, *, name: str) -> np.ndarray:
    """`volume` as a float64 array, or ValueError unless it is (H, W, S) and finite."""
    array = volume.detach().cpu().numpy() if isinstance(volume, Tensor) else np.asarray(volume)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"`{name}` must have shape (H, W, S), got {array.shape}; score one volume at a time.")
    array = array.astype(np.float64)
    check_finite(torch.from_numpy(array), name=name)
    return array


def check_finite(volumes: Tensor, *, name: str) -> None:
    """Raise ValueError, with the count, if a value is NaN or infinite."""
    if not bool(volumes.isfinite().all()):
        bad = int((~volumes.isfinite()).sum())
        raise ValueError(f"`{name}` must be finite, but {bad} of {volumes.numel()} values are NaN or infinite.")


def check_data_range(data_range: float) -> float:
    """Return `data_range` as a float, or raise ValueError: it is positive and finite."""
    value = float(data_range)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"`data_range` must be positive and finite, got {data_range}; it is 2 for volumes in [-1, 1].")
    return value


def lowest_intensity(data_range: float, lo: float | None) -> float:
    """`lo` where it is given, else the lowest intensity that goes with `data_range`; ValueError if neither says."""
    if lo is None and data_range not in LOWEST:
        raise ValueError(f"`lo`, the lowest intensity, must be given for `data_range` {data_range}.")
    lowest = LOWEST[data_range] if lo is None else float(lo)
    if not np.isfinite(lowest):
        raise ValueError(f"`lo` must be finite, got {lo}.")
    return lowest
