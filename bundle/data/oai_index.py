"""Find films and MR series in OAI's directory release, and pair them by participant and visit."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bundle.data.oai_layout import CONTENTS, Layout, find_layout, visit_number, visit_of_release
from bundle.transforms.dicom_file import open_dicom, text

BILATERAL_FILM = "BILATERAL PA FIXED FLEXION KNEE"
SINGLE_FILM = re.compile(r"^PA FIXED FLEXION (?:(RIGHT|LEFT) KNEE|KNEE (RIGHT|LEFT))$")
MR_SERIES = "COR_T1_3D_FLASH"
_SIDES = {"RIGHT": "R", "LEFT": "L"}
_PARTICIPANT = re.compile(r"^[0-9A-Za-z-]{1,32}$")


@dataclass(frozen=True)
class KneePair:
    """Where one knee's film and MR series lie.

    Args:
        participant: OAI's ID.
        side: `R` or `L`.
        visit: such as `00m`.
        film: file of the film.
        series: folder of the MR series.
    """

    participant: str
    side: str
    visit: str
    film: Path
    series: Path

    @property
    def name(self) -> str:
        """Stem of everything that is derived from this knee."""
        return f"{self.participant}_{self.side}_{self.visit}"


@dataclass
class Index:
    """What a release holds of one visit.

    Args:
        pairs: knees with film and MR series, sorted.
        counts: how many were seen at each step.
        dropped: knee (or participant, or row) and reason; paths and dates stay out of it.
    """

    pairs: list[KneePair] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)

    def drop(self, knee: str, reason: str) -> None:
        """Note that something is not used, and why."""
        self.dropped.append({"knee": knee, "reason": reason})


@dataclass(frozen=True)
class _Entry:
    """One image series: what `contents.csv` or, failing it, a header says."""

    folder: Path
    participant: str
    description: str
    study: str
    order: tuple[str, int, str]


def index_release(
    root: str | Path, *, visit: str = "00m", series: str = MR_SERIES, layout: Layout | None = None
) -> Index:
    """List the knees of one visit.

    Film and MR may have been taken on different days, so they are paired by participant and visit. Of a series that
    was repeated the last counts. Series that `contents.csv` lacks are known by their headers.

    Args:
        root: folder that holds the release, at any depth.
        visit: such as `00m`.
        series: first part of the MR series' description.
        layout: what `find_layout(root)` gave, to look only once.

    Raises:
        FileNotFoundError: if `root` or the visit is absent.
        ValueError: if `visit` is not one of OAI's, or a `contents.csv` is not what it should be.
    """
    visit_number(visit)
    layout = layout or find_layout(root)
    result = Index()
    entries, other_visits = [], set()
    for folder in layout.image_folders:
        for found, entry in _entries(folder, result):
            if found == visit:
                entries.append(entry)
            else:
                other_visits.add(found)
    if not entries:
        there = f"; it holds {', '.join(sorted(other_visits))}" if other_visits else ""
        raise FileNotFoundError(
            f"OAI data {root}: nothing of visit {visit} in it{there}. Expected folders such as {visit}/0.C.2 with a "
            f"{CONTENTS}."
        )
    films: dict[tuple[str, str], Path] = {}
    scans: dict[tuple[str, str], Path] = {}
    for entry in sorted(entries, key=lambda entry: entry.order):
        description = re.sub(r"\s+", " ", entry.description.strip().upper())
        if description == BILATERAL_FILM:
            _keep_last(films, entry, ("R", "L"), f"film of visit {visit}", result)
        elif single := SINGLE_FILM.match(description):
            _keep_last(films, entry, (_SIDES[single[1] or single[2]],), f"film of visit {visit}", result)
        elif description.startswith(series.upper()):
            named = {side for word, side in _SIDES.items() if description.endswith(word)}
            named = named or {side for word, side in _SIDES.items() if word in entry.study.upper()}
            if len(named) == 1:
                _keep_last(scans, entry, tuple(named), f"MR series of visit {visit}", result)
            else:
                result.drop(entry.participant, f"MR series {entry.description} names no side")
    for (participant, side), folder in sorted(scans.items()):
        name = f"{participant}_{side}_{visit}"
        film = films.get((participant, side))
        files = sorted(path for path in film.iterdir() if _is_image(path)) if film else []
        if not files:
            result.drop(name, "film folder has no file" if film else "MR series without a film")
            continue
        if len(files) > 1:
            result.drop(name, f"film folder has {len(files)} files (kept: last)")
        result.pairs.append(KneePair(participant, side, visit, files[-1], folder))
    for participant, side in sorted(set(films) - set(scans)):
        result.drop(f"{participant}_{side}_{visit}", "film without an MR series")
    result.counts = {
        "series": len(entries),
        "participants": len({entry.participant for entry in entries}),
        "film_knees": len(films),
        "mr_knees": len(scans),
        "pairs": len(result.pairs),
    }
    return result


def _keep_last(
    kept: dict[tuple[str, str], Path], entry: _Entry, sides: tuple[str, ...], what: str, index: Index
) -> None:
    if not entry.folder.is_dir():
        index.drop(entry.participant, f"{what} is listed, but its folder is not there")
        return
    for side in sides:
        if (entry.participant, side) in kept:
            index.drop(f"{entry.participant}_{side}", f"an earlier {what} was repeated (kept: last)")
        kept[entry.participant, side] = entry.folder


def _entries(folder: Path, index: Index) -> Iterator[tuple[str, _Entry]]:
    """Visit and entry of every series below an image folder, those of `contents.csv` first."""
    listed = set()
    for path in sorted(path for path in folder.iterdir() if path.name.lower() == CONTENTS):
        for number, row in _rows(path):
            place = folder / row.get("FOLDER", "")
            participant = row.get("PARTICIPANTID", "")
            if not row.get("FOLDER") or not _PARTICIPANT.match(participant):
                index.drop(f"{CONTENTS} row {number}", "lacks Folder or ParticipantID")
                continue
            if Path(row["FOLDER"]).is_absolute() or ".." in Path(row["FOLDER"]).parts:
                index.drop(f"{CONTENTS} row {number}", "its Folder lies outside the release")
                continue
            if Path(row["FOLDER"]).parts[1:2] not in ((), (participant,)):
                index.drop(f"{CONTENTS} row {number}", "its Folder is of another participant")
                continue
            listed.add(place)
            if not row.get("SERIESDESCRIPTION"):
                listed.discard(place)  # the header may say it
                continue
            order = (row.get("STUDYDATE", ""), _barcode(row.get("BARCODE", place.name)), str(place))
            study = row.get("STUDYDESCRIPTION", "")
            yield _visit(folder, place), _Entry(place, participant, row["SERIESDESCRIPTION"], study, order)
    for place in sorted(folder.glob("*.*.*/*/*/*")):
        if place in listed or not place.is_dir() or visit_of_release(place.relative_to(folder).parts[0]) is None:
            continue
        entry = _from_header(place)
        if entry is None:
            index.drop(f"{place.parent.parent.name}", f"a series absent from {CONTENTS} has no readable header")
        else:
            yield _visit(folder, place), entry


def _from_header(place: Path) -> _Entry | None:
    files = sorted(path for path in place.iterdir() if _is_image(path))
    if not files:
        return None
    try:
        header = open_dicom(files[0], what=f"series {place}", pixels=False)
    except Exception:  # damaged files raise anything; the caller says what is lost
        return None
    participant = place.parent.parent.name
    order = (place.parent.name, _barcode(place.name), str(place))
    return _Entry(place, participant, text(header, "SeriesDescription"), text(header, "StudyDescription"), order)


def _visit(folder: Path, place: Path) -> str:
    """By the release; an unknown one by the name of the visit's folder, such as `00m` or `OAI_00m`."""
    release = place.relative_to(folder).parts[0]
    return visit_of_release(release) or folder.name.lower().removeprefix("oai_")


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("latin-1").replace("\x00", "")
    try:
        rows = list(csv.reader(re.split(r"\r\n|\n|\r", content), skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"{path}: cannot be read ({error}).") from None
    names = [name.strip().upper() for name in rows[0]] if rows else []
    missing = {"FOLDER", "PARTICIPANTID", "SERIESDESCRIPTION"} - set(names)
    if missing:
        raise ValueError(f"{path}: lacks the column {min(missing)}; expected OAI's {CONTENTS}.")
    return [
        (number, dict(zip(names, (cell.strip() for cell in row), strict=False)))
        for number, row in enumerate(rows[1:], start=2)
        if any(cell.strip() for cell in row)
    ]


def _is_image(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in (".jpg", ".txt", ".csv")


def _barcode(value: str) -> int:
    """Barcodes have 8 digits at early visits and 11 or 12 later: they sort as numbers."""
    return int(value) if value.isdigit() else 0
