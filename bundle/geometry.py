"""The model's grid and the canonical knee: axes, affines in RAS millimetres, the mirror of a left knee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

Image = TypeVar("Image", np.ndarray, Tensor)
AXES = "ILA"
"""Array axes run inferior-wards (rows), leftwards (columns), anterior-wards (slices)."""
SIDES = ("R", "L")
FIELD_OF_VIEW_MM = 160.0
"""In-plane field of view of OAI's T1 3D FLASH (Peterfy et al. 2008; PMC5871621, table T1)."""
PROTOCOL_DEPTH_MM = 120.0
"""Antero-posterior extent of the same protocol: 80 slices of 1.5 mm."""
SLICE_WINDOW = (13 / 80, 63 / 80)
"""The paper's slices, 0-based and half-open [13, 63) of 80, as fractions of the antero-posterior extent."""
SOURCE_DETECTOR_MM = 1828.0
"""72 inches: source to detector of OAI's fixed-flexion films."""
KNEE_DETECTOR_MM = 65.0
"""The knee's centre stands about this far in front of the detector (phantom.md 3.2)."""
FILM_MAGNIFICATION = SOURCE_DETECTOR_MM / (SOURCE_DETECTOR_MM - KNEE_DETECTOR_MM)
"""Detector millimetres for a millimetre in the knee: 1.037."""


def ila_affine(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], centre_ras: np.ndarray
) -> np.ndarray:
    """Affine of an ILA array, given the RAS position of its middle.

    Args:
        shape: (H, W, S).
        spacing_mm: voxel edges along rows, columns and slices, in mm.
        centre_ras: RAS position, in mm, of the point midway between first and last voxel centres.

    Returns:
        (4, 4) float64, voxel index to RAS mm.
    """
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0
    affine[:3, 3] = np.asarray(centre_ras, dtype=float) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


@dataclass(frozen=True)
class Grid:
    """The voxels a network speaks of: a canonical knee in its field of view, slices in the window.

    Args:
        rows: H, columns: W, slices: S.
        spacing_mm: in-plane voxel edge, mm.
        slice_spacing_mm: distance of neighbouring slices, mm.
    """

    rows: int
    columns: int
    slices: int
    spacing_mm: float
    slice_spacing_mm: float

    @classmethod
    def of(cls, *, image_size: int, slices: int) -> Grid:
        """The square grid over OAI's field of view and the paper's slice window."""
        depth_mm = (SLICE_WINDOW[1] - SLICE_WINDOW[0]) * PROTOCOL_DEPTH_MM
        return cls(image_size, image_size, slices, FIELD_OF_VIEW_MM / image_size, depth_mm / slices)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, S)."""
        return self.rows, self.columns, self.slices

    @property
    def depth_mm(self) -> float:
        """Antero-posterior extent, slice edges included."""
        return self.slices * self.slice_spacing_mm

    def depths(self, slices: int | None = None) -> np.ndarray:
        """Depth d in [0, 1] of each slice, posterior first: first slice 0, last slice 1; (S,) float64."""
        return np.linspace(0.0, 1.0, slices or self.slices)

    def affine(self, slices: int | None = None) -> np.ndarray:
        """Affine of a synthesised volume: in-plane origin at the joint centre, slices where the window puts them.

        The first and last slice stay where they are for any number of slices (d is 0 and 1 there), so more slices
        lie closer together.
        """
        count = slices or self.slices
        pitch = self.slice_spacing_mm * (self.slices - 1) / (count - 1) if count > 1 else self.slice_spacing_mm
        middle = ((SLICE_WINDOW[0] + SLICE_WINDOW[1]) / 2 - 0.5) * PROTOCOL_DEPTH_MM
        spacing = (self.spacing_mm, self.spacing_mm, pitch)
        return ila_affine((self.rows, self.columns, count), spacing, np.array([0.0, middle, 0.0]))

    def affine_of_depths(self, depths: Sequence[float]) -> np.ndarray:
        """Affine of a volume whose slices lie at `depths` in [0, 1].

        Raises:
            ValueError: if they lie outside, or are not ascending in equal steps.
        """
        steps = np.diff(depths)
        if not len(depths) or min(depths) < 0 or max(depths) > 1:
            raise ValueError(f"`depths` must lie in [0, 1], got {list(depths)}.")
        if len(steps) and (steps.min() <= 0 or not np.allclose(steps, steps[0], atol=1e-6)):
            raise ValueError(f"`depths` must ascend in equal steps, got {list(depths)}.")
        span_mm = (self.slices - 1) * self.slice_spacing_mm
        affine = self.affine()
        affine[1, 3] += depths[0] * span_mm
        affine[1, 2] = steps[0] * span_mm if len(steps) else self.slice_spacing_mm
        return affine

    def film_affine(self) -> np.ndarray:
        """Affine of a film on this grid, stored as (H, W, 1), joint centre at the origin."""
        return ila_affine((self.rows, self.columns, 1), (self.spacing_mm, self.spacing_mm, 1.0), np.zeros(3))


def check_side(side: str | None) -> str:
    """Return `side`, or raise ValueError: it is `R` or `L`."""
    if side not in SIDES:
        raise ValueError(f"`side` must be R or L, got {side!r}; say which knee the film shows.")
    return side


def mirror_columns(array: Image, *, columns_dim: int) -> Image:
    """Reverse the columns: a left knee becomes a right one, or back; the affine is kept (design.md 9).

    Args:
        array: tensor or array.
        columns_dim: its columns dim: -1 for a film (.., H, W), -2 for a volume (.., H, W, S).

    Returns:
        the reversed array, of the same type.
    """
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(np.flip(array, columns_dim))
    return array.flip(columns_dim)
