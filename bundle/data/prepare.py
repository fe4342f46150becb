"""From OAI's files to the prepared set: parallel, resumable, with every drop counted."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from monai.utils import optional_import

from bundle.data.datalist import SPLITS
from bundle.data.oai_index import KneePair, index_release
from bundle.data.oai_layout import find_layout, visit_number
from bundle.data.oai_tables import fill_unread, read_covariates, read_readings
from bundle.data.prepare_knee import FILMS, VOLUMES, Options, Outcome, paths_of, try_knee, write_text
from bundle.readings import grade_table

tqdm, _ = optional_import("tqdm", name="tqdm")

__all__ = ["Options", "prepare", "split_of"]

SHARES = (0.7, 0.9)
"""Participants are split 7:2:1 (the paper); the borders of training and of training with validation."""
IMAGE_OPTIONS = ("image_size", "slices", "spacing_mm", "visit", "min_slices")
"""Options on which the image files depend: a folder holds those of one choice."""


def split_of(participant: str) -> str:
    """The split of a participant: a hash of the ID, so that further participants move nobody."""
    digest = hashlib.sha256(f"knee:{participant}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return SPLITS[sum(share >= border for border in SHARES)]


def prepare(
    oai: str | Path,
    out: str | Path,
    options: Options,
    *,
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Prepare a release.

    Args:
        oai: the release.
        out: folder to write to; knees that are there already are kept.
        options: what to make.
        workers: processes; None means one a core.
        say: gets messages for the user.

    Returns:
        the report: counts at each step and every drop with its reason.

    Raises:
        FileNotFoundError: if release or readings are absent.
        ValueError: if no knee could be prepared, a table has a grade that does not exist, or `out` holds images of
            other options.
        RuntimeError: if a process was killed.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` must be at least 1, got {workers}.")
    oai, out = Path(oai), Path(out)
    layout = find_layout(oai)
    index = index_release(oai, visit=options.visit, layout=layout)
    name = f"kxr_sq_bu{visit_number(options.visit)}.txt"
    table_path = layout.table(name)
    if table_path is None:
        raise FileNotFoundError(f"OAI data {oai}: no {name} below it (the readings); download OAI's image assessments.")
    readings = read_readings(table_path, grade_table(options.table))
    if options.missing == "grade0":
        readings = fill_unread(readings)
    people = read_covariates([layout.table("Enrollees.txt"), layout.table("AllClinical00.txt")])
    _claim(out, options)
    say(f"{len(index.pairs)} knees with film and MR series at {options.visit}")
    outcomes = sorted(_run(index.pairs, out, options, workers), key=lambda outcome: outcome.pair.name)
    for outcome in outcomes:
        if outcome.reason:
            index.drop(outcome.pair.name, outcome.reason)
    done = [outcome for outcome in outcomes if not outcome.reason]
    if not done:
        reasons = Counter(outcome.reason for outcome in outcomes) or Counter(item["reason"] for item in index.dropped)
        example = f"; the commonest reason: {reasons.most_common(1)[0][0]}" if reasons else ""
        raise ValueError(f"OAI data {oai}: no usable knee among {len(index.pairs)} pairs{example}")
    entries = [_entry(outcome.pair, readings, people, options) for outcome in done]
    splits = {split: [e for e in entries if split_of(e["participant"]) == split] for split in SPLITS}
    without = sum(all(grade is None for grade in entry["readings"].values()) for entry in entries)
    report = {
        "options": asdict(options),
        "counts": {
            **index.counts,
            "rejected": len(outcomes) - len(done),
            "prepared": len(done),
            "without_readings": without,
            **{split: len(items) for split, items in splits.items()},
        },
        "dropped": sorted(index.dropped, key=lambda item: item["knee"]),
    }
    content = {"source": "; ".join(sorted({outcome.source for outcome in done})), "options": asdict(options), **splits}
    write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "rejected.csv", _csv(report["dropped"]))
    write_text(out / "dataset.json", json.dumps(content, indent=1) + "\n")
    return report


def _run(pairs: list[KneePair], out: Path, options: Options, workers: int | None) -> Iterator[Outcome]:
    work = partial(try_knee, out=out, options=options)
    count = min(workers or os.cpu_count() or 1, max(len(pairs), 1))
    bar = partial(tqdm, total=len(pairs), desc="knees", unit="knee")
    if count == 1:
        yield from bar(map(work, pairs))
        return
    # forked where that is sound: importing torch anew takes seconds a process; with one thread no pool is inherited
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(count, context, torch.set_num_threads, (1,)) as pool:
        jobs = [pool.submit(work, pair) for pair in pairs]
        try:
            for job in bar(as_completed(jobs)):
                yield job.result()
        except BrokenProcessPool:
            raise RuntimeError(
                f"{out}: a process was killed, perhaps for memory; run again with fewer --workers, finished knees stay."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _entry(
    pair: KneePair, readings: dict[tuple[str, str], dict[str, Any]], people: dict[str, dict[str, Any]], options: Options
) -> dict[str, Any]:
    film, volume = paths_of(pair)
    unknown = dict.fromkeys(grade_table(options.table).highest)
    return {
        "film": film,
        "mri": volume,
        "participant": pair.participant,
        "side": pair.side,
        "visit": pair.visit,
        "readings": readings.get((pair.participant, pair.side), unknown),
        **people.get(pair.participant, dict.fromkeys(("age", "sex", "bmi", "site"))),
    }


def _claim(out: Path, options: Options) -> None:
    """Note the options in the folder, or refuse a folder with images of others; clear what a killed run left."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out}: is a file; name a folder for --out.")
    for folder in (FILMS, VOLUMES):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for left in (out / folder).glob(".*"):
            left.unlink(missing_ok=True)
    note = out / "options.json"
    wanted = asdict(options)
    if note.is_file():
        try:
            found = json.loads(note.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict) or any(found.get(name) != wanted[name] for name in IMAGE_OPTIONS):
            raise ValueError(f"{out}: holds knees prepared with other options; choose another --out.")
    write_text(note, json.dumps(wanted, indent=2) + "\n")


def _csv(dropped: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("knee", "reason"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dropped)
    return text.getvalue()
