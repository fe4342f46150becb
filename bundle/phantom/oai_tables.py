"""The cohort's tables as OAI's ASCII release has them: contents, enrolment, clinical data, and the reading of films."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bundle.geometry import SIDES
from bundle.phantom.anatomy import Person
from bundle.phantom.files import write_text
from bundle.phantom.oai_writer import RELEASES, VISIT, plan_series
from bundle.phantom.streams import stream
from bundle.readings import VARIABLES

READING_PROJECT = 15
"""READPRJ of the baseline reading (oai.md 6c)."""
TABLES = {
    "contents": f"{VISIT}/contents.csv",
    "readings": "X-Ray Image Assessments_ASCII/Semi-Quant Scoring_ASCII/kxr_sq_bu00.txt",
    "enrollees": "General_ASCII/Enrollees.txt",
    "clinical": "AllClinical_ASCII/AllClinical00.txt",
}
_SIDE = {"R": "1: Right", "L": "2: Left"}
_SEX = {"M": "1: Male", "F": "2: Female"}
_NOT_EXPECTED = ".A: Not Expected"
_MISSING = ".: Missing Form/Incomplete Workbook"
_ALWAYS_READ = ("XRKL", "XRJSM", "XRJSL")
_READ_MORE_OFTEN = ("XROS", "XRCH")


def write_tables(root: Path, people: Iterable[Person]) -> None:
    """Write every table of `TABLES` below `root`; each is complete or absent."""
    people = sorted(people, key=lambda person: person.covariates.participant)
    write_text(root / TABLES["contents"], _contents(people))
    write_text(root / TABLES["readings"], _readings(people))
    write_text(root / TABLES["enrollees"], _enrollees(people))
    write_text(root / TABLES["clinical"], _clinical(people))


def _contents(people: Sequence[Person]) -> str:
    lines = ['"Folder","ParticipantID","StudyDate","Barcode","StudyDescription","SeriesDescription"']
    for person in people:
        for series in plan_series(person):
            row = (series.folder, series.participant, series.date, series.barcode, series.study, series.description)
            lines.append(",".join(f'"{cell}"' for cell in row))
    return "\n".join(lines) + "\n"


def _readings(people: Sequence[Person]) -> str:
    lines = ["|".join(["ID", "SIDE", "READPRJ", "V00BARCDBU", *(f"V00{variable}" for variable in VARIABLES)])]
    for person in people:
        film, _ = plan_series(person)
        available = _available(person)
        for side in SIDES:
            grades = person.knees[side].readings
            cells = [f"{grades[v]}: {grades[v]}" if v in available else _NOT_EXPECTED for v in VARIABLES]
            barcode = f"0166{film.barcode}"
            lines.append("|".join([film.participant, _SIDE[side], str(READING_PROJECT), barcode, *cells]))
    return "\n".join(lines) + "\n"


def _available(person: Person) -> frozenset[str]:
    """Variables that were read: all of them only in participants with definite osteoarthritis at some visit.

    KL 2 or more in either knee now, or, in some of the others, at a later visit: the pattern of missing readings tells
    of the future, as OAI's does (oai.md 6e).
    """
    rng = stream(person.seed, person.index, "availability")
    later, fully = rng.random(2)
    worst = max(person.knees[side].readings["XRKL"] for side in SIDES)
    if worst < 2 and later > (0.30 if worst == 1 else 0.10):
        return frozenset(_ALWAYS_READ)
    if fully < 0.8:
        return frozenset(VARIABLES)
    return frozenset(v for v in VARIABLES if v in _ALWAYS_READ or v[:4] in _READ_MORE_OFTEN)


def _enrollees(people: Sequence[Person]) -> str:
    images = [f"V00IMAGES{letter}" for letter in "ABCDEFG"]
    lines = ["|".join(["ID", "P02SEX", "P02RACE", "P02HISP", "V00SITE", "V00COHORT", *images])]
    for person in people:
        who = person.covariates
        release = plan_series(person)[0].release
        flags = {"C": RELEASES[0], "E": RELEASES[1]}
        shown = ["3: Yes, Knee MR and knee xray" if flags.get(letter) == release else "0: No" for letter in "ABCDEFG"]
        worst = max(person.knees[side].readings["XRKL"] for side in SIDES)
        cohort = "1: Progression" if worst >= 2 else "2: Incidence"
        lines.append("|".join([who.participant, _SEX[who.sex], _MISSING, _MISSING, who.site, cohort, *shown]))
    return "\n".join(lines) + "\n"


def _clinical(people: Sequence[Person]) -> str:
    lines = ["|".join(["ID", "P02SEX", "V00SITE", "V00AGE", "P01BMI", "P01WEIGHT", "P01HEIGHT"])]
    for person in people:
        who = person.covariates
        lines.append(
            "|".join(
                [
                    who.participant,
                    _SEX[who.sex],
                    who.site,
                    str(who.age),
                    f"{who.bmi:.1f}",
                    f"{who.weight_kg:.1f}",
                    f"{who.height_mm:.1f}",
                ]
            )
        )
    return "\n".join(lines) + "\n"
