"""The same cohort as the NIMH Data Archive packs it: one archive a series, image03.txt, and renamed tables."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bundle.phantom.anatomy import Person
from bundle.phantom.faults import Rows
from bundle.phantom.files import temporary, write_text
from bundle.phantom.oai_tables import COLUMNS
from bundle.phantom.series import VISIT

IMAGES = "image03"
"""Folder of the archives, and stem of their list."""
_STORE = f"s3://phantom/submission_1/{IMAGES}"
_LEVEL = 1
"""Of gzip: noise hardly shrinks at any."""


def pack_series(folder: Path) -> Path:
    """Replace the folder of a series by `<folder>.tar.gz` with members `./001`, `./002`, ...; the bytes depend on the
    files alone.

    Returns:
        the archive.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            member = tarfile.TarInfo(f"./{path.name}")
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    packed = folder.with_name(f"{folder.name}.tar.gz")
    temporary(packed).write_bytes(gzip.compress(plain.getvalue(), _LEVEL, mtime=0))
    temporary(packed).replace(packed)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return packed


def write_nda_tables(root: Path, people: Sequence[Person], rows: Iterable[Rows]) -> None:
    """Write `image03.txt` and the structures below `root`: tab-separated, quoted, a second header row of definitions.

    Args:
        root: folder of the download.
        people: in the order of `rows`.
        rows: what `oai_tables.participant_rows` gave, by participant.
    """
    rows = list(rows)
    image = _images(people[0], dict.fromkeys(COLUMNS["contents"], ""))[0]
    content = {"image03.txt": [image]}
    for name, (table, visit, convert) in _STRUCTURES.items():
        blank = dict.fromkeys(COLUMNS[table], "")
        content[name] = [_subject(people[0], "", visit) | convert(people[0], blank)]
    for person, one in zip(people, rows, strict=True):
        content["image03.txt"] += [image for row in one["contents"] for image in _images(person, row)]
        date = _american(one["contents"][0]["StudyDate"])
        for name, (table, visit, convert) in _STRUCTURES.items():
            content[name] += [_subject(person, date, visit) | convert(person, row) for row in one[table]]
    for name, (template, *lines) in content.items():
        columns = list(template)
        definitions = [f"{name.removesuffix('.txt')}: {column}" for column in columns]
        sheet = [columns, definitions, *([line[column] for column in columns] for line in lines)]
        text = "".join("\t".join(f'"{cell}"' for cell in line) + "\n" for line in sheet)
        write_text(root / name, text, encoding="latin-1")


def _subject(person: Person, date: str, visit: str) -> dict[str, str]:
    who = person.covariates
    guid = hashlib.sha256(f"{person.seed}/{who.participant}".encode()).hexdigest()[:8].upper()
    return {
        "subjectkey": f"NDAR_INV{guid}",
        "src_subject_id": who.participant,
        "interview_date": date,
        "interview_age": str(12 * who.age),
        "sex": who.sex,
        "visit": visit,
    }


def _images(person: Person, row: Mapping[str, str]) -> list[dict[str, str]]:
    """The archive of a series, and for a film its thumbnail, which is listed and no archive."""
    film = "^XRAY^" in row["StudyDescription"]
    release = row["Folder"].split("/")[0]
    result = []
    for ending, kind in ((".tar.gz", "DICOM"), ("_1x1.jpg", "JPEG")) if film else ((".tar.gz", "DICOM"),):
        result.append(
            _subject(person, _american(row["StudyDate"]), "V00")
            | {
                "image_file": f"{_STORE}/{VISIT}/{row['Folder']}{ending}",
                "image_description": row["SeriesDescription"],
                "scan_type": "X-Ray" if film else "MR structural (T1)",
                "scan_object": "Live",
                "image_file_format": kind,
                "image_modality": "X-Ray" if film else "MRI",
                "study": f"OAI {VISIT} release {release}",
                "comments_misc": row["StudyDescription"],
                "accession_number": row["Barcode"],
            }
        )
    return result


def _renamed(person: Person, row: Mapping[str, str]) -> dict[str, str]:
    """Columns in lower case without the visit, cells without labels; `barcdbu` and `barcdjd` are `barcode`."""
    result = {}
    for column, cell in row.items():
        name = column.lower().removeprefix("v00").removeprefix("v99e")
        if name != "id":
            result["barcode" if name.startswith("barcd") else name] = _bare(cell)
    return result


def _film(person: Person, row: Mapping[str, str]) -> dict[str, str]:
    return {
        "examtype": row["V00EXAMTP"],
        "side": _bare(row["V00XRSIDE"]),
        "completed": _bare(row["V00COMPLETED"]),
        "accept": _bare(row["V00ACCEPT"]),
        "center": _bare(row["V00CENTER"]),
        "barcode": f"0{row['V00XRBARCD']}",
    }


def _enrollee(person: Person, row: Mapping[str, str]) -> dict[str, str]:
    return {
        "ageyears": str(person.covariates.age),
        "race": _bare(row["P02RACE"]),
        "ethnicity": _bare(row["P02HISP"]),
        "e_cohort": _bare(row["V00COHORT"]),
        "site": row["V00SITE"],
    }


def _risk(person: Person, row: Mapping[str, str]) -> dict[str, str]:
    return {"bmi": row["P01BMI"], "height_av": row["P01HEIGHT"], "weight_met": row["P01WEIGHT"]}


def _bare(cell: str) -> str:
    """`2: Left` as `2`; a missing code as nothing: how the archive stores a cell of the ASCII tables."""
    if cell.startswith("."):
        return ""
    code, colon, _ = cell.partition(": ")
    return code if colon else cell


def _american(date: str) -> str:
    return f"{date[4:6]}/{date[6:]}/{date[:4]}"


_STRUCTURES: dict[str, tuple[str, str, Callable[[Person, Mapping[str, str]], dict[str, str]]]] = {
    "oai_kxrsemiquant01.txt": ("readings", "V00", _renamed),
    "oai_kxrquantjsw01.txt": ("joint_space", "V00", _renamed),
    "oai_xrmeta01.txt": ("xray", "V00", _film),
    "oai_enrollee01.txt": ("enrollees", "V00", _enrollee),
    "oai_oarisk01.txt": ("clinical", "V00", _risk),
    "oai_outcome01.txt": ("outcomes", "V99", _renamed),
}
"""File to the table of `oai_tables.TABLES` that it holds, its visit, and what renames a row."""
