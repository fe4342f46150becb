"""Tables of a study as rows of plain cells: `|`, tab or comma separated text, and SAS files."""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from monai.utils import optional_import

pyreadstat, HAS_PYREADSTAT = optional_import("pyreadstat")

MAX_BYTES = 512 * 2**20
LONGEST_LINE = 2**20
"""Characters; OAI's widest table has some 1,200 columns."""
SAS = {".sas7bdat": "read_sas7bdat", ".xpt": "read_xport"}
ID = ("ID", "SRC_SUBJECT_ID", "PARTICIPANTID", "PARTICIPANT")
"""Columns that hold the participant, in the ASCII release, at the NDA and in tables of images."""
_CODED = re.compile(r"^(-?\d+(?:\.\d+)?)\s*:.*$", re.DOTALL)
_MISSING = re.compile(r"^\.[A-Za-z]?(\s*:.*)?$", re.DOTALL)
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

Row = dict[str, str | None]


def read_table(path: str | Path, wanted: Callable[[str], bool] | None = None) -> list[Row]:
    """Rows of a table, see `rows`; a row's place in the list is its line in the file, less the header."""
    result: list[Row] = []
    for number, row in rows(path, wanted):
        result += [{}] * (number - 2 - len(result))
        result.append(row)
    return result


def rows(
    path: str | Path, wanted: Callable[[str], bool] | None = None, *, needed: Sequence[str] = ()
) -> Iterator[tuple[int, Row]]:
    """Number and cells of every row, read one after the other.

    Column names become upper-case, the participant's is called `ID`; a cell `2: Left` becomes `2`, and a missing code
    or blank None. OAI's tables are latin-1 and unquoted, NDA's are quoted and have a second header row of definitions.

    Args:
        path: text or SAS file.
        wanted: says of a column's name whether it is read; None reads all.
        needed: upper-case names of columns without which the table is of no use.

    Raises:
        IsADirectoryError: if it is a folder.
        ValueError: if it is a device or a pipe, has no header with a column for the participant, lacks a needed column,
            has a column twice, a row with more cells than the header, or a quotation mark that is not closed.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"table {path}: is a folder; expected a file of text or SAS's.")
    if path.exists() and not path.is_file():
        raise ValueError(f"table {path}: is a device or a pipe; expected a file.")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"table {path}: has more than {MAX_BYTES // 2**20} MiB; that is no table of OAI's.")
    if path.suffix.lower() in SAS:
        yield from _sas_rows(path, wanted, needed)
        return
    try:
        yield from _text_rows(path, wanted, needed)
    except (csv.Error, UnicodeError) as error:
        raise ValueError(f"table {path}: cannot be read ({error}).") from None


def _encoding(path: Path) -> str:
    """What a mark at the beginning says, else UTF-8 where every byte agrees, else OAI's latin-1."""
    with path.open("rb") as file:
        head = file.read(4)
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if marked:
        return marked
    try:
        with path.open(encoding="utf-8") as file:
            while file.read(2**20):
                pass
    except UnicodeError:
        return "latin-1"
    return "utf-8"


def _text_rows(path: Path, wanted: Callable[[str], bool] | None, needed: Sequence[str]) -> Iterator[tuple[int, Row]]:
    encoding = _encoding(path)
    with path.open(encoding=encoding, errors="replace") as file:  # a mark of order does not make the rest clean
        first = file.readline(LONGEST_LINE)
        delimiter = next((character for character in "|\t" if character in first), ",")
        file.seek(0)
        # `|` separated tables know no quoting: a quotation mark in a label is one
        reader = csv.reader(
            _lines(file, path), delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
        )
        names = _names(next(reader, []), path)
        _check_needed(names, needed, path)
        kept = [(place, name) for place, name in enumerate(names) if name == "ID" or wanted is None or wanted(name)]
        second = True
        for cells in reader:
            number = reader.line_num
            if len(cells) > len(names):
                raise ValueError(f"table {path}, row {number}: has {len(cells)} cells, the header {len(names)}.")
            if any("\n" in cell and delimiter in cell.split("\n", 1)[1] for cell in cells):
                raise ValueError(
                    f"table {path}, row {number}: a quotation mark opens and swallows the rows that follow; close it."
                )
            row = {name: _cell(cells[place]) for place, name in kept if place < len(cells)}
            definitions = second and delimiter == "\t" and " " in (row.get("ID") or "")
            second = False
            if not definitions and any(cells):
                yield number, row


def _lines(file: Any, path: Path) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"table {path}: has a line of more than {LONGEST_LINE} characters; that is no table.")
        yield line.replace("\x00", "")


def _sas_rows(path: Path, wanted: Callable[[str], bool] | None, needed: Sequence[str]) -> Iterator[tuple[int, Row]]:
    if not HAS_PYREADSTAT:
        raise ValueError(f"table {path}: is a SAS file; install pyreadstat to read it, or get the text release.")
    try:
        _, meta = _sas_read(path, metadataonly=True)
        names = _names(meta.column_names, path)
        _check_needed(names, needed, path)
        kept = dict(zip(meta.column_names, names, strict=True))
        kept = {old: name for old, name in kept.items() if name == "ID" or wanted is None or wanted(name)}
        columns, _ = _sas_read(path, usecols=list(kept), output_format="dict")
    except Exception as error:  # pyreadstat has errors of its own
        if isinstance(error, ValueError) and str(error).startswith("table "):
            raise
        raise ValueError(f"table {path}: cannot be read as SAS ({' '.join(str(error).split())[:120]}).") from None
    count = max((len(values) for values in columns.values()), default=0)
    for index in range(count):
        yield index + 2, {name: _sas_cell(columns[old][index]) for old, name in kept.items()}


def _sas_read(path: Path, **options: Any) -> tuple[Any, Any]:
    """What pyreadstat gives; text that is not in the encoding that its file claims is read as latin-1."""
    read = getattr(pyreadstat, SAS[path.suffix.lower()])
    try:
        return read(str(path), **options)
    except UnicodeError:
        return read(str(path), encoding="ISO-8859-1", **options)


def _names(header: list[str], path: Path) -> list[str]:
    names = [name.strip().strip('"').strip().upper() for name in header]
    if "ID" not in names:
        names = ["ID" if name == next((n for n in ID if n in names), "ID") else name for name in names]
    if "ID" not in names:
        raise ValueError(
            f"table {path}: has no column ID in its first row; expected text separated by `|`, tabs or commas."
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"table {path}: has the column {twice[0]} twice.")
    return names


def _check_needed(names: Sequence[str], needed: Sequence[str], path: Path) -> None:
    missing = [name.lower() for name in needed if name not in names]
    if missing:
        raise ValueError(f"table {path}: lacks the column {missing[0]}; its columns: {', '.join(names)[:200].lower()}.")


def _cell(value: str) -> str | None:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1].strip()
    if not value or _MISSING.match(value):
        return None
    coded = _CODED.match(value)
    return coded[1] if coded else value


def _sas_cell(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return _cell(f"{value:.10g}" if isinstance(value, float) else str(value))
