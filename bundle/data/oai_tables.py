"""OAI's clinical tables: readings and covariates of a knee."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from bundle.readings import GradeTable

READER_PROJECTS = ("15", "37", "42")
"""Reading projects by preference; those coded 42 belong to 37, and come last."""
_CODED = re.compile(r"^(-?\d+(?:\.\d+)?)\s*:.*$")
_MISSING = re.compile(r"^\.[A-Z]?(\s*:.*)?$")
_SIDES = {"1": "R", "2": "L"}


def find_table(root: str | Path, name: str) -> Path | None:
    """The file of that name below `root`, whatever its case; the first in sorted order, or None."""
    found = sorted(path for path in Path(root).rglob("*.txt") if path.name.lower() == name.lower())
    return found[0] if found else None


def read_table(path: str | Path) -> list[dict[str, str | None]]:
    """Rows of a `|`-separated table.

    Column names become upper-case; a cell `2: Left` becomes `2`, and a missing code or blank None. OAI's tables are
    latin-1 and unquoted.

    Raises:
        ValueError: if the file has no header with an `ID` column.
    """
    path = Path(path)
    text = path.read_bytes().decode("latin-1").removeprefix("\xef\xbb\xbf")
    rows = list(csv.reader(text.splitlines(), delimiter="|", quoting=csv.QUOTE_NONE))
    names = [name.strip().upper() for name in rows[0]] if rows else []
    if "ID" not in names:
        raise ValueError(f"table {path}: has no column ID in its first row; expected `|`-separated text.")
    return [dict(zip(names, map(_cell, row), strict=False)) for row in rows[1:] if row]


def _cell(text: str) -> str | None:
    text = text.strip()
    if not text or _MISSING.match(text):
        return None
    coded = _CODED.match(text)
    return coded[1] if coded else text


def read_readings(path: str | Path, table: GradeTable, *, visit: str = "00m") -> dict[tuple[str, str], dict[str, Any]]:
    """Readings of every knee in `kxr_sq_buNN.txt`.

    A knee read twice takes the reading project that comes first in `READER_PROJECTS`; of equal ones, the row with a
    KL grade.

    Args:
        path: the table.
        table: grades that are allowed.
        visit: the visit's folder name; its prefix (`V00`) is taken from column names.

    Returns:
        (participant, side) to a grade or None for every variable of the table.

    Raises:
        ValueError: on a grade outside the table, naming row and column, or when no reading is in the file at all.
    """
    best: dict[tuple[str, str], tuple[tuple, dict[str, Any]]] = {}
    for number, row in enumerate(read_table(path), start=2):
        row = {re.sub(r"^V\d\d(?=XR)", "", name): value for name, value in row.items()}
        side = _SIDES.get(_whole(row.get("SIDE")))
        participant = row.get("ID")
        if side is None or participant is None:
            raise ValueError(f"table {path}, row {number}: needs ID and SIDE (1 or 2), got {row.get('SIDE')!r}.")
        readings: dict[str, Any] = {}
        for variable in table.highest:
            value = row.get(variable)
            try:
                readings[variable] = None if value is None else _number(value)
            except ValueError:
                raise ValueError(f"table {path}, row {number}, column {variable}: not a grade: {value!r}.") from None
        table.validate(readings, where=f"table {path}, row {number}")
        project = _whole(row.get("READPRJ"))
        rank = READER_PROJECTS.index(project) if project in READER_PROJECTS else len(READER_PROJECTS)
        order = (rank, readings["XRKL"] is None)
        key = (participant, side)
        if key not in best or order < best[key][0]:
            best[key] = (order, readings)
    if not any(grade is not None for _, readings in best.values() for grade in readings.values()):
        raise ValueError(f"table {path}: holds no radiographic reading; are its columns those of kxr_sq_bu?")
    return {key: readings for key, (_, readings) in best.items()}


def read_covariates(root: str | Path) -> dict[str, dict[str, Any]]:
    """Age, sex, BMI and clinical site of every participant, from `Enrollees.txt` and `AllClinical00.txt`.

    Returns:
        participant to {"age", "sex" (`M` or `F`), "bmi", "site"}; None where a table or value is absent.
    """
    result: dict[str, dict[str, Any]] = {}
    for name in ("Enrollees.txt", "AllClinical00.txt"):
        path = find_table(root, name)
        for row in read_table(path) if path else []:
            person = result.setdefault(str(row["ID"]), dict.fromkeys(("age", "sex", "bmi", "site")))
            values = {
                "age": _optional_number(row.get("V00AGE")),
                "sex": {"1": "M", "2": "F"}.get(_whole(row.get("P02SEX"))),
                "bmi": _optional_number(row.get("P01BMI")),
                "site": row.get("V00SITE"),
            }
            person.update({key: value for key, value in values.items() if value is not None})
    return result


def _whole(value: str | None) -> str:
    """`1.0` as `1`; the empty text where nothing is."""
    text = value or ""
    return text[:-2] if text.endswith(".0") else text


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _optional_number(text: str | None) -> int | float | None:
    try:
        return None if text is None else _number(text)
    except ValueError:
        return None
