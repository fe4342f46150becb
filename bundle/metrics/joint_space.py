"""Joint space width: the smallest gap between femur and tibia along the rows, medial and lateral, in millimetres."""

from __future__ import annotations

import math

import numpy as np
import torch

from bundle.metrics.bones import FEMUR, HALF_LEVEL, TIBIA, Spacing, checked_spacing
from bundle.metrics.volume_metric import checked_volume

COMPARTMENTS = ("medial", "lateral")
BEARING = (0.40, 0.78)
"""Inner and outer end of a compartment's bearing part, as shares of half the plateau's width (15 and 29 of 37 mm)."""
PLATEAU_MM = 14.0
"""Below the tibia's highest row, the tip of its spines: where the plateau's width is taken."""
LARGEST_MM = 15.0
"""A wider gap is no joint: the femur has left the slice."""
PERCENTILE = 5.0
"""Of the gaps of a compartment; the minimum itself follows the noise."""
FEWEST = 4


def joint_space_width(
    bones: np.ndarray, *, spacing_mm: Spacing, volume: np.ndarray | torch.Tensor | None = None
) -> dict[str, float]:
    """Measure both compartments of a canonical right knee, whose medial side has the higher columns.

    In every column and slice of a compartment's bearing part the gap runs from the lowest row of the femur to the
    highest of the tibia below it. With the volume, both ends lie where its intensity crosses the level half way from
    marrow to cartilage (-0.1), between voxel centres; without, half way between voxels. Gaps above 15 mm are none.
    The map of gaps is smoothed by a 3 x 3 median over columns and slices; its fifth percentile is the width.

    Args:
        bones: labels with femur 1 and tibia 2, shape (H, W, S), ILA axes.
        spacing_mm: voxel edges, mm.
        volume: what the labels were found in, same shape, in [-1, 1].

    Returns:
        `medial` and `lateral`, mm; NaN where a compartment has fewer than 4 gaps.

    Raises:
        ValueError: on a wrong shape or edges.
    """
    edges = checked_spacing(spacing_mm)
    if bones.ndim != 3:
        raise ValueError(f"`bones` must have shape (H, W, S), got {bones.shape}.")
    femur, tibia = bones == FEMUR, bones == TIBIA
    gaps = _gaps(femur, tibia, None if volume is None else checked_volume(volume, name="volume")) * edges[0]
    gaps[(gaps > LARGEST_MM) | (gaps < 0)] = np.nan
    rows = np.flatnonzero(tibia.any((1, 2)))
    if not len(rows):
        return dict.fromkeys(COMPARTMENTS, math.nan)
    at = min(int(rows[0] + PLATEAU_MM / edges[0]), bones.shape[0] - 1)
    columns = np.flatnonzero(tibia[at].any(1))
    if not len(columns):
        return dict.fromkeys(COMPARTMENTS, math.nan)
    middle, half = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0] + 1) / 2
    share = (np.arange(bones.shape[1]) - middle) / half
    return {
        name: _smallest(gaps[(sign * share >= BEARING[0]) & (sign * share <= BEARING[1])])
        for name, sign in zip(COMPARTMENTS, (1, -1), strict=True)
    }


def _gaps(femur: np.ndarray, tibia: np.ndarray, volume: np.ndarray | None) -> np.ndarray:
    """Gap in rows for each column and slice, (W, S); NaN where one bone is missing."""
    rows = femur.shape[0]
    first_tibia = np.where(tibia.any(0), tibia.argmax(0), rows)
    above = femur & (np.arange(rows)[:, None, None] < first_tibia)
    last_femur = np.where(above.any(0), rows - 1 - above[::-1].argmax(0), -1)
    valid = (last_femur >= 0) & (first_tibia < rows)
    upper, lower = last_femur.clip(0), first_tibia.clip(max=rows - 1)
    start, end = upper + 0.5, lower - 0.5
    if volume is not None:
        start = upper + _crossing(volume, upper, 1)
        end = lower - _crossing(volume, lower, -1)
    return np.where(valid, end - start, np.nan)


def _crossing(volume: np.ndarray, row: np.ndarray, step: int) -> np.ndarray:
    """Where, in rows from the bone's last voxel outwards, the intensity crosses the half level; (W, S) in [-0.5, 1]."""
    rows = volume.shape[0]
    profile = [
        np.take_along_axis(volume, (row + k * step).clip(0, rows - 1)[None], axis=0)[0] - HALF_LEVEL for k in (-1, 0, 1)
    ]
    outward = _linear_root(profile[1], profile[2])
    inward = _linear_root(profile[0], profile[1]) - 1
    return np.where(profile[1] < 0, outward, inward.clip(-0.5))


def _linear_root(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    rise = there - here
    return np.where(rise > 1e-6, np.clip(-here / np.where(rise > 1e-6, rise, 1.0), 0.0, 1.0), 0.5)


def _smallest(gaps: np.ndarray) -> float:
    valid = np.isfinite(gaps)
    if valid.sum() < FEWEST:
        return math.nan
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(gaps, 1, constant_values=np.nan), (3, 3))
    # A missing neighbour is passed over by the median of what there is.
    smooth = np.nanmedian(windows[valid].reshape(-1, 9), axis=1)
    return float(np.percentile(smooth, PERCENTILE))
