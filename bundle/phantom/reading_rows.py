"""Which readings of a participant OAI's table holds: projects, rows, and what stays unread, tied to disease."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bundle.geometry import SIDES
from bundle.phantom.anatomy import Person
from bundle.phantom.readers import PROJECTS, SECOND_PROJECTS, read_film
from bundle.phantom.streams import stream
from bundle.readings import VARIABLES

NOT_EXPECTED = ".A: Not Expected"
MISSING = ".: Missing Form/Incomplete Workbook"
TECHNICAL = ".T: Technical Problems"
PROSTHETIC = ".P: Prosthetic"
ALWAYS_READ = ("XRKL", "XRJSM", "XRJSL")
READ_MORE_OFTEN = ("XROS", "XRCH")
"""Prefixes of what is read whenever a participant's findings are read at all; sclerosis, cysts and attrition less."""
_FIRST_PROJECT, _SECOND_PROJECT, _CODED_42 = 0.985, 0.345, 1 / 3
"""Shares of participants that project 15 and a second project read, and of the second that is coded 42."""
_LATER_DISEASE = {0: 0.12, 1: 0.36}
"""Chance, by the worse knee's KL, of definite osteoarthritis at a later visit."""
_FINDINGS, _ALL_FINDINGS = {15: 1.0, 37: 0.40, 42: 0.40}, {15: 0.80, 37: 0.60, 42: 0.60}
"""Share of participants with osteoarthritis whose findings a project reads, and of these, whose every finding."""
_UNREADABLE = 0.005
"""Share of knees whose film cannot be read at all."""


@dataclass(frozen=True)
class ReadingRow:
    """One row of the table of readings.

    Args:
        side: `R` or `L`.
        project: READPRJ.
        cells: variable to a grade, or to the missing code that stands in its place.
    """

    side: str
    project: int
    cells: dict[str, int | str]


def reading_rows(person: Person, *, replaced: Collection[str] = ()) -> list[ReadingRow]:
    """The rows of one participant, in the table's order, which prefers no project.

    All but KL and narrowing is read only in participants with definite osteoarthritis (KL 2 or more) in a knee now or
    at a later visit, so what is missing tells of the future. `person.world.unread` blanks further cells at random, and
    `person.world.all_read` is the share of participants whose every finding is read all the same.

    Args:
        person: whose films were read.
        replaced: sides with a prosthesis, which has no grades.

    Source:
        Two counts of the real table: 12,813 rows of 4,796 participants; KL and narrowing in 99.5 % of the rows,
        osteophytes and chondrocalcinosis in 55.5 %, sclerosis, cysts and attrition in 43.0 % (oai.md 6c, 6e).
    """
    rng = stream(person.seed, person.index, "availability")
    later, first, second, coded = rng.random(4)
    fully = dict(zip(PROJECTS, rng.random((len(PROJECTS), 2)).tolist(), strict=True))
    unreadable = dict(zip(PROJECTS, rng.random((len(PROJECTS), len(SIDES))).tolist(), strict=True))
    blanks = stream(person.seed, person.index, "unread").random((len(PROJECTS), len(SIDES), len(VARIABLES)))
    projects = [PROJECTS[0]] if first < _FIRST_PROJECT else []
    if second < _SECOND_PROJECT or not projects:
        projects.append(SECOND_PROJECTS[int(coded < _CODED_42)])
    all_read = float(stream(person.seed, person.index, "all_read").random()) < person.world.all_read
    worst = max(grades["XRKL"] for grades in read_film(person, PROJECTS[0]).values())
    diseased = later < _LATER_DISEASE.get(worst, 1.0)
    rows = []
    for project in projects:
        readings = read_film(person, project)
        expected = all_read or (diseased and fully[project][0] < _FINDINGS[project])
        everything = all_read or fully[project][1] < _ALL_FINDINGS[project]
        for place, side in enumerate(SIDES):
            # One reason may hold for the whole knee; the others are the cell's own.
            whole = PROSTHETIC if side in replaced else None
            if whole is None and unreadable[project][place] < _UNREADABLE:
                whole = TECHNICAL
            cells: dict[str, int | str] = {}
            for column, variable in enumerate(VARIABLES):
                finding, often = variable not in ALWAYS_READ, variable.startswith(READ_MORE_OFTEN)
                blank = blanks[PROJECTS.index(project), place, column] < person.world.unread
                reason: str | None = MISSING if blank or (finding and not often and not everything) else None
                if finding and not expected:
                    reason = NOT_EXPECTED
                cells[variable] = whole or reason or readings[side][variable]
            rows.append(ReadingRow(side, project, cells))
    order = stream(person.seed, person.index, "readings_table").permutation(len(rows))
    return [rows[index] for index in order]
