"""One MR series from its DICOM files: a volume whose geometry comes from the slices' positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset

from bundle.geometry import AXES
from bundle.transforms.dicom_file import check_frame, decode, open_dicom, text
from bundle.transforms.film_files import PHANTOM_MARK

MAX_SLICES = 512
MAX_PIXELS = 2048 * 2048
MAX_VOXELS = 100_000_000
"""Of a series; 512 x 512 x 160 are 42 million."""
STEP_TOLERANCE = 0.05
"""Largest difference of a slice's distance from the series' median, as a fraction of it."""
LINE_TOLERANCE_MM = 0.2
"""How far a slice's position may lie off the straight line from the first to the last."""
MAX_OBLIQUENESS = 45.0
"""Degrees between the slice normal and the antero-posterior axis at which a series is coronal no more."""
IGNORED = (".jpg", ".jpeg", ".png", ".gif", ".txt", ".csv", ".xml", ".json")
"""Thumbnails and notes that lie beside slices."""
ONE_PER_SERIES = ("SeriesInstanceUID", "PatientID", "SeriesDescription", "EchoNumbers", "EchoTime", "Rows", "Columns")


@dataclass(frozen=True)
class Series:
    """An MR series in ILA axes.

    Args:
        volume: (H, W, S) float32, rescaled; of the knee as it is, never mirrored.
        affine: (4, 4), voxel to RAS mm; oblique where the series is.
        side: `R` or `L` where description or laterality says it.
        synthetic_phantom: whether the files are marked as a phantom's.
        participant: PatientID.
        description: SeriesDescription.
    """

    volume: np.ndarray
    affine: np.ndarray
    side: str | None
    synthetic_phantom: bool
    participant: str
    description: str


def read_mr_series(source: str | Path | Sequence[str | Path]) -> Series:
    """Read the coronal MR series in a folder, or in a list of files.

    Slices are sorted by their position along the slice normal, whatever their files are called; the distance of slices
    comes from positions and not from their thickness.

    Args:
        source: folder of one series, in which every file but pictures and notes is a slice; or its files.

    Raises:
        ValueError: naming the series and the reason: no slices, another modality, mixed series, patients, sides,
            echoes, matrices or orientations, a slice twice or missing, a damaged file, not coronal.
    """
    if isinstance(source, str | Path):
        folder = Path(source)
        files = sorted(path for path in folder.iterdir() if _is_slice(path)) if folder.is_dir() else []
    else:
        files = sorted(Path(path) for path in source)
        folder = files[0].parent if files else Path()
    what = f"series {folder}"
    if not files:
        raise ValueError(f"{what}: no such folder, or no slice in it.")
    if len(files) > MAX_SLICES:
        raise ValueError(f"{what}: has {len(files)} files; expected at most {MAX_SLICES}.")
    slices = [_open(path, f"{what}, file {path.name}") for path in files]
    for tag in ONE_PER_SERIES:
        values = {text(dataset, tag) for dataset in slices}
        if len(values) > 1:
            shown = "" if tag.endswith("ID") else f" ({', '.join(sorted(values)[:3])})"  # no identifiers in messages
            raise ValueError(f"{what}: {tag} differs between its files{shown}; it is more than one series.")
    voxels = int(slices[0].Rows) * int(slices[0].Columns) * len(slices)
    if voxels > MAX_VOXELS:
        raise ValueError(f"{what}: its headers claim {voxels} voxels; expected at most {MAX_VOXELS}.")
    sides = set().union(*(_sides(dataset) for dataset in slices))
    if len(sides) > 1:
        raise ValueError(f"{what}: its description and laterality name both sides, right and left.")
    affine, order = _geometry(slices, what)
    pixels = np.stack([decode(slices[i], what=f"{what}, file {files[i].name}") for i in order], axis=-1)
    volume, affine = _turned(pixels, affine, what)
    if np.ptp(volume) == 0:
        raise ValueError(f"{what}: every voxel has the same value; there is no image in it.")
    first = slices[0]
    return Series(
        volume,
        affine,
        side=next(iter(sides), None),
        synthetic_phantom=all(PHANTOM_MARK in text(dataset, "ManufacturerModelName") for dataset in slices),
        participant=text(first, "PatientID"),
        description=text(first, "SeriesDescription"),
    )


def _is_slice(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name.lower() in ("thumbs.db", "dicomdir")
    return path.is_file() and not hidden and path.suffix.lower() not in IGNORED


def _open(path: Path, what: str) -> Dataset:
    try:
        dataset = open_dicom(path, what=what)
        if text(dataset, "Modality") != "MR":
            raise ValueError(f"{what}: modality must be MR, got {text(dataset, 'Modality') or 'none'}.")
        check_frame(dataset, what=what, max_pixels=MAX_PIXELS)
    except Exception as error:  # damaged files raise anything
        if isinstance(error, ValueError) and str(error).startswith("series "):
            raise
        raise ValueError(f"{what}: cannot be read ({' '.join(str(error).split())[:200]}).") from None
    return dataset


def _geometry(slices: list[Dataset], what: str) -> tuple[np.ndarray, list[int]]:
    """Affine of the (rows, columns, sorted slices) array to RAS mm, and the slices' order along the normal."""
    orientation = np.array([_numbers(dataset, "ImageOrientationPatient", 6, what) for dataset in slices])
    if np.abs(orientation - orientation[0]).max() > 1e-3:
        raise ValueError(f"{what}: ImageOrientationPatient differs between its files; it is more than one series.")
    spacing = np.array([_numbers(dataset, "PixelSpacing", 2, what) for dataset in slices])
    if np.abs(spacing - spacing[0]).max() > 1e-4 or not 0.01 <= spacing.min() <= spacing.max() <= 10:
        raise ValueError(f"{what}: PixelSpacing differs between its files, or is not between 0.01 and 10 mm.")
    across, down = orientation[0, :3], orientation[0, 3:]
    if abs(np.linalg.norm(across) - 1) > 1e-2 or abs(np.linalg.norm(down) - 1) > 1e-2 or abs(across @ down) > 1e-2:
        raise ValueError(f"{what}: ImageOrientationPatient is not two perpendicular unit vectors.")
    across, down = across / np.linalg.norm(across), down / np.linalg.norm(down)
    normal = np.cross(across, down)
    if abs(normal[1]) < np.cos(np.radians(MAX_OBLIQUENESS)):
        plane = "sagittal" if abs(normal[0]) > abs(normal[2]) else "axial"
        raise ValueError(f"{what}: its slices are {plane}; expected coronal.")
    positions = np.array([_numbers(dataset, "ImagePositionPatient", 3, what) for dataset in slices])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    _check_steps(along[order], what)
    first, last = positions[order[0]], positions[order[-1]]
    step = (last - first) / (len(order) - 1)
    straight = first + np.arange(len(order))[:, None] * step
    if np.abs(positions[order] - straight).max() > LINE_TOLERANCE_MM + STEP_TOLERANCE * np.linalg.norm(step):
        raise ValueError(f"{what}: the positions of its slices do not lie on a line.")
    if np.linalg.norm(step - (step @ normal) * normal) > LINE_TOLERANCE_MM:
        raise ValueError(f"{what}: its slices are shifted in plane from one to the next; a sheared series is not read.")
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = down * spacing[0, 0], across * spacing[0, 1]
    lps[:3, 2], lps[:3, 3] = step, first
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, [int(index) for index in order]


def _check_steps(along: np.ndarray, what: str) -> None:
    steps = np.diff(along)
    if not len(steps):
        raise ValueError(f"{what}: has one slice only.")
    median = float(np.median(steps))
    if median <= 1e-3 or steps.min() < STEP_TOLERANCE * median:
        at = int(np.argmin(steps))
        raise ValueError(f"{what}: slices {at + 1} and {at + 2} by position lie at the same place; one is a duplicate.")
    if steps.max() > median * (1 + STEP_TOLERANCE) or steps.min() < median * (1 - STEP_TOLERANCE):
        raise ValueError(f"{what}: slices are {steps.min():.2f} to {steps.max():.2f} mm apart; there is a gap.")


def _turned(pixels: np.ndarray, affine: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
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
    except (KeyError, TypeError, ValueError):
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{what}: {tag} is absent or not {count} numbers in one of its files.")
    return values


def _sides(dataset: Dataset) -> set[str]:
    """The sides that a file names; more than one is a contradiction."""
    words = text(dataset, "SeriesDescription").upper().replace("-", "_").replace(" ", "_").split("_")
    named = {side for word, side in (("RIGHT", "R"), ("LEFT", "L")) if word in words}
    for tag in ("ImageLaterality", "Laterality"):
        named |= {text(dataset, tag).upper()} & {"R", "L"}
    return named
