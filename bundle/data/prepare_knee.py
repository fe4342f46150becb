"""One knee from OAI's files onto the model's grid: film and volume as NIfTI, true anatomy, values in [0, 1]."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from bundle.data.boxes import Box, knee_in_box
from bundle.data.knee_roi import CropKnee
from bundle.data.oai_dicom import Series
from bundle.data.oai_entries import shown
from bundle.data.oai_index import MR_SERIES, KneePair
from bundle.data.oai_layout import visit_number
from bundle.data.slice_window import MIN_SLICES, resample_series
from bundle.data.volume_files import read_volume
from bundle.keys import CONFIDENCE
from bundle.readings import check_policy, grade_table
from bundle.transforms import LoadFilm, NormaliseFilm, NormaliseVolume
from bundle.transforms.film_files import PHANTOM_MARK, PREPARED_MARK
from bundle.writers import whole, write_nifti

FILMS, VOLUMES = "films", "volumes"
PROFILE_MM = tuple(range(-60, 61, 3))
"""Places in front of the middle of the field of view at which the grey value over depth is noted."""


@dataclass(frozen=True)
class Options:
    """What a preparation was asked for.

    Args:
        image_size: rows and columns.
        slices: slices in the window.
        spacing_mm: for films whose files do not say it.
        visit: such as `00m`, or several.
        missing: policy for missing readings, see `GradeTable.encode`.
        table: name of the grade table.
        min_slices: series of fewer are refused: they do not cover the window at a useful distance.
        series: first part of the MR series' description.

    Raises:
        ValueError: if an option is out of range, when built.
    """

    image_size: int = 256
    slices: int = 50
    spacing_mm: float | None = None
    visit: str | tuple[str, ...] = "00m"
    missing: str = "zeros"
    table: str = "oai"
    min_slices: int = MIN_SLICES
    series: str = MR_SERIES

    @property
    def visits(self) -> tuple[str, ...]:
        """The visits, each once."""
        return (self.visit,) if isinstance(self.visit, str) else tuple(dict.fromkeys(self.visit))

    def __post_init__(self) -> None:
        check_policy(self.missing)
        grade_table(self.table)
        if not self.visits or not self.series.strip():
            raise ValueError("`visit` and `series` must name at least one visit and a series.")
        for visit in self.visits:
            visit_number(visit)
        if not 16 <= self.image_size <= 1024:
            raise ValueError(f"`image_size` must lie between 16 and 1024, got {self.image_size}.")
        if not 2 <= self.slices <= 512:
            raise ValueError(f"`slices` must lie between 2 and 512, got {self.slices}.")
        if self.spacing_mm is not None and not 0.01 <= self.spacing_mm <= 5:
            raise ValueError(f"`spacing_mm` must lie between 0.01 and 5 mm, got {self.spacing_mm}.")


@dataclass(frozen=True)
class Outcome:
    """How the preparation of one knee ended.

    Args:
        pair: the knee.
        note: what was noted of it where it was prepared, see `prepare_knee`.
        reason: why it was not, else empty; holds no path and no date.
    """

    pair: KneePair
    note: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def file(self) -> str:
        """A pattern that finds the file of the reason and holds neither date nor barcode; empty for the user's own."""
        if self.pair.own:
            return "film" if self.reason.startswith("film") else "mri"
        place = self.pair.film if self.reason.startswith("film") else self.pair.series
        return shown(place, self.pair.participant)


def try_knee(
    pair: KneePair,
    *,
    out: Path,
    options: Options,
    boxes: dict[tuple[str, str, str], Box] | None = None,
    finder: Path | None = None,
) -> Outcome:
    """`prepare_knee` for a pool of processes: a bad knee is an outcome and stops nothing."""
    try:
        return Outcome(pair, note=prepare_knee(pair, out=out, options=options, boxes=boxes, finder=finder))
    except MemoryError:
        return Outcome(pair, reason="not enough memory for its images")
    except Exception as error:  # damaged files raise anything, and one knee must not end the run
        reason = " ".join(str(error).split()) or type(error).__name__
        # paths hold dates; a report that is shown around names the knee and the file in its folder
        for path, name in ((pair.series, ""), (pair.film, ""), (pair.film.parent, "")):
            reason = reason.replace(str(path), name)
        return Outcome(pair, reason=re.sub(r"\s+(?=[:,])", "", reason))


def paths_of(pair: KneePair) -> tuple[str, str]:
    """Film and volume of a knee, relative to the prepared set."""
    return f"{FILMS}/{pair.name}.nii.gz", f"{VOLUMES}/{pair.name}.nii.gz"


def prepare_knee(
    pair: KneePair,
    *,
    out: Path,
    options: Options,
    boxes: dict[tuple[str, str, str], Box] | None = None,
    finder: Path | None = None,
) -> dict[str, Any]:
    """Prepare one knee, unless it is there; `boxes`, or else `finder`, say where it is on the film.

    Returns:
        what is noted of it: `source` (`synthetic-phantom`, `oai` or `own`), how sure the knee finder was, spacings,
        the number of slices, and the mean grey value at `PROFILE_MM`.

    Raises:
        ValueError: if film or series cannot be used.
        OSError: if a file cannot be read or written.
    """
    film_path, volume_path = (out / path for path in paths_of(pair))
    record = volume_path.with_name(f"{pair.name}.json")
    if film_path.is_file() and volume_path.is_file() and (note := _recorded(record)):
        return note
    cut, volume, affine, note = make_knee(pair, options=options, boxes=boxes, finder=finder)
    mark = f"; {PHANTOM_MARK}" if note["source"] == PHANTOM_MARK else ""
    write_nifti((cut.numpy()[0] + 1) / 2, cut.affine.numpy(), film_path, description=PREPARED_MARK + mark)
    write_nifti((volume + 1) / 2, affine, volume_path, description="knee MRI, slice window" + mark)
    write_text(record, json.dumps(note) + "\n")
    return note


def make_knee(
    pair: KneePair,
    *,
    options: Options,
    boxes: dict[tuple[str, str, str], Box] | None = None,
    finder: Path | None = None,
) -> tuple[MetaTensor, np.ndarray, np.ndarray, dict[str, Any]]:
    """Film and volume of one knee on the grid, in [-1, 1]; nothing is written.

    Returns:
        the film (1, H, W, 1), the volume (H, W, S), its affine, and the note of `prepare_knee`.

    Raises:
        ValueError: if film or series cannot be used.
    """
    series = read_volume(pair.series)
    if series.side not in (None, pair.side):
        raise ValueError(f"series: its header says side {series.side}, its entry in the release {pair.side}.")
    if re.fullmatch(r"9\d{6}", series.participant) and series.participant != pair.participant and not pair.own:
        raise ValueError("series: its header names another participant than its folder.")
    film = LoadFilm(pair.spacing_mm or options.spacing_mm)(pair.film)
    if film.meta.get("side") not in (None, pair.side):
        raise ValueError(f"film: its header says side {film.meta['side']}, expected {pair.side}.")
    knee = knee_in_box(boxes, pair, film) if boxes else None
    cut = NormaliseFilm()(CropKnee(options.image_size, finder)(film, pair.side, knee))
    values, affine = resample_series(
        series, image_size=options.image_size, slices=options.slices, min_slices=options.min_slices
    )
    volume = NormaliseVolume()(MetaTensor(torch.from_numpy(values)[None], meta={"filename_or_obj": "series"}))[0]
    phantom = bool(film.meta["synthetic_phantom"]) and series.synthetic_phantom
    note = {
        "source": PHANTOM_MARK if phantom else "own" if pair.own else "oai",
        CONFIDENCE: round(float(cut.meta[CONFIDENCE]), 3),
        "film_spacing": cut.meta["spacing_source"],
        "film_spacing_mm": round(float(film.affine[:3, 0].norm()), 4),
        "slices": series.volume.shape[2],
        "slice_spacing_mm": round(float(np.linalg.norm(series.affine[:3, 2])), 4),
        "profile": _profile(series),
        "notes": list(series.notes),
    }
    return cut, volume.numpy(), affine, note


def _profile(series: Series) -> list[float | None]:
    """Mean grey value, between the volume's robust percentiles, at `PROFILE_MM`; None beyond the series."""
    low, high = np.percentile(series.volume[::4, ::4], [0.5, 99.5])
    means = (series.volume.mean((0, 1)) - low) / max(high - low, 1e-9)
    place = (np.arange(len(means)) - (len(means) - 1) / 2) * np.linalg.norm(series.affine[:3, 2])
    grey = np.interp(PROFILE_MM, place, means, left=np.nan, right=np.nan)
    return [None if np.isnan(value) else round(float(value), 4) for value in grey]


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; bytes of file names that are no text are written as escapes."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _recorded(record: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and {"source", "profile"} <= set(note) else None
