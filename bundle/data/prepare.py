"""From a release, or a list of one's own files, to the prepared set: parallel, resumable, every drop counted."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bundle.command_line import check_folder
from bundle.data.boxes import Box, read_boxes
from bundle.data.datalist import SPLITS
from bundle.data.oai_index import Index, KneePair, index_release
from bundle.data.oai_layout import find_layout, visit_number
from bundle.data.oai_tables import COVARIATES, fill_unread, read_covariates, read_readings
from bundle.data.own_pairs import read_own_pairs
from bundle.data.prepare_knee import FILMS, VOLUMES, Options, Outcome, paths_of, try_knee, write_text
from bundle.data.prepare_pool import run
from bundle.data.release_page import write_page
from bundle.data.splits import chooser, read_split_file, split_of, split_text
from bundle.networks.knee_finder import KneeFinder
from bundle.readings import grade_table

__all__ = ["Options", "prepare", "split_of"]

IMAGE_OPTIONS = ("image_size", "slices", "spacing_mm", "min_slices", "series")
"""Options on which the image files depend: a folder holds those of one choice."""


@dataclass
class Source:
    """What is to be prepared.

    Args:
        index: knees, and what is dropped already.
        readings: knee's name to grades.
        people: (participant, visit) to covariates.
        name: how errors call it.
    """

    index: Index
    readings: dict[str, dict[str, Any]] = field(default_factory=dict)
    people: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    name: str = ""


def prepare(
    oai: str | Path | None,
    out: str | Path,
    options: Options,
    *,
    pairs: str | Path | None = None,
    boxes: str | Path | None = None,
    finder: str | Path | None = None,
    holdout_site: str | None = None,
    split_file: str | Path | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Prepare a release, or a list of one's own files.

    Args:
        oai: the release; None with `pairs`.
        out: folder to write to; knees that are there already are kept.
        options: what to make.
        pairs: list of films and volumes, see `read_own_pairs`.
        boxes: list of boxes around knees, see `read_boxes`; None looks for the knees.
        finder: weights of the knee finder; None looks by image analysis alone.
        holdout_site: clinical site whose participants are the test split.
        split_file: list of IDs by split: followed if it is there, else written.
        workers: processes; None means one a core.
        say: gets messages for the user.

    Returns:
        the report: counts at each step and every drop with its reason.

    Raises:
        FileNotFoundError: if release, list or readings are absent.
        ValueError: if no knee could be prepared, a table has a grade that does not exist, or `out` holds images of
            other options.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` must be at least 1, got {workers}.")
    if holdout_site is not None and split_file is not None and Path(split_file).exists():
        raise ValueError(f"`holdout_site` and the split file {split_file} both say who tests; give one of them.")
    out = Path(out)
    if split_file is not None:
        check_folder(Path(split_file).parent, "--split-file")
    listed = read_split_file(split_file) if split_file is not None and Path(split_file).exists() else None
    known = read_boxes(boxes) if boxes is not None else None
    source = find_source(oai, options, pairs=pairs)
    index = source.index
    finder = None if finder is None else Path(finder)
    if finder is not None:
        KneeFinder.load(finder)  # a damaged file is one error, not one of every knee
    entry_of = {pair.name: _entry(pair, source, options) for pair in index.pairs}
    if index.pairs:
        _check_site(holdout_site, list(entry_of.values()))
        _check_listed(listed, {pair.participant for pair in index.pairs}, split_file)
    _claim(out, options, known, finder)
    say(f"{len(index.pairs)} knees with film and MR series")
    work = partial(try_knee, out=out, options=options, boxes=known, finder=finder)
    outcomes = sorted(run(index.pairs, work, workers), key=lambda outcome: outcome.pair.name)
    for outcome in outcomes:
        if outcome.reason:
            index.drop(outcome.pair.name, outcome.reason, outcome.file)
    done = [outcome for outcome in outcomes if not outcome.reason]
    if not done:
        reasons = Counter(outcome.reason for outcome in outcomes) or Counter(item["reason"] for item in index.dropped)
        example = f"; the commonest reason: {reasons.most_common(1)[0][0]}" if reasons else ""
        write_text(out / "rejected.csv", _csv(index.dropped))
        raise ValueError(f"{source.name}: no usable knee among {len(index.pairs)} pairs{example}")
    entries = [entry_of[outcome.pair.name] for outcome in done]
    choose = chooser(holdout_site=holdout_site, listed=listed)
    for entry, outcome in zip(entries, done, strict=True):
        if choose(entry) is None:
            why = "its participant is not in the split file" if listed is not None else "its clinical site is not known"
            index.drop(outcome.pair.name, f"prepared, but in no split: {why}")
    splits = {split: [entry for entry in entries if choose(entry) == split] for split in SPLITS}
    report = _report(index, outcomes, splits, options)
    content = {"source": "; ".join(sorted({outcome.note["source"] for outcome in done}))}
    write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "rejected.csv", _csv(report["dropped"]))
    write_page(out, report, splits, done)
    write_text(out / "dataset.json", json.dumps(content | {"options": asdict(options), **splits}, indent=1) + "\n")
    if split_file is not None and listed is None:
        kept = [entry for items in splits.values() for entry in items]
        write_text(Path(split_file), split_text(kept, choose))
    return report


def find_source(oai: str | Path | None, options: Options, *, pairs: str | Path | None = None) -> Source:
    """Knees, readings and covariates of a release or of one's own list; see `prepare`."""
    table = grade_table(options.table)
    if pairs is not None:
        index, clinical = read_own_pairs(pairs, table)
        own = Source(index, name=f"pairs {pairs}")
        for pair in index.pairs:
            own.readings[pair.name], own.people[pair.participant, pair.visit] = clinical[pair.name]
        return own
    if oai is None:
        raise ValueError("name OAI's release with --oai DIR, or your own files with --pairs FILE.csv.")
    layout = find_layout(oai)
    source = Source(
        index_release(oai, visit=options.visits, series=options.series, layout=layout), name=f"OAI data {oai}"
    )
    for visit in options.visits:
        digits = visit_number(visit)
        path = layout.readings(digits)
        if path is None:
            raise FileNotFoundError(
                f"OAI data {oai}: no kxr_sq_bu{digits}.txt below it (the readings; nor .sas7bdat, nor NDA's "
                "oai_kxrsemiquant01.txt); download OAI's image assessments."
            )
        readings = read_readings(path, table, visit=visit, note=source.index.drop)
        readings = fill_unread(readings) if options.missing == "grade0" else readings
        source.readings |= {f"{who}_{side}_{visit}": grades for (who, side), grades in readings.items()}
        people = read_covariates(layout.people(digits), visit=visit)
        source.people |= {(who, visit): person for who, person in people.items()}
    return source


def _entry(pair: KneePair, source: Source, options: Options) -> dict[str, Any]:
    film, volume = paths_of(pair)
    unknown = dict.fromkeys(grade_table(options.table).highest)
    return {
        "film": film,
        "mri": volume,
        "participant": pair.participant,
        "side": pair.side,
        "visit": pair.visit,
        "readings": source.readings.get(pair.name, unknown),
        **source.people.get((pair.participant, pair.visit), dict.fromkeys(COVARIATES)),
    }


def _report(
    index: Index, outcomes: list[Outcome], splits: Mapping[str, list[dict[str, Any]]], options: Options
) -> dict[str, Any]:
    entries = [entry for items in splits.values() for entry in items]
    return {
        "options": asdict(options),
        "counts": {
            **index.counts,
            "rejected": sum(bool(outcome.reason) for outcome in outcomes),
            "prepared": sum(not outcome.reason for outcome in outcomes),
            "without_readings": sum(all(v is None for v in entry["readings"].values()) for entry in entries),
            **{split: len(items) for split, items in splits.items()},
        },
        "sequences": dict(sorted(index.sequences.items())),
        "dropped": sorted(index.dropped, key=lambda item: (item["knee"], item["reason"])),
    }


def _check_site(site: str | None, entries: list[dict[str, Any]]) -> None:
    """Refuse a site that nobody is of, before hours are spent."""
    held = {str(entry["site"]).strip().upper() for entry in entries if entry["site"] is not None}
    if site is not None and site.strip().upper() not in held:
        raise ValueError(
            f"`holdout_site` {site!r}: no knee that has both images is of that site; sites: {', '.join(sorted(held))}."
        )


def _check_listed(listed: Mapping[str, str] | None, participants: set[str], split_file: str | Path | None) -> None:
    """Refuse a split file that names nobody of the release, before hours are spent."""
    if listed is not None and participants.isdisjoint(listed):
        raise ValueError(
            f"split file {split_file}: none of its {len(listed)} participants has a knee with film and MR series here, "
            f"as {min(participants)} has; is it another release's?"
        )


def _claim(out: Path, options: Options, boxes: Mapping[tuple[str, str, str], Box] | None, finder: Path | None) -> None:
    """Note the options in the folder, or refuse a folder with images of others; clear what a killed run left."""
    check_folder(out, "--out")
    for folder in (FILMS, VOLUMES):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for left in (out / folder).glob(".*"):
            left.unlink(missing_ok=True)
    note = out / "options.json"
    wanted = {name: asdict(options)[name] for name in IMAGE_OPTIONS}
    wanted["boxes"] = hashlib.sha256(repr(sorted(boxes.items())).encode()).hexdigest()[:16] if boxes else None
    wanted["finder"] = hashlib.sha256(finder.read_bytes()).hexdigest()[:16] if finder and not boxes else None
    if note.is_file():
        try:
            found = json.loads(note.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict) or any(found.get(name) != value for name, value in wanted.items()):
            raise ValueError(f"{out}: holds knees prepared with other options; choose another --out.")
    write_text(note, json.dumps(wanted, indent=2) + "\n")


def _csv(dropped: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("knee", "file", "reason"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dropped)
    return text.getvalue()
