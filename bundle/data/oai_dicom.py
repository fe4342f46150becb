"""One MR series from its DICOM files or archive: a volume whose geometry comes from the slices' positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from bundle.data.enhanced_mr import frames_of, is_enhanced
from bundle.data.series_geometry import order_along_normal, stack_affine, turned_to_ila
from bundle.transforms.archive import is_archive, is_image_name, members
from bundle.transforms.dicom_file import open_dicom, text
from bundle.transforms.dicom_pixels import check_frame, decode
from bundle.transforms.film_files import PHANTOM_MARK

MAX_SLICES = 512
MAX_PIXELS = 2048 * 2048
MAX_VOXELS = 64 * 2**20
"""Of a series; 512 x 512 x 160 are 42 million."""
MAX_HELD = 256 * 2**20
"""Bytes of pixel data of a series, as stored."""
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
    """A slice: what errors call it, and its header with its pixels as stored."""

    name: str
    dataset: Dataset


def read_mr_series(source: str | Path | Sequence[str | Path]) -> Series:
    """Read the coronal MR series in a folder, an archive, a file of many frames or a list of files.

    Every file is opened once. Slices are sorted by their position along the slice normal, whatever their files are
    called; the distance of slices comes from positions and not from their thickness. A slice that is there twice, byte
    for byte of its pixels, is read once; a localiser among the slices is passed over.

    Args:
        source: folder of one series, in which every file but pictures and notes is a slice, or an enhanced file of
            many; its archive, read without unpacking it to disk; or its file or files.

    Raises:
        ValueError: naming the series and the reason: no slices, another modality, mixed series, patients, sides,
            echoes, matrices or orientations, two slices for one place or none, a damaged file, not coronal.
    """
    place, sources = _sources(source)
    what = f"series {place}"
    slices = _opened(sources, what)
    if not slices:
        raise ValueError(f"{what}: no such folder, or no slice in it.")
    kept = [item for item in slices if "LOCALIZER" not in text(item.dataset, "ImageType").upper()]
    notes = [f"passed over {len(slices) - len(kept)} localiser images"] if len(kept) < len(slices) else []
    if not kept:
        raise ValueError(f"{what}: holds localiser images alone.")
    slices = kept
    for tag in ONE_PER_SERIES:
        values = {text(item.dataset, tag) for item in slices}
        if len(values) > 1:
            shown = "" if tag.endswith(("ID", "UID")) else f" ({', '.join(sorted(values)[:3])})"  # no identifiers
            raise ValueError(f"{what}: {tag} differs between its slices{shown}; it is more than one series.")
    first = slices[0].dataset
    shape = (int(first.Rows), int(first.Columns))
    if shape[0] * shape[1] * len(slices) > MAX_VOXELS:
        voxels = shape[0] * shape[1] * len(slices)
        raise ValueError(f"{what}: its headers claim {voxels} voxels; expected at most {MAX_VOXELS}.")
    sides = set().union(*(_sides(item.dataset) for item in slices))
    if len(sides) > 1:
        raise ValueError(f"{what}: its description and laterality name both sides, right and left.")
    order, twins = order_along_normal([item.dataset for item in slices], what)
    if twins:
        _check_copies(slices, twins, what)
        notes.append(f"passed over {len(twins)} identical copies of slices")
    copies = {later for _, later in twins}
    slices = [slices[i] for i in order if i not in copies]
    affine = stack_affine([item.dataset for item in slices], what)
    pixels = np.empty((*shape, len(slices)), np.float32)
    for index, item in enumerate(slices):
        pixels[..., index] = decode(item.dataset, what=f"{what}, file {item.name}")
        del item.dataset.PixelData  # a series is large; one copy of it is enough
    volume, affine = turned_to_ila(pixels, affine, what)
    if np.ptp(volume) == 0:
        raise ValueError(f"{what}: every voxel has the same value; there is no image in it.")
    return Series(
        volume,
        affine,
        side=next(iter(sides), None),
        synthetic_phantom=all(PHANTOM_MARK in text(item.dataset, "ManufacturerModelName") for item in slices),
        participant=text(first, "PatientID"),
        description=text(first, "SeriesDescription"),
        notes=tuple(notes),
    )


def _sources(source: str | Path | Sequence[str | Path]) -> tuple[Path, Iterator[tuple[str, Path | bytes]]]:
    """Where a series lies, and the name and place of each of its files."""
    if not isinstance(source, str | Path):
        files = sorted(Path(path) for path in source)
        return (files[0].parent if files else Path()), ((path.name, path) for path in files)
    place = Path(source)
    if place.is_file():
        return place, members(place, what=f"series {place}") if is_archive(place) else iter([(place.name, place)])
    if not place.is_dir():
        return place, iter(())
    files = sorted(path for path in place.iterdir() if path.is_file() and is_image_name(path.name))
    return place, ((path.name, path) for path in files)


def _opened(sources: Iterator[tuple[str, Path | bytes]], what: str) -> list[_Slice]:
    """The slices of all files, in the order in which they come."""
    result: list[_Slice] = []
    held = 0
    for name, source in sources:
        where = f"{what}, file {name}"
        frames = _frames(source, where)
        for number, dataset in enumerate(frames, start=1):
            result.append(_Slice(name if len(frames) == 1 else f"{name}, frame {number}", dataset))
            held += len(dataset.get("PixelData") or b"")
        if len(result) > MAX_SLICES:
            raise ValueError(f"{what}: has more than {MAX_SLICES} slices; expected at most that many.")
        if held > MAX_HELD:
            raise ValueError(f"{what}: has more than {MAX_HELD // 2**20} MiB of pixel data; expected at most that.")
    return result


def _frames(source: Path | bytes, what: str) -> list[Dataset]:
    """Header and pixels of a file's slices: one of a classic file, many of an enhanced one."""
    try:
        dataset = open_dicom(source, what=what, frames=True)
        if text(dataset, "Modality") != "MR":
            raise ValueError(f"{what}: modality must be MR, got {text(dataset, 'Modality')[:40] or 'none'}.")
        frames = frames_of(dataset, what=what, most=MAX_SLICES) if is_enhanced(dataset) else [dataset]
        for frame in frames:
            check_frame(frame, what=what, max_pixels=MAX_PIXELS)
    except Exception as error:  # damaged files raise anything
        if isinstance(error, ValueError) and str(error).startswith("series "):
            raise
        raise ValueError(f"{what}: cannot be read ({' '.join(str(error).split())[:200]}).") from None
    return frames


def _check_copies(slices: list[_Slice], twins: list[tuple[int, int]], what: str) -> None:
    for one, other in twins:
        first, second = (decode(slices[i].dataset, what=f"{what}, file {slices[i].name}") for i in (one, other))
        if not np.array_equal(first, second):
            raise ValueError(
                f"{what}: files {slices[one].name} and {slices[other].name} lie at the same place and differ; one is a "
                "duplicate, or they are two series."
            )


def _sides(dataset: Dataset) -> set[str]:
    """The sides that a file names; more than one is a contradiction."""
    words = text(dataset, "SeriesDescription").upper().replace("-", "_").replace(" ", "_").split("_")
    named = {side for word, side in (("RIGHT", "R"), ("LEFT", "L")) if word in words}
    for tag in ("ImageLaterality", "Laterality", "FrameLaterality"):
        named |= {text(dataset, tag).upper()} & {"R", "L"}
    return named
