"""What the table of readings tells of a participant's knees: the preferred project's grades, None where unread."""

from __future__ import annotations

from bundle.phantom.anatomy import Person
from bundle.phantom.readers import PROJECTS
from bundle.phantom.reading_rows import reading_rows


def table_readings(person: Person) -> tuple[dict[str, dict[str, int | None]], int]:
    """The readings that preparation takes from the table.

    Args:
        person: whose films were read.

    Returns:
        side to the 19 readings, None where the table has none; and the project (READPRJ) that read them.
    """
    rows = reading_rows(person)
    project = min({row.project for row in rows}, key=PROJECTS.index)
    return {
        row.side: {variable: cell if isinstance(cell, int) else None for variable, cell in row.cells.items()}
        for row in rows
        if row.project == project
    }, project
