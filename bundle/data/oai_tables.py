"""OAI's clinical tables: readings and covariates of a knee."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bundle.readings import GradeTable

READER_PROJECTS = ("15", "37")
"""Reading projects by preference; rows coded 42 belong to 37 (OAI's notes, oai.md 6c)."""
_CODED = re.compile(r"^(-?\d+(?:\.\d+)?)\s*:.*$")
_MISSING = re.compile(r"^\.[A-Za-z]?(\s*:.*)?$")
_SIDES = {"1": "R", "2": "L", "R": "R", "L": "L", "RIGHT": "R", "LEFT": "L"}
_SEXES = {"1": "M", "2": "F", "M": "M", "F": "F", "MALE": "M", "FEMALE": "F"}
_VISIT_PREFIX = re.compile(r"^V\d\d(?=[A-Z])")
MAX_BYTES = 512 * 2**20
PLAUSIBLE = {"age": (18.0, 110.0), "bmi": (10.0, 80.0)}


def read_table(path: str | Path) -> list[dict[str, str | None]]:
    """Rows of a `|`-separated table.

    Column names become upper-case; a cell `2: Left` becomes `2`, and a missing code or blank None. OAI's tables are
    latin-1 and unquoted.

    Raises:
        ValueError: if the file has no header with an `ID` column, or a row has more cells than the header.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"table {path}: has more than {MAX_BYTES // 2**20} MiB; that is no table of OAI's.")
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("latin-1").replace("\x00", "")
    # only line feeds end a row: latin-1 texts hold characters that `splitlines` takes for line ends
    lines = re.split(r"\r\n|\n|\r", content)
    try:
        rows = list(csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE))
    except csv.Error as error:
        raise ValueError(f"table {path}: cannot be read ({error}).") from None
    names = [name.strip().strip('"').upper() for name in rows[0]] if rows else []
    if "ID" not in names:
        raise ValueError(f"table {path}: has no column ID in its first row; expected `|`-separated text.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"table {path}: has the column {twice[0]} twice.")
    result = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(names):
            raise ValueError(f"table {path}, row {number}: has {len(row)} cells, the header {len(names)}.")
        # rows are counted as in the file, so empty ones stay
        result.append(dict(zip(names, map(_cell, row), strict=False)))
    return result


def _cell(value: str) -> str | None:
    value = value.strip()
    if not value or _MISSING.match(value):
        return None
    coded = _CODED.match(value)
    return coded[1] if coded else value


def read_readings(path: str | Path, table: GradeTable) -> dict[tuple[str, str], dict[str, Any]]:
    """Readings of every knee in `kxr_sq_buNN.txt`.

    A knee read in several projects takes the one that comes first in `READER_PROJECTS`; of equal ones the row with a
    KL grade, then the first.

    Args:
        path: the table.
        table: grades that are allowed.

    Returns:
        (participant, side) to a grade or None for every variable of the table.

    Raises:
        ValueError: on a grade outside the table, naming row and column, on a row without ID or side, or when no
            reading is in the file at all.
    """
    best: dict[tuple[str, str], tuple[tuple[int, bool], dict[str, Any]]] = {}
    for number, raw in enumerate(read_table(path), start=2):
        if not any(raw.values()):
            continue
        where = f"table {path}, row {number}"
        row = _without_visit(raw, where)
        participant, side = _participant(row), _SIDES.get((_whole(row.get("SIDE")) or "").upper())
        if participant is None or side is None:
            raise ValueError(f"{where}: needs ID and SIDE (1 or 2), got {row.get('ID')!r} and {row.get('SIDE')!r}.")
        readings = {variable: _grade(row.get(variable), f"{where}, column {variable}") for variable in table.highest}
        table.validate(readings, where=where)
        project = _whole(row.get("READPRJ")) or ""
        project = "37" if project == "42" else project
        rank = READER_PROJECTS.index(project) if project in READER_PROJECTS else len(READER_PROJECTS)
        order = (rank, readings["XRKL"] is None)
        key = (participant, side)
        if key not in best or order < best[key][0]:
            best[key] = (order, readings)
    if not any(grade is not None for _, readings in best.values() for grade in readings.values()):
        raise ValueError(f"table {path}: holds no radiographic reading; are its columns those of kxr_sq_bu?")
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


def read_covariates(paths: Iterable[Path | None]) -> dict[str, dict[str, Any]]:
    """Age, sex, BMI and clinical site of every participant at baseline.

    Args:
        paths: `Enrollees.txt` and `AllClinical00.txt`, or None for what is absent. Implausible ages and BMIs are errors
            of entry and count as missing.

    Returns:
        participant to {"age", "sex" (`M` or `F`), "bmi", "site"}; None where a table or value is absent.
    """
    result: dict[str, dict[str, Any]] = {}
    for path in paths:
        for row in read_table(path) if path else []:
            participant = _participant(row)
            if participant is None:
                continue
            values = {
                "age": _measure(row.get("V00AGE"), "age"),
                "sex": _SEXES.get((_whole(row.get("P02SEX")) or "").upper()),
                "bmi": _measure(row.get("P01BMI"), "bmi"),
                "site": row.get("V00SITE"),
            }
            person = result.setdefault(participant, dict.fromkeys(("age", "sex", "bmi", "site")))
            person.update({key: value for key, value in values.items() if value is not None})
    return result


def _without_visit(row: Mapping[str, str | None], where: str) -> dict[str, str | None]:
    """The row with `V00XRKL` called `XRKL`; two visits in one row would hide each other."""
    result: dict[str, str | None] = {}
    for name, value in row.items():
        plain = _VISIT_PREFIX.sub("", name)
        if plain in result and plain.startswith("XR"):
            raise ValueError(f"{where}: has the column {plain} for more than one visit.")
        result[plain] = value
    return result


def _participant(row: Mapping[str, str | None]) -> str | None:
    return _whole(row.get("ID"))


def _whole(value: str | None) -> str | None:
    """`1.0` as `1`, without quotation marks."""
    return None if value is None else re.sub(r"^(\d+)\.0+$", r"\1", value.strip('" '))


def _grade(value: str | None, where: str) -> int | float | None:
    if value is None:
        return None
    try:
        return _number(value)
    except ValueError:
        raise ValueError(f"{where}: must be a grade or a missing code, got {value!r}.") from None


def _number(value: str) -> int | float:
    number = float(value)
    return int(number) if number.is_integer() else number


def _measure(value: str | None, name: str) -> int | float | None:
    low, high = PLAUSIBLE[name]
    try:
        number = None if value is None else _number(value)
    except (ValueError, OverflowError):
        return None
    return number if number is not None and low <= number <= high else None
