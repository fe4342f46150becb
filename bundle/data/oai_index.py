"""Find films and MR series in OAI's directory release, and pair them by participant and visit."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FILM_SERIES = "BILATERAL PA FIXED FLEXION KNEE"
MR_SERIES = "COR_T1_3D_FLASH"
_SIDE_WORDS = {"RIGHT": "R", "LEFT": "L"}


@dataclass(frozen=True)
class KneePair:
    """Where one knee's film and MR series lie.

    Args:
        participant: OAI's ID.
        side: `R` or `L`.
        visit: such as `00m`.
        film: file of the film.
        series: folder of the MR series.
    """

    participant: str
    side: str
    visit: str
    film: Path
    series: Path

    @property
    def name(self) -> str:
        """Stem of everything that is derived from this knee."""
        return f"{self.participant}_{self.side}_{self.visit}"


@dataclass
class Index:
    """What a release holds.

    Args:
        pairs: knees with film and MR series, sorted.
        counts: how many were seen at each step.
        dropped: participant (or row) and reason.
    """

    pairs: list[KneePair] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)


def index_release(root: str | Path, *, visit: str = "00m", series: str = MR_SERIES) -> Index:
    """List the knees of one visit.

    Film and MR may have been taken on different days, so they are paired by participant and visit. Of a series that
    was repeated the last counts.

    Args:
        root: folder that holds the visit's folder, or is it; the visit's folder is the one with `contents.csv`.
        visit: such as `00m`.
        series: first part of the MR series' description.

    Raises:
        FileNotFoundError: if `root` or the visit is absent.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"OAI data {root}: no such folder.")
    folders = sorted(
        path.parent for path in root.rglob("contents.csv") if path.parent.name.lower().removeprefix("oai_") == visit
    )
    if not folders:
        raise FileNotFoundError(
            f"OAI data {root}: no visit {visit} in it; expected {visit}/contents.csv or OAI_{visit}/contents.csv."
        )
    result = Index()
    films: dict[str, Path] = {}
    scans: dict[tuple[str, str], Path] = {}
    rows = 0
    for folder in folders:
        for row in _rows(folder / "contents.csv", result):
            rows += 1
            participant, description = row["ParticipantID"], row["SeriesDescription"].upper()
            place = folder / row["Folder"]
            if not place.resolve().is_relative_to(folder.resolve()):
                result.dropped.append({"knee": participant, "reason": f"{row['Folder']}: lies outside the release"})
            elif description == FILM_SERIES:
                files = sorted(path for path in place.glob("*") if path.is_file())
                if files:
                    films[participant] = files[0]
                else:
                    result.dropped.append({"knee": participant, "reason": f"film folder {row['Folder']} has no file"})
            elif description.startswith(series.upper()):
                side = next((side for word, side in _SIDE_WORDS.items() if description.endswith(word)), None)
                if side is None:
                    result.dropped.append({"knee": participant, "reason": f"series {description} names no side"})
                else:
                    if (participant, side) in scans:
                        result.dropped.append(
                            {
                                "knee": f"{participant}_{side}_{visit}",
                                "reason": "an earlier scan was repeated (kept: last)",
                            }
                        )
                    scans[participant, side] = place
    for (participant, side), place in sorted(scans.items()):
        if participant in films:
            result.pairs.append(KneePair(participant, side, visit, films[participant], place))
        else:
            result.dropped.append({"knee": f"{participant}_{side}_{visit}", "reason": "MR series without a film"})
    with_scan = {participant for participant, _ in scans}
    for participant in sorted(set(films) - with_scan):
        result.dropped.append({"knee": participant, "reason": "film without an MR series"})
    result.counts = {"rows": rows, "films": len(films), "mr_series": len(scans), "pairs": len(result.pairs)}
    return result


def _rows(path: Path, index: Index) -> Iterator[dict[str, str]]:
    """Rows of a `contents.csv`, stripped, in the order of study dates."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    rows = []
    for number, row in enumerate(csv.DictReader(text.splitlines(), skipinitialspace=True), start=2):
        clean = {str(name).strip(): (value or "").strip() for name, value in row.items() if isinstance(value, str)}
        if all(clean.get(name) for name in ("Folder", "ParticipantID", "SeriesDescription")):
            rows.append(clean)
        else:
            index.dropped.append({"knee": f"{path.name} row {number}", "reason": "lacks folder, ID or description"})
    return iter(sorted(rows, key=lambda row: (row.get("StudyDate", ""), row.get("Barcode", ""))))
