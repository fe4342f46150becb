"""Who is in which split: by a hash of the ID, with a clinical site held out, or as a list of IDs says."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bundle.data.datalist import SPLITS
from bundle.data.table_files import rows

SHARES = (0.7, 0.9)
"""Participants are split 7:2:1 (the paper); the borders of training and of training with validation."""


def split_of(participant: str) -> str:
    """The split of a participant: a hash of the ID, so that further participants move nobody."""
    digest = hashlib.sha256(f"knee:{participant}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return SPLITS[sum(share >= border for border in SHARES)]


def read_split_file(path: str | Path) -> dict[str, str]:
    """Participant to split, from a CSV file with the columns `participant` and `split`.

    Raises:
        ValueError: on another split, a participant in two, or an empty list.
    """
    result: dict[str, str] = {}
    for number, row in rows(path, needed=("SPLIT",)):
        participant, split = row.get("PARTICIPANT") or row.get("ID") or "", (row.get("SPLIT") or "").lower()
        if split not in SPLITS or not participant:
            raise ValueError(f"split file {path}, row {number}: `split` must be one of {', '.join(SPLITS)}.")
        if result.setdefault(participant, split) != split:
            raise ValueError(f"split file {path}, row {number}: participant {participant} is in two splits.")
    if not result:
        raise ValueError(f"split file {path}: holds no participant.")
    return result


def split_text(entries: Iterable[Mapping[str, Any]], chosen: Callable[[Mapping[str, Any]], str | None]) -> str:
    """The content of a split file for prepared knees."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("participant", "split"))
    writer.writerows(sorted({(entry["participant"], chosen(entry)) for entry in entries}))
    return text.getvalue()


def chooser(
    *, holdout_site: str | None = None, listed: Mapping[str, str] | None = None
) -> Callable[[Mapping[str, Any]], str | None]:
    """What gives an entry of `dataset.json` its split, or None where it belongs to none.

    With a site held out, its participants are the test split and nobody else is; those whom the hash would test train
    instead, so that validation stays what it is. Whoever has no known site is left out: they may be of that one.

    Args:
        holdout_site: such as `D`.
        listed: participant to split; others belong to none.
    """
    if listed is not None:
        return lambda entry: listed.get(entry["participant"])
    if holdout_site is None:
        return lambda entry: split_of(entry["participant"])

    def by_site(entry: Mapping[str, Any]) -> str | None:
        if entry.get("site") is None:
            return None
        if entry["site"].strip().upper() == holdout_site.strip().upper():
            return "test"
        usual = split_of(entry["participant"])
        return "training" if usual == "test" else usual

    return by_site
