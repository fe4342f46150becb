"""The geometry of a series from its slices' headers: their order along the normal, and the affine of the stack."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset

from bundle.geometry import AXES

STEP_TOLERANCE = 0.05
"""Largest difference of a slice's distance from the series' median, as a fraction of it."""
LINE_TOLERANCE_MM = 0.2
"""How far a slice's position may lie off the straight line from the first to the last."""
MAX_OBLIQUENESS = 45.0
"""Degrees between the slice normal and the antero-posterior axis at which a series is coronal no more."""


def order_along_normal(slices: Sequence[Dataset], what: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The slices' order by position along their common normal, and pairs of slices that lie at the same place.

    Args:
        slices: headers.
        what: how errors call the series.

    Returns:
        indices, first position first; and index pairs (earlier in that order, later) of equal positions.

    Raises:
        ValueError: if orientation, spacing or position is absent or differs, or the slices are not coronal.
    """
    _, normal = _orientation(slices, what)
    along = np.array([_numbers(dataset, "ImagePositionPatient", 3, what) for dataset in slices]) @ normal
    order = [int(index) for index in np.argsort(along, kind="stable")]
    steps = np.diff(along[order])
    if len(steps) and steps.max() <= 1e-3:
        raise ValueError(f"{what}: all its slices lie at the same place.")
    usual = float(np.median(steps[steps > 1e-3])) if len(steps) else 0.0
    return order, [(order[i], order[i + 1]) for i in np.flatnonzero(steps < STEP_TOLERANCE * usual)]


def stack_affine(slices: Sequence[Dataset], what: str) -> np.ndarray:
    """Affine of the (rows, columns, slices) array of sorted slices to RAS mm; oblique where the series is.

    Raises:
        ValueError: if slices are missing, unevenly spaced, shifted in plane or not on a line.
    """
    (across, down), normal = _orientation(slices, what)
    spacing = _numbers(slices[0], "PixelSpacing", 2, what)
    positions = np.array([_numbers(dataset, "ImagePositionPatient", 3, what) for dataset in slices])
    _check_steps(positions @ normal, what)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    straight = positions[0] + np.arange(len(slices))[:, None] * step
    if np.abs(positions - straight).max() > LINE_TOLERANCE_MM + STEP_TOLERANCE * np.linalg.norm(step):
        raise ValueError(f"{what}: the positions of its slices do not lie on a line.")
    if np.linalg.norm(step - (step @ normal) * normal) > LINE_TOLERANCE_MM:
        raise ValueError(f"{what}: its slices are shifted in plane from one to the next; a sheared series is not read.")
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = down * spacing[0], across * spacing[1]
    lps[:3, 2], lps[:3, 3] = step, positions[0]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def _orientation(slices: Sequence[Dataset], what: str) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Unit vectors along a row and down a column, and their normal, LPS."""
    orientation = np.array([_numbers(dataset, "ImageOrientationPatient", 6, what) for dataset in slices])
    if np.abs(orientation - orientation[0]).max() > 1e-3:
        raise ValueError(f"{what}: ImageOrientationPatient differs between its slices; it is more than one series.")
    spacing = np.array([_numbers(dataset, "PixelSpacing", 2, what) for dataset in slices])
    if np.abs(spacing - spacing[0]).max() > 1e-4 or not 0.01 <= spacing.min() <= spacing.max() <= 10:
        raise ValueError(f"{what}: PixelSpacing differs between its slices, or is not between 0.01 and 10 mm.")
    across, down = orientation[0, :3], orientation[0, 3:]
    if abs(np.linalg.norm(across) - 1) > 1e-2 or abs(np.linalg.norm(down) - 1) > 1e-2 or abs(across @ down) > 1e-2:
        raise ValueError(f"{what}: ImageOrientationPatient is not two perpendicular unit vectors.")
    across, down = across / np.linalg.norm(across), down / np.linalg.norm(down)
    normal = np.cross(across, down)
    if abs(normal[1]) < np.cos(np.radians(MAX_OBLIQUENESS)):
        plane = "sagittal" if abs(normal[0]) > abs(normal[2]) else "axial"
        raise ValueError(f"{what}: its slices are {plane}; expected coronal.")
    return (across, down), normal


def _check_steps(along: np.ndarray, what: str) -> None:
    steps = np.diff(along)
    if not len(steps):
        raise ValueError(f"{what}: has one slice only.")
    median = float(np.median(steps))
    if steps.max() > median * (1 + STEP_TOLERANCE) or steps.min() < median * (1 - STEP_TOLERANCE):
        raise ValueError(f"{what}: slices are {steps.min():.2f} to {steps.max():.2f} mm apart; there is a gap.")


def turned_to_ila(pixels: np.ndarray, affine: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """A coronal stack (rows, columns, slices) and its affine, with axes reversed and swapped to ILA; no resampling."""
    wanted = nib.orientations.axcodes2ornt(tuple(AXES))
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), wanted)
    if int(turn[2, 0]) != 2:
        raise ValueError(f"{what}: its slices are not coronal.")
    volume = nib.orientations.apply_orientation(pixels, turn)
    affine = affine @ nib.orientations.inv_ornt_aff(turn, pixels.shape)
    return np.ascontiguousarray(volume, dtype=np.float32), affine


def _numbers(dataset: Dataset, tag: str, count: int, what: str) -> list[float]:
    try:
        values = [float(value) for value in dataset[tag].value]
    except Exception:  # an absent entry, one that cannot be converted, or no list
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{what}: {tag} is absent or not {count} numbers in one of its slices.")
    return values
