"""OAI's clinical tables: readings and covariates of a knee at a visit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bundle.data.oai_layout import visit_number
from bundle.data.table_files import Row, read_table, rows
from bundle.readings import GradeTable

__all__ = ["fill_unread", "read_covariates", "read_readings", "read_table"]

READER_PROJECTS = ("15", "37", "42")
LATE_PROJECTS = ("37", "42", "15")
"""Reading projects by preference, at most visits and at those of 72 and 96 months (oai.md 6c)."""
LATE_VISITS = ("72m", "96m")
_SIDES = {"1": "R", "2": "L", "R": "R", "L": "L", "RIGHT": "R", "LEFT": "L"}
_SEXES = {"1": "M", "2": "F", "M": "M", "F": "F", "MALE": "M", "FEMALE": "F"}
_VISIT_PREFIX = re.compile(r"^V(\d\d)(?=[A-Z])")
PLAUSIBLE = {"age": (18.0, 110.0), "bmi": (10.0, 80.0)}
COVARIATES = ("age", "sex", "bmi", "site")


def read_readings(
    path: str | Path, table: GradeTable, *, visit: str = "00m", note: Callable[[str, str], None] | None = None
) -> dict[tuple[str, str], dict[str, Any]]:
    """Readings of every knee at a visit, from `kxr_sq_buNN` (text or SAS) or NDA's table of all visits.

    Of a knee that was read more than once, a reading with a KL grade comes before one without; then the project counts
    (`READER_PROJECTS`), then the place in the file.

    Args:
        path: the table.
        table: grades that are allowed.
        visit: rows that a column VISIT gives to another one are passed over.
        note: told of a knee that one project graded twice and differently.

    Returns:
        (participant, side) to a grade or None for every variable of the table.

    Raises:
        ValueError: on a grade outside the table, naming row and column, on a row without ID or side, on columns of
            another visit, or when no reading is in the file at all.
    """
    digits = visit_number(visit)
    projects = LATE_PROJECTS if visit in LATE_VISITS else READER_PROJECTS
    best: dict[tuple[str, str], tuple[tuple[bool, int], dict[str, Any]]] = {}

    def wanted(name: str) -> bool:
        return _VISIT_PREFIX.sub("", name) in {"SIDE", "READPRJ", "VISIT", *table.highest}

    for number, raw in rows(path, wanted):
        if not any(raw.values()):
            continue
        where = f"table {path}, row {number}"
        row = _without_visit(raw, where, digits)
        participant, side = _participant(row), _SIDES.get((_whole(row.get("SIDE")) or "").upper())
        if participant is None or side is None:
            raise ValueError(f"{where}: needs ID and SIDE (1 or 2), got {row.get('ID')!r} and {row.get('SIDE')!r}.")
        if _visit_digits(row.get("VISIT"), digits) != digits:
            continue
        readings = {variable: grade(row.get(variable), f"{where}, column {variable}") for variable in table.highest}
        table.validate(readings, where=where)
        project = _whole(row.get("READPRJ")) or ""
        order = (readings["XRKL"] is None, projects.index(project) if project in projects else len(projects))
        key = (participant, side)
        if key in best and order == best[key][0] and readings != best[key][1] and note:
            note(f"{participant}_{side}_{visit}", f"graded twice and differently by project {project} (kept: first)")
        if key not in best or order < best[key][0]:
            best[key] = (order, readings)
    if not any(grade is not None for _, readings in best.values() for grade in readings.values()):
        raise ValueError(
            f"table {path}: holds no radiographic reading of visit {visit}; are its columns those of kxr_sq_bu?"
        )
    return {key: readings for key, (_, readings) in best.items()}


def fill_unread(readings: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Read missing findings as grade 0 where OAI's rule allows it.

    All but KL and narrowing were read only in participants with definite osteoarthritis (KL of 2 or more) in at least
    one knee, so in those whose known KL grades are all below 2 a finding that was not read is taken as absent. In
    others it stays missing. Known is what these readings hold: OAI's rule looks at every visit.

    Source:
        OAI's notes on the readings, oai.md 6e.
    """
    worst: dict[str, float] = {}
    for (participant, _), grades in readings.items():
        kl_grade = grades.get("XRKL")
        if kl_grade is not None:
            worst[participant] = max(worst.get(participant, 0), kl_grade)
    result = {}
    for (participant, side), grades in readings.items():
        fills = worst.get(participant, 2) < 2
        result[participant, side] = {
            name: 0 if fills and grade is None and name != "XRKL" else grade for name, grade in grades.items()
        }
    return result


def read_covariates(paths: Iterable[Path | None], *, visit: str = "00m") -> dict[str, dict[str, Any]]:
    """Sex and clinical site of every participant, age and BMI at a visit.

    Args:
        paths: `Enrollees` and `AllClinicalNN`, as text, SAS or NDA's, or None for what is absent; later ones win.
            Implausible ages and BMIs are errors of entry and count as missing.
        visit: whose age and BMI.

    Returns:
        participant to {"age", "sex" (`M` or `F`), "bmi", "site"}; None where a table or value is absent.
    """
    digits = visit_number(visit)
    names = {
        "age": (f"V{digits}AGE", "AGE"),
        "bmi": (*(("P01BMI",) if digits == "00" else ()), f"V{digits}BMI", "BMI"),
        "sex": ("P02SEX", "SEX", "GENDER"),
        "site": ("V00SITE", "SITE"),
    }
    wanted = {"VISIT", "INTERVIEW_AGE", *(name for alternatives in names.values() for name in alternatives)}
    result: dict[str, dict[str, Any]] = {}
    for path in paths:
        for _, row in rows(path, wanted.__contains__) if path else ():
            participant = _participant(row)
            if participant is None:
                continue
            found = {key: next((row[n] for n in options if row.get(n)), None) for key, options in names.items()}
            if found["age"] is None and (months := measure(row.get("INTERVIEW_AGE"), 12 * 18.0, 12 * 110.0)):
                found["age"] = str(int(months // 12))
            values = {
                "sex": _SEXES.get((_whole(found["sex"]) or "").upper()),
                "site": found["site"],
                "age": measure(found["age"], *PLAUSIBLE["age"]),
                "bmi": measure(found["bmi"], *PLAUSIBLE["bmi"]),
            }
            if _visit_digits(row.get("VISIT"), digits) != digits:
                values |= dict.fromkeys(PLAUSIBLE)
            person = result.setdefault(participant, dict.fromkeys(COVARIATES))
            person.update({key: value for key, value in values.items() if value is not None})
    return result


def _visit_digits(value: str | None, default: str) -> str:
    """`01` of `V01` or `1`; screening and enrolment (`P01`, `P02`) belong to baseline, no visit to any."""
    if value is None:
        return default
    match = re.match(r"^\s*([VP]?)0*(\d+)", value.upper())
    if match is None:
        return value
    return "00" if match[1] == "P" else f"{int(match[2]):02d}"


def _without_visit(row: Row, where: str, digits: str) -> Row:
    """The row with `V00XRKL` called `XRKL`; columns of another visit would pass for this one's."""
    result: Row = {}
    for name, value in row.items():
        prefix = _VISIT_PREFIX.match(name)
        plain = _VISIT_PREFIX.sub("", name)
        if plain in result and plain.startswith("XR"):
            raise ValueError(f"{where}: has the column {plain} for more than one visit.")
        if prefix and prefix[1] != digits and plain.startswith("XR"):
            raise ValueError(f"{where}: its column {name} is of visit {prefix[1]}; expected visit {digits}.")
        result[plain] = value
    return result


def _participant(row: Row) -> str | None:
    return _whole(row.get("ID"))


def _whole(value: str | None) -> str | None:
    """`1.0` as `1`, without quotation marks."""
    return None if value is None else re.sub(r"^(\d+)\.0+$", r"\1", value.strip('" '))


def grade(value: str | None, where: str) -> int | float | None:
    """A cell as a grade, None where it is missing; ValueError naming `where` on anything else."""
    if value is None:
        return None
    try:
        return _number(value)
    except ValueError:
        raise ValueError(f"{where}: must be a grade or a missing code, got {value!r}.") from None


def _number(value: str) -> int | float:
    number = float(value)
    return int(number) if number.is_integer() else number


def measure(value: str | None, low: float, high: float) -> int | float | None:
    """A cell as a number, None where it is missing, none, or implausible."""
    try:
        number = None if value is None else _number(value)
    except (ValueError, OverflowError):
        return None
    return number if number is not None and low <= number <= high else None
