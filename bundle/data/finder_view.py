"""How a knee finder sees a film: coarse, on one grey scale, rows and columns in multiples of 16."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from bundle.networks.knee_finder import REDUCTION
from bundle.transforms import apply_weights, axis_weights

VIEW_MM = 2.5
"""Pixel edge of the finder's view, detector mm."""
_GREYS = (1.0, 99.5)


class FinderView:
    """A film at 2.5 mm with greys from 0 to 1, in the middle of a field of zeros.

    Args:
        size: rows and columns of the view; None takes the smallest multiples of 16 that hold the film.
    """

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        if size is not None and any(edge < REDUCTION or edge % REDUCTION for edge in size):
            raise ValueError(f"`size` must be multiples of {REDUCTION}, got {tuple(size)}.")
        self.size = size

    def __call__(self, film: MetaTensor) -> MetaTensor:
        """(1, H, W, 1), or (1, H, W), to (1, h, w) and the affine that goes with it."""
        flat = film.as_tensor().reshape(film.shape[:3])
        affine = film.affine.numpy()
        edges = [float(np.linalg.norm(affine[:3, axis])) for axis in (0, 1)]
        counts = flat.shape[1:]
        extents = [count * edge for count, edge in zip(counts, edges, strict=True)]
        fitting = [max(int(np.ceil(extent / VIEW_MM / REDUCTION)), 1) * REDUCTION for extent in extents]
        size = self.size or fitting
        weights, starts = {}, []
        for axis in (0, 1):
            start = (extents[axis] - size[axis] * VIEW_MM) / 2
            starts.append((start + VIEW_MM / 2) / edges[axis] - 0.5)
            weights[axis + 1] = axis_weights(counts[axis], edges[axis], size[axis], VIEW_MM, start)
        low, high = np.percentile(flat.numpy(), _GREYS)
        graded = ((flat - float(low)) / max(float(high - low), 1e-9)).clamp(0, 1)
        view = affine.copy()
        view[:3, 3] += affine[:3, 0] * starts[0] + affine[:3, 1] * starts[1]
        view[:3, 0] *= VIEW_MM / edges[0]
        view[:3, 1] *= VIEW_MM / edges[1]
        return MetaTensor(apply_weights(graded, weights), affine=torch.from_numpy(view))


class FinderViewd(MapTransform):
    """Dictionary form of `FinderView`."""

    def __init__(
        self, keys: KeysCollection, size: tuple[int, int] | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.view = FinderView(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """View the films."""
        return dict(data) | {key: self.view(data[key]) for key in self.key_iterator(data)}
