"""One picture of several knees: the film, the real slices, and below them the generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DEPTHS = (0.1, 0.26, 0.42, 0.58, 0.74, 0.9)
"""Where slices are shown, as depth d."""


class PicturedKnee(NamedTuple):
    """What is drawn of a knee: film (H, W), generated and, if there is one, real volume (H, W, S); all in [-1, 1]."""

    film: np.ndarray
    generated: np.ndarray
    real: np.ndarray | None = None


def knee_strip(knees: Sequence[PicturedKnee]) -> np.ndarray:
    """Draw knees one below the other.

    Args:
        knees: of one size, at least one.

    Returns:
        grey picture, uint8; a knee takes 2 H rows and 7 W columns: film and real slices, then the generated slices
        under the real ones. Without a real volume its place is black.

    Raises:
        ValueError: if there is no knee.
    """
    if not knees:
        raise ValueError("`knees` must hold at least one knee, got none.")
    rows = []
    for knee in knees:
        blank = np.full_like(knee.film, -1.0)
        real = _slices(knee.real) if knee.real is not None else [blank] * len(DEPTHS)
        rows += [np.hstack([knee.film, *real]), np.hstack([blank, *_slices(knee.generated)])]
    return np.round(127.5 * (np.clip(np.vstack(rows), -1, 1) + 1)).astype(np.uint8)


def _slices(volume: np.ndarray) -> list[np.ndarray]:
    return [volume[..., round(depth * (volume.shape[-1] - 1))] for depth in DEPTHS]
