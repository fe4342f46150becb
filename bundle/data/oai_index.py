"""Pair the films and MR series of an OAI release by participant, visit and side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle.data.oai_entries import Entry, list_entries
from bundle.data.oai_layout import CONTENTS, Layout, find_layout, visit_number
from bundle.transforms.archive import is_image_name

BILATERAL_FILM = "BILATERAL PA FIXED FLEXION KNEE"
SINGLE_FILM = re.compile(r"^PA FIXED FLEXION (?:(RIGHT|LEFT) KNEE|KNEE (RIGHT|LEFT))$")
MR_SERIES = "COR_T1_3D_FLASH"
_SIDES = {"RIGHT": "R", "LEFT": "L"}


@dataclass(frozen=True)
class KneePair:
    """Where one knee's film and MR series lie.

    Args:
        participant: OAI's ID.
        side: `R` or `L`.
        visit: such as `00m`.
        film: file of the film, or the archive it is in.
        series: folder or archive of the MR series, or its NIfTI file.
        spacing_mm: pixel edge of a film whose file does not say it; None means the options'.
        own: whether the files are the user's own and no download of OAI's.
    """

    participant: str
    side: str
    visit: str
    film: Path
    series: Path
    spacing_mm: float | None = None
    own: bool = False

    @property
    def name(self) -> str:
        """Stem of everything that is derived from this knee."""
        return f"{self.participant}_{self.side}_{self.visit}"


@dataclass
class Index:
    """What a release holds of one visit.

    Args:
        pairs: knees with film and MR series, sorted.
        counts: how many were seen at each step.
        dropped: knee (or participant, or row), file and reason; dates and barcodes stay out of it.
        sequences: how many series of each description the visits hold.
    """

    pairs: list[KneePair] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    sequences: dict[str, int] = field(default_factory=dict)

    def drop(self, knee: str, reason: str, file: str = "") -> None:
        """Note that something is not used, and why."""
        self.dropped.append({"knee": knee, "file": file, "reason": reason})


def index_release(
    root: str | Path, *, visit: str | Sequence[str] = "00m", series: str = MR_SERIES, layout: Layout | None = None
) -> Index:
    """List the knees of one visit or of several.

    Film and MR may have been taken on different days, so they are paired by participant and visit. Of a series that
    was repeated the last counts. Series that no list names are known by their headers.

    Args:
        root: folder that holds the release, at any depth.
        visit: such as `00m`.
        series: first part of the MR series' description.
        layout: what `find_layout(root)` gave, to look only once.

    Raises:
        FileNotFoundError: if `root` or every visit is absent.
        ValueError: if a visit is not one of OAI's, or a list of series is not what it should be.
    """
    visits = (visit,) if isinstance(visit, str) else tuple(visit)
    for name in visits:
        visit_number(name)
    layout = layout or find_layout(root)
    result = Index()
    found = list_entries(layout, result.drop)
    entries = [entry for entry in found if entry.visit in visits]
    if not entries:
        held = ", ".join(sorted({entry.visit for entry in found}))
        there = f"; it holds {held}" if held else ""
        raise FileNotFoundError(
            f"OAI data {root}: nothing of visit {', '.join(visits)} in it{there}. Expected folders such as "
            f"{visits[0]}/0.C.2 with a {CONTENTS}, or NDA's image03.txt with its archives."
        )
    films: dict[tuple[str, str, str], Entry] = {}
    scans: dict[tuple[str, str, str], Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.order):
        description = _plain(entry.description)
        if description == BILATERAL_FILM:
            _keep_last(films, entry, ("R", "L"), "film", result)
        elif single := SINGLE_FILM.match(description):
            _keep_last(films, entry, (_SIDES[single[1] or single[2]],), "film", result)
        elif description.startswith(series.upper()):
            named = {side for word, side in _SIDES.items() if description.endswith(word)}
            named = named or {side for word, side in _SIDES.items() if word in entry.study.upper()}
            if len(named) == 1:
                _keep_last(scans, entry, tuple(named), "MR series", result)
            else:
                result.drop(entry.participant, f"MR series {entry.description} names no side", entry.shown)
    for key, scan in sorted(scans.items()):
        name = "_".join(key)
        film = films.get(key)
        if film is None:
            result.drop(name, "MR series without a film", scan.shown)
            continue
        files = [film.place] if film.place.is_file() else _images(film.place)
        if not files:
            result.drop(name, "film folder has no file", film.shown)
            continue
        if len(files) > 1:
            result.drop(name, f"film folder has {len(files)} files (kept: last)", film.shown)
        result.pairs.append(KneePair(*key, files[-1], scan.place))
    for key in sorted(set(films) - set(scans)):
        result.drop("_".join(key), "film without an MR series", films[key].shown)
    result.sequences = dict(Counter(_plain(entry.description) or "(no description)" for entry in entries))
    result.counts = {
        "series": len(entries),
        "participants": len({entry.participant for entry in entries}),
        "film_knees": len(films),
        "mr_knees": len(scans),
        "pairs": len(result.pairs),
    }
    return result


def _plain(description: str) -> str:
    return re.sub(r"\s+", " ", description.strip().upper())


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image_name(path.name))


def _keep_last(
    kept: dict[tuple[str, str, str], Entry], entry: Entry, sides: tuple[str, ...], what: str, index: Index
) -> None:
    if not entry.place.exists():
        gone = f"{what} of visit {entry.visit} is listed, but its folder is not there"
        index.drop(entry.participant, gone, entry.shown)
        return
    for side in sides:
        key = (entry.participant, side, entry.visit)
        if key in kept:
            repeated = f"an earlier {what} of visit {entry.visit} was repeated (kept: last)"
            index.drop(f"{entry.participant}_{side}", repeated, kept[key].shown)
        kept[key] = entry
