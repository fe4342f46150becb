"""Sections of a report: tables of measures over a whole set, as handlers leave them in the engine's state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

FIELDS = ("title", "note", "columns", "rows", "convention")


def checked_sections(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sections that a report can write.

    Args:
        sections: name to `title` (text), `note` (text), `columns` (texts), `rows` (lists of text, number or None, one
            entry a column; None is "no value"), `convention` (term to value).

    Returns:
        the same, as plain JSON types.

    Raises:
        ValueError: if a field is missing, a row has another length than `columns`, or a value cannot be JSON, such
            as NaN, which must be None and explained in the note.
    """
    for name, found in sections.items():
        missing = [field for field in FIELDS if field not in found]
        if missing:
            raise ValueError(f"report section `{name}` lacks {', '.join(missing)}; it must have {', '.join(FIELDS)}.")
        wide = len(found["columns"])
        for number, row in enumerate(found["rows"]):
            if len(row) != wide:
                raise ValueError(f"report section `{name}`, row {number}: has {len(row)} entries for {wide} columns.")
    try:
        text = json.dumps(dict(sections), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"report sections ({', '.join(sections)}) must hold text, finite numbers and None alone: {error}."
        ) from None
    return json.loads(text)
