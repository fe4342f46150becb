"""One MR series from its DICOM files: a volume whose geometry comes from the slices' positions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

from bundle.geometry import AXES
from bundle.transforms.film_files import PHANTOM_MARK

MAX_SLICES = 1000
MAX_EDGE = 2048
GAP_TOLERANCE = 0.05
"""Largest difference of a slice's distance from the series' median, as a fraction of it."""


@dataclass(frozen=True)
class Series:
    """An MR series in ILA axes.

    Args:
        volume: (H, W, S) float32, rescaled; of the knee as it is, never mirrored.
        affine: (4, 4), voxel to RAS mm.
        side: `R` or `L` where description or laterality says it.
        synthetic_phantom: whether the files are marked as a phantom's.
    """

    volume: np.ndarray
    affine: np.ndarray
    side: str | None
    synthetic_phantom: bool


def read_mr_series(folder: str | Path) -> Series:
    """Read the MR series in a folder.

    Slices are sorted by their position along the slice normal, whatever their files are called; the distance of slices
    comes from positions and not from their thickness.

    Args:
        folder: one series; every file in it is a slice.

    Raises:
        ValueError: naming folder and reason: no slices, another modality, mixed series, patients, sides, matrices or
            orientations, a slice twice or missing, a damaged file.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not files:
        raise ValueError(f"series {folder}: no such folder, or it is empty.")
    if len(files) > MAX_SLICES:
        raise ValueError(f"series {folder}: has {len(files)} files, expected at most {MAX_SLICES}.")
    headers = [_header(path) for path in files]
    for tag in ("SeriesInstanceUID", "PatientID", "Rows", "Columns", "SeriesDescription", "EchoNumbers"):
        values = sorted({str(header.get(tag, "")).strip() for header in headers})
        if len(values) > 1:
            raise ValueError(f"series {folder}: {tag} differs between its files ({', '.join(values[:3])}).")
    first = headers[0]
    orientation = np.array([_numbers(header, "ImageOrientationPatient", 6, folder) for header in headers])
    if np.abs(orientation - orientation[0]).max() > 1e-3:
        raise ValueError(f"series {folder}: ImageOrientationPatient differs between its files.")
    spacing = np.array([_numbers(header, "PixelSpacing", 2, folder) for header in headers])
    if np.abs(spacing - spacing[0]).max() > 1e-4 or spacing.min() <= 0:
        raise ValueError(f"series {folder}: PixelSpacing differs between its files or is not positive.")
    along_columns, along_rows = orientation[0, :3], orientation[0, 3:]
    normal = np.cross(along_columns, along_rows)
    positions = np.array([_numbers(header, "ImagePositionPatient", 3, folder) for header in headers])
    order = np.argsort(positions @ normal)
    _check_spacing(folder, (positions @ normal)[order])
    pixels = np.stack([_pixels(files[index]) for index in order], axis=-1)

    lps = np.eye(4)
    lps[:3, 0] = along_rows * spacing[0, 0]
    lps[:3, 1] = along_columns * spacing[0, 1]
    lps[:3, 2] = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    lps[:3, 3] = positions[order[0]]
    image = nib.Nifti1Image(pixels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(AXES))
    )
    turned = image.as_reoriented(turn)
    return Series(
        np.ascontiguousarray(turned.dataobj, dtype=np.float32),
        turned.affine,
        _side(first),
        PHANTOM_MARK in str(first.get("ManufacturerModelName", "")),
    )


def _header(path: Path) -> pydicom.Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            rows, columns = int(header.Rows), int(header.Columns)
    except Exception as error:  # damaged files raise anything
        raise ValueError(f"series {path.parent}: {path.name} cannot be read ({type(error).__name__}).") from None
    if str(header.get("Modality", "")) != "MR":
        raise ValueError(f"series {path.parent}: {path.name} is {header.get('Modality', 'nothing')}, expected MR.")
    if not (8 <= rows <= MAX_EDGE and 8 <= columns <= MAX_EDGE):
        raise ValueError(
            f"series {path.parent}: {path.name} claims {rows} x {columns} pixels, expected 8 to {MAX_EDGE}."
        )
    return header


def _numbers(header: pydicom.Dataset, tag: str, count: int, folder: Path) -> list[float]:
    try:
        values = [float(value) for value in header[tag].value]
    except (KeyError, TypeError, ValueError):
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"series {folder}: {tag} is absent or not {count} numbers in one of its files.")
    return values


def _check_spacing(folder: Path, sorted_positions: np.ndarray) -> None:
    steps = np.diff(sorted_positions)
    if not len(steps):
        raise ValueError(f"series {folder}: has one slice only.")
    median = float(np.median(steps))
    if steps.min() < GAP_TOLERANCE * max(median, 1e-6) or median <= 0:
        raise ValueError(f"series {folder}: two slices lie at the same position.")
    if steps.max() > median * (1 + GAP_TOLERANCE) or steps.min() < median * (1 - GAP_TOLERANCE):
        raise ValueError(
            f"series {folder}: slices are {steps.min():.2f} to {steps.max():.2f} mm apart; one is missing."
        )


def _pixels(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            pixels = dataset.pixel_array.astype(np.float32)
    except Exception as error:  # damaged files raise anything
        raise ValueError(f"series {path.parent}: {path.name} has no readable pixels ({error}).") from None
    if pixels.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise ValueError(f"series {path.parent}: {path.name} has {pixels.shape} pixels, its header says otherwise.")
    return pixels * float(dataset.get("RescaleSlope", 1) or 1) + float(dataset.get("RescaleIntercept", 0) or 0)


def _side(header: pydicom.Dataset) -> str | None:
    description = str(header.get("SeriesDescription", "")).upper()
    for word, side in (("RIGHT", "R"), ("LEFT", "L")):
        if word in description:
            return side
    value = str(header.get("ImageLaterality", header.get("Laterality", ""))).strip().upper()
    return value if value in ("R", "L") else None
