"""A volume as a short vector, so that a whole test set can be compared pair by pair in little memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F

from bundle.metrics.volume_metric import check_finite

VECTOR_SHAPE = (32, 32, 16)
"""Cells of a vector: 5 mm in plane and 4.7 mm in depth on the model's grid, 64 kB a volume."""


def volume_vector(volume: Tensor, *, shape: Sequence[int] = VECTOR_SHAPE) -> np.ndarray:
    """Means over the cells of a coarse grid.

    Args:
        volume: (1, H, W, S).
        shape: cells along rows, columns and slices; never more than the volume has voxels.

    Returns:
        (D,) float32, D the product of the cells.

    Raises:
        ValueError: if the volume has another shape, a value that is not finite, or a cell count is not positive.
    """
    if volume.ndim != 4 or volume.shape[0] != 1:
        raise ValueError(f"`volume` must have shape (1, H, W, S), got {tuple(volume.shape)}.")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"`shape` must be three positive numbers, got {tuple(shape)}.")
    plain = (volume.as_tensor() if isinstance(volume, MetaTensor) else volume).detach().cpu().float()
    check_finite(plain, name="volume")
    rows, columns, slices = (min(want, have) for want, have in zip(shape, plain.shape[1:], strict=True))
    return F.adaptive_avg_pool3d(plain[None], (rows, columns, slices)).flatten().numpy()


def pairwise_rmse(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Root mean squared difference of every pair, (N, D) and (M, D) to (N, M) float64; a copy has exactly 0."""
    one, other = (torch.from_numpy(np.asarray(side, dtype=np.float32)) for side in (queries, references))
    # the faster way, by products, leaves a distance between equal vectors
    distance = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.double().numpy() / np.sqrt(queries.shape[1])
