"""Anyone's own film and volume files, listed in a CSV file, as knees for preparation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bundle.data.oai_entries import PARTICIPANT
from bundle.data.oai_index import Index, KneePair
from bundle.data.oai_tables import grade, measure
from bundle.data.table_files import Row, rows
from bundle.geometry import SIDES
from bundle.readings import GradeTable

NEEDED = ("FILM", "MRI", "SIDE")
COVARIATES = ("AGE", "SEX", "BMI", "SITE")

Clinical = tuple[dict[str, Any], dict[str, Any]]
"""Readings and covariates of a knee."""


def read_own_pairs(path: str | Path, table: GradeTable) -> tuple[Index, dict[str, Clinical]]:
    """Read a list of knees.

    Args:
        path: CSV file with the columns `participant`, `film`, `mri` and `side` (R or L), and, where they are known,
            `visit`, `spacing_mm` (of a film whose file does not say it), `age`, `sex`, `bmi`, `site` and readings such
            as `XRKL`. Files are named from the list's own folder.
        table: grades that are allowed.

    Returns:
        the knees, and of each its readings and covariates.

    Raises:
        FileNotFoundError: if there is no such list.
        ValueError: if a column is absent, a grade does not exist or a knee is listed twice, naming the row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"pairs {path}: no such file.")
    index, clinical = Index(), {}
    for number, row in rows(path, needed=NEEDED):
        where = f"pairs {path}, row {number}"
        participant, side = row.get("PARTICIPANT") or row.get("ID") or "", (row.get("SIDE") or "").upper()
        visit = row.get("VISIT") or "00m"
        if not PARTICIPANT.match(participant) or not PARTICIPANT.match(visit):
            raise ValueError(f"{where}: `participant` and `visit` must be of letters, digits and hyphens alone.")
        if side not in SIDES or not row.get("FILM") or not row.get("MRI"):
            raise ValueError(f"{where}: needs `film`, `mri` and `side` (R or L), got side {side!r}.")
        film, mri = (path.parent / str(row[column]) for column in ("FILM", "MRI"))
        spacing = measure(row.get("SPACING_MM"), 0.01, 5.0)
        if spacing is None and row.get("SPACING_MM"):
            raise ValueError(f"{where}: `spacing_mm` must lie between 0.01 and 5, got {row['SPACING_MM']!r}.")
        pair = KneePair(participant, side, visit, film, mri, spacing_mm=spacing, own=True)
        if pair.name in clinical:
            raise ValueError(f"{where}: lists the knee {pair.name} a second time.")
        # unlike `Path.exists`, this is False for a name that is too long for any file
        gone = [column for column, place in (("film", film), ("mri", mri)) if not os.path.exists(place)]
        clinical[pair.name] = _clinical(row, table, where)
        if gone:
            index.drop(pair.name, f"the file of its {gone[0]} is not there", f"row {number}, {gone[0]}")
        else:
            index.pairs.append(pair)
    index.counts = {"listed": len(clinical), "pairs": len(index.pairs)}
    return index, clinical


def _clinical(row: Row, table: GradeTable, where: str) -> Clinical:
    readings = {variable: grade(row.get(variable), f"{where}, column {variable}") for variable in table.highest}
    table.validate(readings, where=where)
    sex = (row.get("SEX") or "").upper()[:1]
    person: dict[str, Any] = {"age": measure(row.get("AGE"), 0, 120), "bmi": measure(row.get("BMI"), 5, 100)}
    return readings, person | {"sex": sex if sex in "MF" and sex else None, "site": row.get("SITE")}
