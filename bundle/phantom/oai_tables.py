"""The rows of OAI's tables, and their ASCII files: images, enrolment, readings, joint space, outcomes."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from bundle.geometry import KNEE_DETECTOR_MM, SIDES, SOURCE_DETECTOR_MM
from bundle.phantom.anatomy import Person
from bundle.phantom.faults import SOUND, Fault, Rows
from bundle.phantom.files import write_text
from bundle.phantom.film_geometry import CAUDAL_DEG
from bundle.phantom.reading_rows import MISSING, PROSTHETIC, reading_rows
from bundle.phantom.series import RELEASES, VISIT, Series
from bundle.phantom.streams import stream
from bundle.readings import VARIABLES

TABLES = {
    "contents": f"{VISIT}/contents.csv",
    "readings": "X-Ray Image Assessments_ASCII/Semi-Quant Scoring_ASCII/kxr_sq_bu00.txt",
    "joint_space": "X-Ray Image Assessments_ASCII/Quant JSW_ASCII/kxr_qjsw_duryea00.txt",
    "xray": "X-Ray MetaData_ASCII/XRay00.txt",
    "enrollees": "General_ASCII/Enrollees.txt",
    "clinical": "AllClinical_ASCII/AllClinical00.txt",
    "outcomes": "General_ASCII/OUTCOMES99.txt",
}
COLUMNS = {
    "contents": ("Folder", "ParticipantID", "StudyDate", "Barcode", "StudyDescription", "SeriesDescription"),
    "readings": ("ID", "SIDE", "READPRJ", "V00BARCDBU", *(f"V00{variable}" for variable in VARIABLES)),
    "joint_space": ("ID", "SIDE", "READPRJ", "V00BARCDJD", "V00MCMJSW", "V00BMANG", "V00IMPIXSZ"),
    "xray": ("ID", "V00EXAMTP", "V00XRDATE", "V00XRBARCD", "V00XRSIDE", "V00COMPLETED", "V00ACCEPT", "V00CENTER"),
    "enrollees": (
        *("ID", "P02SEX", "P02RACE", "P02HISP", "V00SITE", "V00COHORT", "V00CHRTHLF"),
        *(f"V00IMAGES{letter}" for letter in "ABCDEFG"),
    ),
    "clinical": ("ID", "P02SEX", "V00SITE", "V00AGE", "P01BMI", "P01WEIGHT", "P01HEIGHT"),
    "outcomes": ("ID", "V99ELKBLRP", "V99ERKBLRP"),
}
_JSW_PROJECT = 16
"""Code of the project that measures joint space width; from memory."""
_JSW_ERROR_MM, _ANGLE_ERROR_DEG = 0.1, 0.5
"""SD of a measured joint space width and beam angle; design values."""
_SIDE = {"R": "1: Right", "L": "2: Left", "B": "3: Both"}
_SEX = {"M": "1: Male", "F": "2: Female"}
_NO_YES = ("0: No", "1: Yes")


def participant_rows(
    person: Person,
    series: Sequence[Series],
    *,
    film_spacing_mm: float,
    replaced: Collection[str] = (),
    fault: Fault = SOUND,
) -> Rows:
    """Every table's rows of one participant, in the ASCII release's words.

    Args:
        person: the participant.
        series: the images on disk.
        film_spacing_mm: detector pixel, which the joint space table repeats.
        replaced: sides that had a prosthesis at baseline.
        fault: oddity to plant.

    Returns:
        key of `TABLES` to its rows; column to cell.
    """
    rows = {
        "contents": [_image(one) for one in series if one.listed],
        "readings": _readings(person, series, replaced),
        "joint_space": _joint_space(person, series, film_spacing_mm, replaced),
        "xray": _films(person, series),
        "enrollees": [_enrollee(person, series[0].release)],
        "clinical": [_clinical(person)],
        "outcomes": [_outcome(person, replaced)],
    }
    fault.in_rows(rows)
    return rows


def write_tables(root: Path, rows: Iterable[Rows], *, other_case: bool = False) -> None:
    """Write every table of `TABLES` below `root`; each is complete or absent.

    Args:
        root: folder of the release.
        rows: what `participant_rows` gave, by participant.
        other_case: spell the readings' file and columns in the case of another release.
    """
    rows = list(rows)
    for table, path in TABLES.items():
        columns = COLUMNS[table]
        cells = [[row[column] for column in columns] for one in rows for row in one[table]]
        target = root / path
        if table == "contents":
            write_text(target, _quoted([columns, *cells]), encoding="latin-1")
            continue
        if table == "readings" and other_case:
            columns, target = tuple(column.lower() for column in columns), target.with_name(target.name.upper())
        write_text(target, "".join("|".join(line) + "\n" for line in (columns, *cells)), encoding="latin-1")


def _quoted(lines: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _image(series: Series) -> dict[str, str]:
    cells = (series.folder, series.participant, series.date, series.barcode, series.study, series.description)
    return dict(zip(COLUMNS["contents"], cells, strict=True))


def film_barcode(series: Sequence[Series]) -> str:
    """Twelve digits by which readings name the film that was read, the last of the visit."""
    return f"0166{[one for one in series if one.is_film][-1].barcode[-8:]}"


def _readings(person: Person, series: Sequence[Series], replaced: Collection[str]) -> list[dict[str, str]]:
    result = []
    for row in reading_rows(person, replaced=replaced):
        cells = {f"V00{v}": cell if isinstance(cell, str) else f"{cell}: {cell}" for v, cell in row.cells.items()}
        head = {"ID": person.covariates.participant, "SIDE": _SIDE[row.side], "READPRJ": str(row.project)}
        result.append(head | {"V00BARCDBU": film_barcode(series)} | cells)
    return result


def _joint_space(
    person: Person, series: Sequence[Series], film_spacing_mm: float, replaced: Collection[str]
) -> list[dict[str, str]]:
    """Medial minimum joint space as software measures it: in the detector's plane, magnified by the knee's distance."""
    magnified = SOURCE_DETECTOR_MM / (SOURCE_DETECTOR_MM - KNEE_DETECTOR_MM)
    rng = stream(person.seed, person.index, "tables")
    angle = CAUDAL_DEG + _ANGLE_ERROR_DEG * rng.normal()
    errors = dict(zip(SIDES, _JSW_ERROR_MM * rng.normal(size=len(SIDES)), strict=True))
    result = []
    for side in SIDES:
        width = max(person.knees[side].joint_space_film["medial"] * magnified + errors[side], 0.0)
        cells = (
            *(person.covariates.participant, _SIDE[side], str(_JSW_PROJECT), film_barcode(series)),
            *(PROSTHETIC if side in replaced else f"{width:.3f}", f"{angle:.2f}", f"{film_spacing_mm:g}"),
        )
        result.append(dict(zip(COLUMNS["joint_space"], cells, strict=True)))
    return result


def _films(person: Person, series: Sequence[Series]) -> list[dict[str, str]]:
    good, centred = stream(person.seed, person.index, "tables").spawn(1)[0].random(2)
    result = []
    for film in (one for one in series if one.is_film):
        date = f"{film.date[4:6]}/{film.date[6:]}/{film.date[:4]}"
        quality = "Y: Acceptable" if good < 0.9 else "YD: Acceptable with deviation"
        cells = (
            *(film.participant, film.description, date, f"166{film.barcode[-8:]}", _SIDE[film.side]),
            *(_NO_YES[1], quality, _NO_YES[int(centred > 0.95)]),
        )
        result.append(dict(zip(COLUMNS["xray"], cells, strict=True)))
    return result


def _enrollee(person: Person, release: str) -> dict[str, str]:
    who = person.covariates
    letter = release.split(".")[1]
    worst = max(person.knees[side].readings["XRKL"] for side in SIDES)
    cells = {
        "ID": who.participant,
        "P02SEX": _SEX[who.sex],
        "P02RACE": MISSING,
        "P02HISP": MISSING,
        "V00SITE": who.site,
        "V00COHORT": "1: Progression" if worst >= 2 else "2: Incidence",
        "V00CHRTHLF": "1: First half of cohort" if release == RELEASES[0] else "2: Second half of cohort",
    }
    flags = {f"V00IMAGES{other}": "0: No" for other in "ABCDEFG"}
    return cells | flags | {f"V00IMAGES{letter}": "3: Yes, Knee MR and knee xray"}


def _clinical(person: Person) -> dict[str, str]:
    who = person.covariates
    cells = (
        *(who.participant, _SEX[who.sex], who.site, str(who.age)),
        *(f"{who.bmi:.1f}", f"{who.weight_kg:.1f}", f"{who.height_mm:.1f}"),
    )
    return dict(zip(COLUMNS["clinical"], cells, strict=True))


def _outcome(person: Person, replaced: Collection[str]) -> dict[str, str]:
    left, right = (_NO_YES[int(side in replaced)] for side in ("L", "R"))
    return {"ID": person.covariates.participant, "V99ELKBLRP": left, "V99ERKBLRP": right}
