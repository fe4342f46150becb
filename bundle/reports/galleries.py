"""Galleries of a report: rows of pictures beside the knees', as handlers leave them in the engine's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bundle.reports.montage import Panel


@dataclass(frozen=True)
class Gallery:
    """Pictures under one heading.

    Args:
        title: heading, as text.
        note: what is shown, as text.
        columns: heads of the columns of pictures.
        rows: a row's name and its pictures, one a column; None leaves a place empty.
    """

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Panel | None]]]

    def __post_init__(self) -> None:
        for name, panels in self.rows:
            if len(panels) != len(self.columns):
                raise ValueError(
                    f"gallery `{self.title}`, row `{name}`: {len(panels)} pictures for {len(self.columns)} columns."
                )
