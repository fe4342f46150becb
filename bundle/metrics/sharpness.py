"""Sharpness that noise cannot buy: the width of the border of bone and cartilage, and power by frequency band."""

from __future__ import annotations

import math

import numpy as np
import torch

from bundle.metrics.bones import FEMUR, TIBIA, Spacing, checked_spacing
from bundle.metrics.volume_metric import checked_volume

HALF_LENGTH_MM, STEP_MM = 6.0, 0.25
LOW, HIGH = 0.25, 0.75
FEWEST_PROFILES = 20
BANDS_PER_MM = {"low": (0.0, 0.05), "middle": (0.05, 0.1), "high": (0.1, 0.2)}
"""Cycles per millimetre, from and to; 0.2 is the highest frequency of 2.5 mm pixels."""


def edge_spread_width(volume: np.ndarray | torch.Tensor, bones: np.ndarray, *, spacing_mm: Spacing) -> float:
    """Distance over which the mean profile across the border of bone and cartilage climbs from 25 to 75 %.

    Profiles run along the rows through the last row of the femur and the first of the tibia, over 6 mm to either side,
    in the columns of `bones` where both exist with a gap of at most 15 mm. Each is aligned where its mean over 3 mm
    after exceeds that over 3 mm before the most, within 2.5 mm of that row, then all are averaged: noise averages out
    and does not sharpen the mean, a blurred border does not become narrow. Levels are of the mean profile's lowest
    value before and highest after the ascent, within 4 mm.

    Args:
        volume: shape (H, W, S), ILA axes.
        bones: labels of femur 1 and tibia 2 of the same knee, same shape; take the real volume's for both volumes.
        spacing_mm: voxel edges, mm.

    Returns:
        mm; NaN with fewer than 20 profiles, or where the mean profile does not climb.

    Raises:
        ValueError: on unequal or wrong shapes, or values that are not finite.
    """
    array, edges = checked_volume(volume, name="volume"), checked_spacing(spacing_mm)
    if bones.shape != array.shape:
        raise ValueError(f"`bones` must have the volume's shape {array.shape}, got {bones.shape}.")
    profiles = np.concatenate([_profiles(array, *ends, edges[0]) for ends in _borders(bones, edges[0])])
    if len(profiles) < FEWEST_PROFILES:
        return math.nan
    return _climb(_aligned(profiles).mean(0))


def band_power(volume: np.ndarray | torch.Tensor, *, spacing_mm: Spacing) -> dict[str, float]:
    """Power of the coronal slices in three bands of spatial frequency.

    Each slice less its mean is weighted by a Hann window along rows and columns; |FFT|^2 / (number of pixels)^2 is
    summed over the frequencies of a band (radial, cycles per mm), then averaged over slices.

    Args:
        volume: shape (H, W, S).
        spacing_mm: voxel edges, mm.

    Returns:
        `low` (0 < f <= 0.05), `middle` (to 0.1) and `high` (to 0.2 cycles/mm), in squared intensity.

    Raises:
        ValueError: on a wrong shape or values that are not finite.
    """
    array, edges = checked_volume(volume, name="volume"), checked_spacing(spacing_mm)
    rows, columns = array.shape[:2]
    centred = array - array.mean((0, 1), keepdims=True)
    window = np.hanning(rows)[:, None, None] * np.hanning(columns)[None, :, None]
    power = np.abs(np.fft.fft2(centred * window, axes=(0, 1))) ** 2 / (rows * columns) ** 2
    frequency = np.hypot(np.fft.fftfreq(rows, edges[0])[:, None], np.fft.fftfreq(columns, edges[1])[None, :])
    return {
        name: float(power[(frequency > low) & (frequency <= high)].sum(0).mean())
        for name, (low, high) in BANDS_PER_MM.items()
    }


def _borders(bones: np.ndarray, edge: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Rows, columns, slices of both borders and the direction from bone to cartilage."""
    femur, tibia = bones == FEMUR, bones == TIBIA
    first = np.where(tibia.any(0), tibia.argmax(0), bones.shape[0])
    above = femur & (np.arange(bones.shape[0])[:, None, None] < first)
    last = bones.shape[0] - 1 - above[::-1].argmax(0)
    columns, slices = np.nonzero(tibia.any(0) & above.any(0) & ((first - last) * edge <= 15.0) & (first - last > 1))
    return [(end[columns, slices], columns, slices, step) for end, step in ((last, 1), (first, -1))]


def _profiles(
    volume: np.ndarray, rows: np.ndarray, columns: np.ndarray, slices: np.ndarray, step: int, edge: float
) -> np.ndarray:
    """Profiles from bone outwards, (N, samples), linear between voxels; those that leave the volume are dropped."""
    # Longer than what is averaged, so that an aligned profile is still whole.
    reach = HALF_LENGTH_MM + 3.0
    at = rows[:, None] + step * np.arange(-reach, reach + STEP_MM / 2, STEP_MM)[None] / edge
    whole = (at.min(1) >= 0) & (at.max(1) <= volume.shape[0] - 1)
    at, columns, slices = at[whole], columns[whole, None], slices[whole, None]
    low = np.floor(at).astype(int).clip(0, max(volume.shape[0] - 2, 0))
    part = at - low
    return (1 - part) * volume[low, columns, slices] + part * volume[low + 1, columns, slices]


def _aligned(profiles: np.ndarray) -> np.ndarray:
    """Each profile about its step, (N, samples of 6 mm to either side)."""
    middle, half, search = profiles.shape[1] // 2, round(HALF_LENGTH_MM / STEP_MM), round(2.5 / STEP_MM)
    # The place where 3 mm after and 3 mm before differ most: noise moves it a little, which widens the mean profile,
    # while a profile aligned at its own steepest voxel would be sharpened by its own noise.
    width = round(3.0 / STEP_MM)
    sums = np.cumsum(np.pad(profiles, ((0, 0), (1, 0))), axis=1)
    places = np.arange(middle - search, middle + search + 1)
    step = (sums[:, places + width + 1] - sums[:, places + 1]) - (sums[:, places] - sums[:, places - width])
    centre = places[step.argmax(1)]
    return np.take_along_axis(profiles, centre[:, None] + np.arange(-half, half + 1)[None], axis=1)


def _climb(profile: np.ndarray) -> float:
    middle = len(profile) // 2
    near = round(4.0 / STEP_MM)
    lowest = middle - near + int(np.argmin(profile[middle - near : middle + 1]))
    highest = middle + int(np.argmax(profile[middle : middle + near + 1]))
    if not profile[highest] > profile[lowest]:
        return math.nan
    rise = np.maximum.accumulate(profile[lowest : highest + 1])
    levels = profile[lowest] + np.array([LOW, HIGH]) * (profile[highest] - profile[lowest])
    places = [float(np.interp(level, rise, np.arange(len(rise)))) for level in levels]
    return (places[1] - places[0]) * STEP_MM
