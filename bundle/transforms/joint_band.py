"""The rows of the joint, where RSSIM looks: from masks of femur and tibia, or from the joint's row alone."""

from __future__ import annotations

import math

import numpy as np

FEMUR, TIBIA = 1, 2
"""Labels of the bones, those of the phantom's truth."""
SMALLEST = 11
"""Rows: the SSIM window must fit."""
Band = tuple[int, int]


def band_of_masks(bones: np.ndarray) -> Band | None:
    """Two thirds down the femur to one third down the tibia.

    Args:
        bones: (H, W, S) labels with femur 1 and tibia 2; a bone's extent is its rows inside the volume.

    Returns:
        rows [r0, r1), at least 11; None where a bone is absent.
    """
    extents = [np.flatnonzero((bones == bone).any((1, 2))) for bone in (FEMUR, TIBIA)]
    if not all(map(len, extents)):
        return None
    return _band(*((float(rows[0]), float(rows[-1] + 1)) for rows in extents), rows=bones.shape[0])


def band_of_joint(row: float, *, rows: int) -> Band:
    """The same for bones that meet at `row` and fill the field of view above and below it."""
    return _band((0.0, row), (row, float(rows)), rows=rows)


def middle_third(rows: int) -> Band:
    """floor(H/3) to ceil(2H/3)."""
    return rows // 3, -(-2 * rows // 3)


def _band(femur: tuple[float, float], tibia: tuple[float, float], *, rows: int) -> Band:
    first = math.floor(femur[0] + 2 / 3 * (femur[1] - femur[0]))
    end = math.ceil(tibia[0] + (tibia[1] - tibia[0]) / 3)
    first, end = max(first, 0), min(end, rows)
    if end - first < SMALLEST:
        first = min(max((first + end - SMALLEST) // 2, 0), max(rows - SMALLEST, 0))
        end = min(first + SMALLEST, rows)
    return first, end
