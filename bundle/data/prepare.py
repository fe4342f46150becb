"""From OAI's files to the prepared set: parallel, resumable, with every drop counted."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import optional_import

from bundle.data.datalist import SPLITS
from bundle.data.knee_roi import CropKnee
from bundle.data.oai_dicom import Series, read_mr_series
from bundle.data.oai_index import KneePair, index_release
from bundle.data.oai_tables import find_table, read_covariates, read_readings
from bundle.geometry import FIELD_OF_VIEW_MM, SLICE_WINDOW, Grid
from bundle.readings import check_policy, grade_table
from bundle.transforms import LoadFilm, NormaliseFilm, NormaliseVolume, resize_plane
from bundle.transforms.film_files import PHANTOM_MARK, PREPARED_MARK
from bundle.writers import write_nifti

tqdm, _ = optional_import("tqdm", name="tqdm")

SHARES = (0.7, 0.9)
"""Participants are split 7:2:1 (the paper); the borders of training and of training with validation."""
VISIT_CODES = {"00m": "00", "12m": "01", "18m": "02", "24m": "03", "30m": "04", "36m": "05", "48m": "06"}
VISIT_CODES |= {"72m": "08", "96m": "10"}
MIN_SLICES = 40
"""A series of fewer slices does not cover the window at a useful distance."""


@dataclass(frozen=True)
class Options:
    """What a preparation was asked for; recorded, and a folder of other options is not mixed with.

    Args:
        image_size: rows and columns.
        slices: slices in the window.
        spacing_mm: for films whose files do not say it.
        visit: such as `00m`.
        missing: policy for missing readings, see `GradeTable.encode`.
        table: name of the grade table.
    """

    image_size: int = 256
    slices: int = 50
    spacing_mm: float | None = None
    visit: str = "00m"
    missing: str = "zeros"
    table: str = "oai"


def split_of(participant: str) -> str:
    """The split of a participant: a hash of the ID, so that further participants move nobody."""
    digest = hashlib.sha256(f"knee:{participant}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return SPLITS[sum(share >= border for border in SHARES)]


def prepare(
    oai: str | Path,
    out: str | Path,
    options: Options,
    *,
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Prepare a release.

    Args:
        oai: the release.
        out: folder to write to; knees that are there already are kept.
        options: what to make.
        workers: processes; None means one a core.
        say: gets messages for the user.

    Returns:
        the report: counts at each step and every drop with its reason.

    Raises:
        FileNotFoundError: if release or readings are absent.
        ValueError: if no knee could be prepared, or `out` holds another preparation.
    """
    check_policy(options.missing)
    Grid.of(image_size=options.image_size, slices=options.slices)
    index = index_release(oai, visit=options.visit)
    table_path = find_table(oai, f"kxr_sq_bu{_visit_code(options.visit)}.txt")
    if table_path is None:
        raise FileNotFoundError(
            f"OAI data {oai}: no kxr_sq_bu{_visit_code(options.visit)}.txt below it (the readings)."
        )
    table = grade_table(options.table)
    readings = read_readings(table_path, table, visit=options.visit)
    people = read_covariates(oai)
    out = Path(out)
    _claim(out, options)
    dropped = list(index.dropped)
    entries: list[dict[str, Any]] = []
    work = partial(prepare_knee, out=out, options=options)
    say(f"{len(index.pairs)} knees with film and MR series")
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = {pool.submit(work, pair): pair for pair in index.pairs}
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="knees", unit="knee"):
            pair = jobs[job]
            try:
                source = job.result()
            except (ValueError, OSError) as error:
                dropped.append({"knee": pair.name, "reason": str(error)})
                continue
            entries.append(_entry(pair, readings.get((pair.participant, pair.side)), people, source, options))
    if not entries:
        reasons = Counter(item["reason"] for item in dropped).most_common(1)
        raise ValueError(f"OAI data {oai}: no usable knee" + (f"; for example: {reasons[0][0]}" if reasons else "."))
    entries.sort(key=lambda entry: (entry["participant"], entry["side"]))
    sources = sorted({entry.pop("source") for entry in entries})
    splits = {split: [e for e in entries if split_of(e["participant"]) == split] for split in SPLITS}
    without = sum(all(grade is None for grade in entry["readings"].values()) for entry in entries)
    report = {
        "options": asdict(options),
        "counts": {
            **index.counts,
            "prepared": len(entries),
            "without_readings": without,
            **{split: len(items) for split, items in splits.items()},
        },
        "dropped": sorted(dropped, key=lambda item: item["knee"]),
    }
    content = {"source": "; ".join(sources), "options": asdict(options), **splits}
    _write(out / "report.json", json.dumps(report, indent=2) + "\n")
    _write_rejected(out / "rejected.csv", report["dropped"])
    _write(out / "dataset.json", json.dumps(content, indent=1) + "\n")
    return report


def prepare_knee(pair: KneePair, *, out: Path, options: Options) -> str:
    """Prepare one knee, unless it is there.

    Returns:
        `synthetic-phantom` or `oai`.

    Raises:
        ValueError: if film or series cannot be used.
    """
    film_path, volume_path = _paths(out, pair)
    record = volume_path.with_suffix("").with_suffix(".json")
    if film_path.is_file() and volume_path.is_file() and record.is_file():
        return json.loads(record.read_text())["source"]
    series = read_mr_series(pair.series)
    if series.side not in (None, pair.side):
        raise ValueError(f"series {pair.series}: is of side {series.side}, its entry in contents.csv says {pair.side}.")
    film = LoadFilm(options.spacing_mm)(pair.film)
    phantom = bool(film.meta["synthetic_phantom"]) and series.synthetic_phantom
    source = PHANTOM_MARK if phantom else "oai"
    cut = NormaliseFilm()(CropKnee(options.image_size)(film, pair.side))
    values, affine = resample_series(series, image_size=options.image_size, slices=options.slices)
    volume = NormaliseVolume()(MetaTensor(torch.from_numpy(values), meta={"filename_or_obj": str(pair.series)}))
    for path in (film_path, volume_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"; {PHANTOM_MARK}" if phantom else ""
    write_nifti((cut.numpy()[0] + 1) / 2, cut.affine.numpy(), film_path, description=PREPARED_MARK + mark)
    write_nifti((volume.numpy() + 1) / 2, affine, volume_path, description="knee MRI on the model's grid" + mark)
    confidence = round(float(cut.meta.get("knee_confidence", 1.0)), 3)
    _write(record, json.dumps({"source": source, "knee_confidence": confidence}) + "\n")
    return source


def resample_series(series: Series, *, image_size: int, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Bring a series to the grid: its own axes and in-plane middle, the slice window of its own extent.

    80 slices of 1.5 mm give exactly the slices [13, 63); other counts are interpolated linearly in depth.

    Returns:
        (H, W, S) float32 and its affine, voxel to RAS mm.

    Raises:
        ValueError: if the series does not cover the field of view, or has too few slices.
    """
    rows, columns, count = series.volume.shape
    edges = [float(np.linalg.norm(series.affine[:3, axis])) for axis in range(3)]
    if count < MIN_SLICES:
        raise ValueError(f"series has {count} slices, expected {MIN_SLICES} or more.")
    extents = (rows * edges[0], columns * edges[1])
    if min(extents) < 0.8 * FIELD_OF_VIEW_MM:
        raise ValueError(
            f"series covers {extents[0]:.0f} x {extents[1]:.0f} mm in plane, expected {FIELD_OF_VIEW_MM:.0f}."
        )
    first, last = (edge * count - 0.5 for edge in SLICE_WINDOW)
    pitch = (last - first) / slices
    positions = first + (np.arange(slices) + 0.5) * pitch
    low = np.clip(np.floor(positions + 1e-6).astype(int), 0, count - 1)
    high = np.clip(low + 1, 0, count - 1)
    share = np.clip(positions - low, 0, 1)
    share[share < 1e-5] = 0
    planes = torch.from_numpy(series.volume).permute(2, 0, 1)
    chosen = planes[low] * torch.from_numpy(1 - share).float()[:, None, None]
    chosen = chosen + planes[high] * torch.from_numpy(share).float()[:, None, None]
    resized = _field_of_view(chosen, edges[:2], image_size)
    affine = series.affine.copy()
    middle = affine @ np.array([(rows - 1) / 2, (columns - 1) / 2, positions[0], 1.0])
    spacing = FIELD_OF_VIEW_MM / image_size
    for axis, edge in ((0, edges[0]), (1, edges[1])):
        affine[:3, axis] *= spacing / edge
    affine[:3, 2] *= pitch
    affine[:3, 3] = middle[:3] - affine[:3, :2] @ np.full(2, (image_size - 1) / 2)
    return resized.permute(1, 2, 0).numpy(), affine


def _field_of_view(planes: torch.Tensor, edges: list[float], image_size: int) -> torch.Tensor:
    """(S, h, w) to (S, image_size, image_size) over the field of view about the middle; zeros outside the series."""
    wanted = [round(FIELD_OF_VIEW_MM / edge) for edge in edges]
    pad: list[int] = []
    for size, have in zip(reversed(wanted), reversed(planes.shape[1:]), strict=True):
        before = (size - have) // 2
        pad += [before, size - have - before]
    return resize_plane(torch.nn.functional.pad(planes, pad)[:, None], image_size)[:, 0]


def _paths(out: Path, pair: KneePair) -> tuple[Path, Path]:
    return out / "films" / f"{pair.name}.nii.gz", out / "volumes" / f"{pair.name}.nii.gz"


def _entry(
    pair: KneePair, readings: dict[str, Any] | None, people: dict[str, dict[str, Any]], source: str, options: Options
) -> dict[str, Any]:
    grades = dict(readings or dict.fromkeys(grade_table(options.table).highest))
    if options.missing == "grade0":
        grades = {name: 0 if grade is None else grade for name, grade in grades.items()}
    person = people.get(pair.participant) or dict.fromkeys(("age", "sex", "bmi", "site"))
    return {
        "film": f"films/{pair.name}.nii.gz",
        "mri": f"volumes/{pair.name}.nii.gz",
        "participant": pair.participant,
        "side": pair.side,
        "visit": pair.visit,
        "readings": grades,
        **person,
        "source": source,
    }


def _claim(out: Path, options: Options) -> None:
    """Note the options in the folder, or refuse a folder with others."""
    out.mkdir(parents=True, exist_ok=True)
    note = out / "options.json"
    text = json.dumps(asdict(options), indent=2) + "\n"
    if note.is_file() and note.read_text() != text:
        raise ValueError(f"{out}: holds knees prepared with other options; choose another --out.")
    _write(note, text)


def _visit_code(visit: str) -> str:
    """OAI's file suffix of a visit."""
    if visit not in VISIT_CODES:
        raise ValueError(f"`visit` must be one of {', '.join(VISIT_CODES)}, got {visit!r}.")
    return VISIT_CODES[visit]


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def _write_rejected(path: Path, dropped: list[dict[str, str]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("knee", "reason"))
        writer.writeheader()
        writer.writerows(dropped)
    os.replace(temporary, path)
