"""One knee from OAI's files onto the model's grid: film and volume as NIfTI, true anatomy, values in [0, 1]."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from bundle.data.knee_roi import CONFIDENCE, CropKnee
from bundle.data.oai_dicom import Series, read_mr_series
from bundle.data.oai_index import KneePair
from bundle.data.oai_layout import visit_number
from bundle.geometry import FIELD_OF_VIEW_MM, PROTOCOL_DEPTH_MM, SLICE_WINDOW
from bundle.readings import check_policy, grade_table
from bundle.transforms import LoadFilm, NormaliseFilm, NormaliseVolume, apply_weights, axis_weights
from bundle.transforms.film_files import PHANTOM_MARK, PREPARED_MARK
from bundle.writers import whole, write_nifti

FILMS, VOLUMES = "films", "volumes"
MIN_COVERAGE = 0.8
"""A series must cover this share of the field of view along rows and columns."""
MIN_SLICES = 25
"""Fewer are too far apart to fill the window; OAI's coarsest coronal sequence has 35 slices of 3 mm."""
WINDOW_MM = (SLICE_WINDOW[1] - SLICE_WINDOW[0]) * PROTOCOL_DEPTH_MM
WINDOW_MIDDLE_MM = ((SLICE_WINDOW[0] + SLICE_WINDOW[1]) / 2 - 0.5) * PROTOCOL_DEPTH_MM
"""Depth of the slice window, 75 mm, and its middle in front of the field of view's: -3 mm."""


@dataclass(frozen=True)
class Options:
    """What a preparation was asked for.

    Args:
        image_size: rows and columns.
        slices: slices in the window.
        spacing_mm: for films whose files do not say it.
        visit: such as `00m`.
        missing: policy for missing readings, see `GradeTable.encode`.
        table: name of the grade table.
        min_slices: series of fewer are refused: they do not cover the window at a useful distance.

    Raises:
        ValueError: if an option is out of range, when built.
    """

    image_size: int = 256
    slices: int = 50
    spacing_mm: float | None = None
    visit: str = "00m"
    missing: str = "zeros"
    table: str = "oai"
    min_slices: int = MIN_SLICES

    def __post_init__(self) -> None:
        check_policy(self.missing)
        grade_table(self.table)
        visit_number(self.visit)
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
        source: `synthetic-phantom` or `oai` where it was prepared.
        reason: why it was not, else empty; holds no path and no date.
    """

    pair: KneePair
    source: str = ""
    reason: str = ""


def try_knee(pair: KneePair, *, out: Path, options: Options) -> Outcome:
    """`prepare_knee` for a pool of processes: a bad knee is an outcome and stops nothing."""
    try:
        return Outcome(pair, source=prepare_knee(pair, out=out, options=options))
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


def prepare_knee(pair: KneePair, *, out: Path, options: Options) -> str:
    """Prepare one knee, unless it is there.

    Returns:
        `synthetic-phantom` or `oai`.

    Raises:
        ValueError: if film or series cannot be used.
        OSError: if a file cannot be read or written.
    """
    film_path, volume_path = (out / path for path in paths_of(pair))
    record = volume_path.with_name(f"{pair.name}.json")
    if film_path.is_file() and volume_path.is_file() and (source := _recorded(record)):
        return source
    series = read_mr_series(pair.series)
    if series.side not in (None, pair.side):
        raise ValueError(f"series: its header says side {series.side}, its entry in the release {pair.side}.")
    if re.fullmatch(r"9\d{6}", series.participant) and series.participant != pair.participant:
        raise ValueError("series: its header names another participant than its folder.")
    film = LoadFilm(options.spacing_mm)(pair.film)
    if film.meta.get("side") not in (None, pair.side):
        raise ValueError(f"film: its header says side {film.meta['side']}, expected {pair.side}.")
    cut = NormaliseFilm()(CropKnee(options.image_size)(film, pair.side))
    values, affine = resample_series(
        series, image_size=options.image_size, slices=options.slices, min_slices=options.min_slices
    )
    volume = NormaliseVolume()(MetaTensor(torch.from_numpy(values)[None], meta={"filename_or_obj": "series"}))[0]
    phantom = bool(film.meta["synthetic_phantom"]) and series.synthetic_phantom
    source, mark = (PHANTOM_MARK, f"; {PHANTOM_MARK}") if phantom else ("oai", "")
    write_nifti((cut.numpy()[0] + 1) / 2, cut.affine.numpy(), film_path, description=PREPARED_MARK + mark)
    write_nifti((volume.numpy() + 1) / 2, affine, volume_path, description="knee MRI, slice window" + mark)
    note = {"source": source, "knee_confidence": round(float(cut.meta[CONFIDENCE]), 3)}
    note["film_spacing"] = cut.meta["spacing_source"]
    write_text(record, json.dumps(note) + "\n")
    return source


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


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _recorded(record: Path) -> str | None:
    try:
        return str(json.loads(record.read_text())["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
