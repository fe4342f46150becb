"""A series brought to the model's grid: the field of view in plane, the slice window in millimetres in depth."""

from __future__ import annotations

import math

import numpy as np
import torch

from bundle.data.oai_dicom import Series
from bundle.geometry import FIELD_OF_VIEW_MM, PROTOCOL_DEPTH_MM, SLICE_WINDOW
from bundle.transforms import apply_weights, axis_weights

MIN_COVERAGE = 0.8
"""A series must cover this share of the field of view along rows and columns."""
MIN_SLICES = 25
"""Fewer are too far apart to fill the window; OAI's coarsest coronal sequence has 35 slices of 3 mm."""
WINDOW_MM = (SLICE_WINDOW[1] - SLICE_WINDOW[0]) * PROTOCOL_DEPTH_MM
WINDOW_MIDDLE_MM = ((SLICE_WINDOW[0] + SLICE_WINDOW[1]) / 2 - 0.5) * PROTOCOL_DEPTH_MM
"""Depth of the slice window, 75 mm, and its middle in front of the field of view's: -3 mm."""


def resample_series(
    series: Series, *, image_size: int, slices: int, min_slices: int = MIN_SLICES
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a series to the grid: its own axes and in-plane middle, the slice window in millimetres.

    The window is as deep as the protocol's, whatever the number of slices and their distance, and lies where it lies
    in 80 slices of 1.5 mm: its middle 3 mm behind the middle of the field of view (docs/decisions/008). A series that
    is deep enough but shorter than the protocol is cut at its end if it must be. Slices are cells that are as wide as
    they are apart; where they are as far apart as the grid's, the window starts with a slice and none is interpolated.
    80 slices of 1.5 mm give exactly the slices [13, 63). What the series does not cover in plane gets its lowest value.

    Args:
        series: in ILA axes.
        image_size: rows and columns of the result.
        slices: slices of the result.
        min_slices: fewer are refused.

    Returns:
        (H, W, S) float32 and its affine, voxel to RAS mm.

    Raises:
        ValueError: if the series does not cover field of view or window, or has too few slices.
    """
    counts = series.volume.shape
    edges = [float(np.linalg.norm(series.affine[:3, axis])) for axis in range(3)]
    extents = [count * edge for count, edge in zip(counts, edges, strict=True)]
    if counts[2] < min_slices:
        raise ValueError(f"series: has {counts[2]} slices; expected {min_slices} or more.")
    if min(extents[:2]) < MIN_COVERAGE * FIELD_OF_VIEW_MM:
        raise ValueError(
            f"series: covers {extents[0]:.0f} x {extents[1]:.0f} mm in plane; expected {FIELD_OF_VIEW_MM:g}."
        )
    sizes = (image_size, image_size, slices)
    fields = (FIELD_OF_VIEW_MM, FIELD_OF_VIEW_MM, WINDOW_MM)
    starts = (*((extent - FIELD_OF_VIEW_MM) / 2 for extent in extents[:2]), window_start(counts[2], edges[2], slices))
    affine = series.affine.copy()
    weights = {}
    # slices first: what is not needed is not resampled
    for axis in (2, 0, 1):
        edge, new_edge = edges[axis], fields[axis] / sizes[axis]
        weights[axis] = axis_weights(counts[axis], edge, sizes[axis], new_edge, starts[axis])
        first = (starts[axis] + new_edge / 2) / edge - 0.5
        affine[:3, 3] += series.affine[:3, axis] * first
        affine[:3, axis] *= new_edge / edge
    volume = torch.from_numpy(series.volume)
    return apply_weights(volume, weights, fill=float(volume.min())).numpy(), affine


def window_start(count: int, pitch_mm: float, slices: int) -> float:
    """Where the slice window begins, in mm from the posterior edge of the first slice.

    Args:
        count: slices of the series.
        pitch_mm: their distance.
        slices: of the window.

    Raises:
        ValueError: if the series is not as deep as the window.
    """
    extent = count * pitch_mm
    if extent < WINDOW_MM - pitch_mm / 2:
        raise ValueError(f"series: is {extent:.0f} mm deep from back to front; expected {WINDOW_MM:g} or more.")
    start = extent / 2 + WINDOW_MIDDLE_MM - WINDOW_MM / 2
    if abs(pitch_mm * slices - WINDOW_MM) < 1e-3 * WINDOW_MM:
        start = pitch_mm * math.floor(start / pitch_mm + 0.5)
    return min(max(start, 0.0), max(extent - WINDOW_MM, 0.0))
