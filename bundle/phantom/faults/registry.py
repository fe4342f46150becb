"""What a fault is, the register of them, and which participant gets which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from bundle.phantom.series import Series

PACKAGINGS = ("directory", "nda")
READ, REFUSE = "read", "refuse"
Rows = dict[str, list[dict[str, str]]]
"""Table to the rows of one participant."""


@dataclass(frozen=True)
class Fault:
    """Damage or oddity of one participant, and what a reader should do with the participant's knee.

    Args:
        name: what it is, as one word.
        what: the same as a sentence.
        expect: `read` or `refuse`.
        reason: why, in words.
        stage: what `action` changes: `series` (the list of them), `film` or `slices` (headers and pixels before they
            are written), `film_file` or `slice_files` (the folder after), `archive` (the packed MRI), `rows` (tables).
        action: does it; None does nothing.
        packaging: the only one in which the fault can occur; None is both.
    """

    name: str
    what: str
    expect: str
    reason: str
    stage: str = ""
    action: Callable[[Any], Any] | None = None
    packaging: str | None = None

    def in_series(self, series: Sequence[Series]) -> list[Series]:
        """The participant's series with this fault."""
        return self.action(list(series)) if self.action and self.stage == "series" else list(series)

    def in_headers(self, series: Series, datasets: list[Dataset]) -> list[Dataset]:
        """The files of a series, in order, with this fault; the given ones may be changed."""
        stage = "film" if series.is_film else "slices"
        return self.action(datasets) if self.action and self.stage == stage else datasets

    def in_files(self, series: Series, folder: Path) -> None:
        """Damage the written files of a series."""
        if self.action and self.stage == ("film_file" if series.is_film else "slice_files"):
            self.action(folder)

    def in_archive(self, series: Series, path: Path) -> None:
        """Damage the packed MRI."""
        if self.action and self.stage == "archive" and not series.is_film:
            self.action(path)

    def in_rows(self, rows: Rows) -> None:
        """Change the participant's rows."""
        if self.action and self.stage == "rows":
            self.action(rows)


SOUND = Fault("none", "Nothing is wrong.", READ, "")
FAULTS: dict[str, Fault] = {}
"""Every fault by name, in the order in which participants get them."""


def plants(
    stage: str, expect: str, reason: str, *, packaging: str | None = None
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Register a function as the fault that bears its name; its docstring says what it plants."""

    def register(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
        what = (action.__doc__ or "").strip().splitlines()[0]
        FAULTS[action.__name__] = Fault(action.__name__, what, expect, reason, stage, action, packaging)
        return action

    return register


def faults_for(packaging: str) -> list[Fault]:
    """The faults that can occur in a packaging; as many participants show each of them once."""
    return [fault for fault in FAULTS.values() if fault.packaging in (None, packaging)]


def fault_of(index: int, packaging: str) -> Fault:
    """The fault of participant `index`: one after the other, then from the first again."""
    able = faults_for(packaging)
    return able[index % len(able)]
