"""How two masks agree: Dice, and the distance between their surfaces in millimetres."""

from __future__ import annotations

import math

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from bundle.metrics.bones import Spacing, checked_spacing


def mask_dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|), in [0, 1]; NaN if both are empty.

    Raises:
        ValueError: on unequal shapes.
    """
    _check_shapes(mask, reference)
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else math.nan


def surface_distances(mask: np.ndarray, reference: np.ndarray, *, spacing_mm: Spacing) -> tuple[float, float]:
    """Mean and 95th percentile of the distance between two surfaces, symmetric.

    A surface is the voxels of a mask with a neighbour outside (or outside the array). The mean is over the distances of
    all voxels of both surfaces to the other; the percentile is the larger of the two directions' (MONAI's
    `compute_average_surface_distance(symmetric=True)` and `compute_hausdorff_distance(percentile=95)`).

    Args:
        mask: shape (H, W, S), bool.
        reference: same shape, bool.
        spacing_mm: voxel edges, mm.

    Returns:
        (mean, 95th percentile), mm; both NaN where either mask is empty.

    Raises:
        ValueError: on unequal shapes or impossible edges.
    """
    _check_shapes(mask, reference)
    edges = checked_spacing(spacing_mm)
    if not mask.any() or not reference.any():
        return math.nan, math.nan
    # Both are cut to what they hold and a voxel more: the distance maps cost what the array has.
    where = np.nonzero(mask | reference)
    box = tuple(slice(max(int(at.min()) - 1, 0), int(at.max()) + 2) for at in where)
    pair = [torch.from_numpy(np.ascontiguousarray(part[box]))[None, None] for part in (mask, reference)]
    mean = compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=list(edges))
    far = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(edges))
    return float(mean), float(far)


def _check_shapes(mask: np.ndarray, reference: np.ndarray) -> None:
    if mask.shape != reference.shape or mask.ndim != 3:
        raise ValueError(
            f"`mask` and `reference` must have one shape (H, W, S), got {mask.shape} and {reference.shape}."
        )
