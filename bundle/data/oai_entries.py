"""The image series that a release holds, as its lists name them or, failing these, as their headers do."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundle.data.oai_layout import CONTENTS, RELEASE, VISITS, Layout, visit_of_release
from bundle.data.table_files import rows
from bundle.transforms.archive import ARCHIVES, is_archive, is_image_name, members
from bundle.transforms.dicom_file import open_dicom, text

PARTICIPANT = re.compile(r"^[0-9A-Za-z-]{1,32}$")
_SHEET_COLUMNS = frozenset(
    ("VISIT", "IMAGE_FILE", "IMAGE_DESCRIPTION", "IMAGE_FILE_FORMAT", "COMMENTS_MISC", "IMAGE_MODALITY")
)

Drop = Callable[[str, str, str], None]
"""Told of what is not used: knee, reason, file."""


@dataclass(frozen=True)
class Entry:
    """One image series.

    Args:
        place: its folder or archive.
        participant: OAI's ID.
        visit: such as `00m`.
        description: of the series.
        study: description of the study, which may name the side.
        order: later ones were taken later.
    """

    place: Path
    participant: str
    visit: str
    description: str
    study: str
    order: tuple[str, int, str]

    @property
    def shown(self) -> str:
        """A pattern that finds the file and holds neither date nor barcode."""
        return shown(self.place, self.participant)


def shown(place: Path, participant: str) -> str:
    """`0.C.2/9000001/*/*` of a series' place: what may stand in a report."""
    parts = place.parts
    at = len(parts) - 1 - parts[::-1].index(participant) if participant in parts else len(parts)
    release = parts[at - 1] if 0 < at < len(parts) and RELEASE.match(parts[at - 1]) else "*"
    ending = next((end for end in ARCHIVES if place.name.lower().endswith(end)), "")
    return "/".join([release, participant, *("*" for _ in parts[at + 1 :])]) + ending


def list_entries(layout: Layout, drop: Drop) -> list[Entry]:
    """Every series of a release: those of `contents.csv`, of NDA's `image03.txt`, then those that no list names.

    Raises:
        ValueError: if a list lacks its columns.
    """
    result: list[Entry] = []
    listed: set[Path] = set()
    for folder in layout.image_folders:
        for entry in _from_contents(folder, listed, drop):
            result.append(entry)
    for sheet in layout.sheets:
        for entry in _from_sheet(sheet, layout, listed, drop):
            result.append(entry)
    for folder in layout.image_folders:
        for place in sorted(folder.glob("*.*.*/*/*/*")):
            release = visit_of_release(place.relative_to(folder).parts[0])
            if place in listed or release is None or not (place.is_dir() or is_archive(place)):
                continue
            read = _from_header(place, release)
            if read is None:
                name = place.parent.parent.name
                drop(name, f"a series absent from {CONTENTS} has no readable header", shown(place, name))
            else:
                result.append(read)
    return result


def _from_contents(folder: Path, listed: set[Path], drop: Drop) -> Iterator[Entry]:
    for path in sorted(path for path in folder.iterdir() if path.name.lower() == CONTENTS):
        for number, row in _contents(path):
            place = folder / row.get("FOLDER", "")
            participant = row.get("PARTICIPANTID", "")
            where = f"{CONTENTS} row {number}"
            if not row.get("FOLDER") or not PARTICIPANT.match(participant):
                drop(where, "lacks Folder or ParticipantID", "")
                continue
            if Path(row["FOLDER"]).is_absolute() or ".." in Path(row["FOLDER"]).parts:
                drop(where, "its Folder lies outside the release", "")
                continue
            if Path(row["FOLDER"]).parts[1:2] not in ((), (participant,)):
                drop(where, "its Folder is of another participant", "")
                continue
            if not row.get("SERIESDESCRIPTION"):
                continue  # the header may say it
            if not place.exists():
                place = next((p for end in ARCHIVES if (p := place.with_name(place.name + end)).is_file()), place)
            listed.add(place)
            order = (row.get("STUDYDATE", ""), _barcode(row.get("BARCODE", place.name)), str(place))
            visit = visit_of_release(place.relative_to(folder).parts[0]) or folder.name.lower().removeprefix("oai_")
            study = row.get("STUDYDESCRIPTION", "")
            yield Entry(place, participant, visit, row["SERIESDESCRIPTION"], study, order)


def _from_sheet(sheet: Path, layout: Layout, listed: set[Path], drop: Drop) -> Iterator[Entry]:
    """Series of NDA's list that are on this disk; what was not downloaded is passed over, as are thumbnails."""
    for number, row in rows(sheet, _SHEET_COLUMNS.__contains__):
        participant, file = row.get("ID") or "", row.get("IMAGE_FILE") or ""
        if not PARTICIPANT.match(participant) or not file:
            drop(f"{sheet.name} row {number}", "lacks src_subject_id or image_file", "")
            continue
        parts = PurePosixPath(re.sub(r"^[a-z0-9]+://", "", file.replace("\\", "/"))).parts
        if not is_image_name(parts[-1]) or (row.get("IMAGE_FILE_FORMAT") or "DICOM").upper() != "DICOM":
            continue
        if ".." in parts:
            drop(f"{sheet.name} row {number}", "its image_file lies outside the release", "")
            continue
        place = _on_disk(parts, sheet, layout)
        if place is None or place in listed:
            continue
        if len(parts) > 3 and PARTICIPANT.match(parts[-3]) and RELEASE.match(parts[-4]) and parts[-3] != participant:
            drop(f"{sheet.name} row {number}", "its image_file is of another participant", "")
            continue
        visit = next((name for part in parts if (name := visit_of_release(part))), None) or _visit(row.get("VISIT"))
        listed.add(place)
        order = (parts[-2] if len(parts) > 1 else "", _barcode(parts[-1].split(".")[0]), str(place))
        study = row.get("COMMENTS_MISC") or ""
        yield Entry(place, participant, visit, row.get("IMAGE_DESCRIPTION") or "", study, order)


def _on_disk(parts: tuple[str, ...], sheet: Path, layout: Layout) -> Path | None:
    """The archive, or its unpacked folder, by as much of its path as the download kept."""
    bases = [*layout.image_folders, sheet.parent, sheet.parent / "image03"]
    for start in range(max(0, len(parts) - 6), len(parts)):
        for base in bases:
            place = base.joinpath(*parts[start:])
            if place.is_file():
                return place
            unpacked = place.with_name(place.name.split(".")[0])
            if is_archive(place) and unpacked.is_dir():
                return unpacked
    return None


def _from_header(place: Path, visit: str) -> Entry | None:
    try:
        if place.is_dir():
            files = sorted(path for path in place.iterdir() if path.is_file() and is_image_name(path.name))
            header = open_dicom(files[0], what=f"series {place}", pixels=False)
        else:
            _, content = next(iter(members(place, what=f"series {place}")))
            header = open_dicom(content, what=f"series {place}", pixels=False)
    except Exception:  # damaged files raise anything; the caller says what is lost
        return None
    participant = place.parent.parent.name
    order = (place.parent.name, _barcode(place.name.split(".")[0]), str(place))
    return Entry(place, participant, visit, text(header, "SeriesDescription"), text(header, "StudyDescription"), order)


def _contents(path: Path) -> list[tuple[int, dict[str, str]]]:
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("latin-1").replace("\x00", "")
    try:
        # line by line: a quotation mark that is not closed spoils its own row and hides no other
        lines = re.split(r"\r\n|\n|\r", content)
        cells = [next(csv.reader([line], skipinitialspace=True), []) for line in lines]
    except csv.Error as error:
        raise ValueError(f"{path}: cannot be read ({error}).") from None
    names = [name.strip().upper() for name in cells[0]] if cells else []
    missing = {"FOLDER", "PARTICIPANTID", "SERIESDESCRIPTION"} - set(names)
    if missing:
        raise ValueError(f"{path}: lacks the column {min(missing)}; expected OAI's {CONTENTS}.")
    return [
        (number, dict(zip(names, (cell.strip() for cell in row), strict=False)))
        for number, row in enumerate(cells[1:], start=2)
        if any(cell.strip() for cell in row)
    ]


def _visit(value: str | None) -> str:
    """`12m` of `V01`; the value itself where it is none of OAI's."""
    match = re.fullmatch(r"\s*V?0*(\d+)\s*", value or "", re.IGNORECASE)
    return VISITS.get(int(match[1]), value or "") if match else (value or "")


def _barcode(value: str) -> int:
    """Barcodes have 8 digits at early visits and 11 or 12 later: they sort as numbers."""
    return int(value) if value.isdigit() else 0
