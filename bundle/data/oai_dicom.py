"""One MR series from its DICOM files or archive: a volume whose geometry comes from the slices' positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from bundle.data.series_geometry import order_along_normal, stack_affine, turned_to_ila
from bundle.transforms.archive import is_archive, is_image_name, members
from bundle.transforms.dicom_file import open_dicom, text
from bundle.transforms.dicom_pixels import check_frame, decode
from bundle.transforms.film_files import PHANTOM_MARK

MAX_SLICES = 512
MAX_PIXELS = 2048 * 2048
MAX_VOXELS = 64 * 2**20
"""Of a series; 512 x 512 x 160 are 42 million."""
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
        notes: what was passed over: identical copies of slices, localisers.
    """

    volume: np.ndarray
    affine: np.ndarray
    side: str | None
    synthetic_phantom: bool
    participant: str
    description: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Slice:
    """A slice's name, where its bytes are, and its header without pixels."""

    name: str
    source: Path | bytes
    header: Dataset


def read_mr_series(source: str | Path | Sequence[str | Path]) -> Series:
    """Read the coronal MR series in a folder, an archive or a list of files.

    Slices are sorted by their position along the slice normal, whatever their files are called; the distance of slices
    comes from positions and not from their thickness. A slice that is there twice, byte for byte of its pixels, is
    read once; a localiser among the slices is passed over.

    Args:
        source: folder of one series, in which every file but pictures and notes is a slice; its archive, read without
            unpacking it to disk; or its files.

    Raises:
        ValueError: naming the series and the reason: no slices, another modality, mixed series, patients, sides,
            echoes, matrices or orientations, two slices for one place or none, a damaged file, not coronal.
    """
    place, sources = _sources(source)
    what = f"series {place}"
    if not sources:
        raise ValueError(f"{what}: no such folder, or no slice in it.")
    if len(sources) > MAX_SLICES:
        raise ValueError(f"{what}: has {len(sources)} files; expected at most {MAX_SLICES}.")
    slices = [_Slice(name, file, _header(file, f"{what}, file {name}")) for name, file in sources]
    kept = [item for item in slices if "LOCALIZER" not in text(item.header, "ImageType").upper()]
    notes = [f"passed over {len(slices) - len(kept)} localiser images"] if len(kept) < len(slices) else []
    if not kept:
        raise ValueError(f"{what}: holds localiser images alone.")
    slices = kept
    for tag in ONE_PER_SERIES:
        values = {text(item.header, tag) for item in slices}
        if len(values) > 1:
            shown = "" if tag.endswith(("ID", "UID")) else f" ({', '.join(sorted(values)[:3])})"  # no identifiers
            raise ValueError(f"{what}: {tag} differs between its files{shown}; it is more than one series.")
    first = slices[0].header
    shape = (int(first.Rows), int(first.Columns))
    if shape[0] * shape[1] * len(slices) > MAX_VOXELS:
        voxels = shape[0] * shape[1] * len(slices)
        raise ValueError(f"{what}: its headers claim {voxels} voxels; expected at most {MAX_VOXELS}.")
    sides = set().union(*(_sides(item.header) for item in slices))
    if len(sides) > 1:
        raise ValueError(f"{what}: its description and laterality name both sides, right and left.")
    order, twins = order_along_normal([item.header for item in slices], what)
    if twins:
        _check_copies(slices, twins, what)
        notes.append(f"passed over {len(twins)} identical copies of slices")
    copies = {later for _, later in twins}
    slices = [slices[i] for i in order if i not in copies]
    affine = stack_affine([item.header for item in slices], what)
    pixels = np.empty((*shape, len(slices)), np.float32)
    for index, item in enumerate(slices):
        pixels[..., index] = _pixels(item, what)
    volume, affine = turned_to_ila(pixels, affine, what)
    if np.ptp(volume) == 0:
        raise ValueError(f"{what}: every voxel has the same value; there is no image in it.")
    return Series(
        volume,
        affine,
        side=next(iter(sides), None),
        synthetic_phantom=all(PHANTOM_MARK in text(item.header, "ManufacturerModelName") for item in slices),
        participant=text(first, "PatientID"),
        description=text(first, "SeriesDescription"),
        notes=tuple(notes),
    )


def _sources(source: str | Path | Sequence[str | Path]) -> tuple[Path, list[tuple[str, Path | bytes]]]:
    """Where a series lies, and the name and place of each of its files."""
    if not isinstance(source, str | Path):
        files = sorted(Path(path) for path in source)
        return (files[0].parent if files else Path()), [(path.name, path) for path in files]
    place = Path(source)
    if place.is_file() and is_archive(place):
        return place, list(members(place, what=f"series {place}"))
    if not place.is_dir():
        return place, []
    files = sorted(path for path in place.iterdir() if path.is_file() and is_image_name(path.name))
    return place, [(path.name, path) for path in files]


def _header(source: Path | bytes, what: str) -> Dataset:
    try:
        dataset = open_dicom(source, what=what, pixels=False)
        if text(dataset, "Modality") != "MR":
            raise ValueError(f"{what}: modality must be MR, got {text(dataset, 'Modality')[:40] or 'none'}.")
        check_frame(dataset, what=what, max_pixels=MAX_PIXELS)
    except Exception as error:  # damaged files raise anything
        if isinstance(error, ValueError) and str(error).startswith("series "):
            raise
        raise ValueError(f"{what}: cannot be read ({' '.join(str(error).split())[:200]}).") from None
    return dataset


def _pixels(item: _Slice, what: str) -> np.ndarray:
    where = f"{what}, file {item.name}"
    return decode(open_dicom(item.source, what=where), what=where)


def _check_copies(slices: list[_Slice], twins: list[tuple[int, int]], what: str) -> None:
    for one, other in twins:
        if not np.array_equal(_pixels(slices[one], what), _pixels(slices[other], what)):
            raise ValueError(
                f"{what}: files {slices[one].name} and {slices[other].name} lie at the same place and differ; one is a "
                "duplicate, or they are two series."
            )


def _sides(dataset: Dataset) -> set[str]:
    """The sides that a file names; more than one is a contradiction."""
    words = text(dataset, "SeriesDescription").upper().replace("-", "_").replace(" ", "_").split("_")
    named = {side for word, side in (("RIGHT", "R"), ("LEFT", "L")) if word in words}
    for tag in ("ImageLaterality", "Laterality"):
        named |= {text(dataset, tag).upper()} & {"R", "L"}
    return named
