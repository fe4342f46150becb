"""Adjacent-slice correlation: how much neighbouring coronal slices of a volume resemble each other."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bundle.metrics.volume_metric import VolumeMetric, checked_volume

SCORED = ("pred", "real")


def adjacent_slice_correlation(volume: np.ndarray | Tensor) -> float:
    """Mean Pearson correlation over all pairs of neighbouring slices, all pixels.

    It depends on the slice distance: compare volumes of equal spacing only.

    Args:
        volume: shape (H, W, S).

    Returns:
        mean r in [-1, 1]. Pairs with a constant slice have no r and are left out; NaN if none remains.

    Raises:
        ValueError: if the shape is wrong or a value is not finite.
    """
    return _mean_correlation(torch.from_numpy(checked_volume(volume, name="volume")))[0]


class AdjacentSliceCorrelation(VolumeMetric):
    """`adjacent_slice_correlation` as a MONAI metric on (B, 1, H, W, S); `left_out` counts pairs without an r.

    It looks at one volume; it takes two so that one call serves every metric.

    Args:
        of: which is scored: `pred` the synthesised, `real` the real volume.
        reduction: over volumes, `mean` or `median`.
        get_not_nans: whether `aggregate` returns (score, number of volumes behind it).
    """

    def __init__(self, *, of: str = "pred", reduction: str = "mean", get_not_nans: bool = False) -> None:
        super().__init__(counts="constant_pairs", reduction=reduction, get_not_nans=get_not_nans)
        if of not in SCORED:
            raise ValueError(f"`of` must be one of {', '.join(SCORED)}, got {of!r}.")
        self.of = of

    def _score(self, y_pred: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        volumes = y_pred if self.of == "pred" else y
        if volumes is None:
            raise ValueError("AdjacentSliceCorrelation(of='real') needs `y`, the real volumes.")
        scored = [_mean_correlation(volume[0].cpu().double()) for volume in volumes]
        scores = torch.tensor([[score] for score, _ in scored], dtype=torch.float64)
        return scores, torch.tensor([[constant] for _, constant in scored])


def _mean_correlation(volume: Tensor) -> tuple[float, int]:
    """Mean r and the number of pairs without one, of a float64 volume (H, W, S)."""
    slices = volume.movedim(-1, 0).flatten(1)
    # The mean of equal values may round, so constancy is asked of the values themselves.
    constant = (slices == slices[:, :1]).all(dim=1)
    centred = slices - slices.mean(dim=1, keepdim=True)
    # By the largest deviation first: the squares of tiny or huge values leave float64's range.
    units = torch.nn.functional.normalize(centred / centred.abs().amax(dim=1, keepdim=True), dim=1)
    valid = ~(constant[:-1] | constant[1:])
    if not bool(valid.any()):
        return math.nan, len(valid)
    correlations = (units[:-1] * units[1:]).sum(dim=1)[valid]
    return correlations.clamp(-1.0, 1.0).mean().item(), int((~valid).sum())
