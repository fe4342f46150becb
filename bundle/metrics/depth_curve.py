"""Adjacent-slice correlation over the number of slices: as published, and at one distance in millimetres."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from bundle.metrics.slice_correlation import adjacent_slice_correlation
from bundle.metrics.volume_metric import checked_volume

PUBLISHED_COUNTS = (30, 50, 100, 200, 300, 400, 500)
"""The numbers of slices of the paper's figure."""


def correlation_at(volume: np.ndarray | Tensor, *, slice_spacing_mm: float, distance_mm: float) -> float:
    """Mean Pearson correlation of slices `distance_mm` apart.

    Distances between two multiples of the spacing are interpolated linearly between the correlations at both (1 at
    distance 0), so no slice is interpolated, which would blur it.

    Args:
        volume: shape (H, W, S).
        slice_spacing_mm: distance of neighbouring slices, mm.
        distance_mm: distance asked for, mm.

    Returns:
        r in [-1, 1]; NaN where the volume is too thin or its slices constant.

    Raises:
        ValueError: on a wrong shape, values that are not finite, or distances that are not positive.
    """
    array = checked_volume(volume, name="volume")
    if not (slice_spacing_mm > 0 and distance_mm > 0):
        raise ValueError(f"distances must be positive, got {slice_spacing_mm} and {distance_mm} mm.")
    steps = round(distance_mm / slice_spacing_mm, 6)
    low = math.floor(steps)
    ends = [_at_step(array, low), _at_step(array, low + 1) if steps > low else 0.0]
    return ends[0] if steps == low else (low + 1 - steps) * ends[0] + (steps - low) * ends[1]


def slice_count_curve(
    synthesise: Callable[[int], Tensor],
    *,
    depth_mm: float,
    distance_mm: float,
    counts: Sequence[int] = PUBLISHED_COUNTS,
) -> list[dict[str, float]]:
    """Correlation of one knee's volumes made with ever more slices.

    Args:
        synthesise: number of slices to a volume (.., H, W, S) whose first and last slice stay where they are.
        depth_mm: distance of first and last slice.
        distance_mm: at which all are compared, such as the real volume's slice distance.
        counts: numbers of slices, at least 2 each.

    Returns:
        a dictionary a count: `slices`, `spacing_mm`, `adjacent` (as published: neighbours, whatever their distance) and
        `equal` (at `distance_mm`).

    Raises:
        ValueError: if a count is below 2 or the volume has another number of slices.
    """
    if not counts or min(counts) < 2:
        raise ValueError(f"`counts` must be numbers of slices of at least 2, got {list(counts)}.")
    rows = []
    for count in counts:
        volume = torch.as_tensor(synthesise(count))
        if volume.shape[-1] != count:
            raise ValueError(f"`synthesise({count})` must give {count} slices, got shape {tuple(volume.shape)}.")
        volume = volume.reshape(volume.shape[-3:])
        spacing = depth_mm / (count - 1)
        equal = correlation_at(volume, slice_spacing_mm=spacing, distance_mm=distance_mm)
        rows.append(
            {"slices": count, "spacing_mm": spacing, "adjacent": adjacent_slice_correlation(volume), "equal": equal}
        )
    return rows


def _at_step(array: np.ndarray, step: int) -> float:
    """Mean correlation of slices `step` apart: neighbours within each of the `step` combs of slices."""
    if step == 0:
        return 1.0
    pairs = [np.stack([array[..., k], array[..., k + step]], axis=-1) for k in range(array.shape[2] - step)]
    found = [value for value in map(adjacent_slice_correlation, pairs) if not math.isnan(value)]
    return float(np.mean(found)) if found else math.nan
