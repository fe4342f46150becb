"""A comparison of evaluations on disk: two CSV files, a JSON file, one self-contained page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bundle.reports.comparison import Comparison, differences, statistics
from bundle.reports.montage import data_uri
from bundle.reports.page import (
    PHANTOM,
    RESEARCH,
    cell,
    count,
    definitions,
    document,
    label,
    number,
    probability,
    range_words,
    section,
    table,
)
from bundle.reports.sections import checked_sections
from bundle.reports.statistics import INTERVAL_WORDS, TEST_WORDS
from bundle.writers import whole

FILES = ("comparison.csv", "paired.csv", "comparison.json", "comparison.html")


def write_comparison(
    comparison: Comparison,
    folder: str | Path,
    *,
    title: str = "Comparison of models",
    note: str = "",
    work: Sequence[Mapping[str, Any]] = (),
    pictures: Sequence[Path] = (),
) -> list[Path]:
    """Write the four files.

    Args:
        comparison: of `bundle.reports.comparison.compare`.
        folder: made if absent.
        title: of the page.
        note: a paragraph at the head of the page, such as what a reader must not conclude from it.
        work: tables of how the rows were made, such as seconds of training (see `bundle.reports.sections`).
        pictures: PNG files that the page holds, such as those of `bundle.reports.paper_pictures.write_pictures`.

    Returns:
        paths, in the order of `FILES`.
    """
    records, pairs = statistics(comparison), differences(comparison)
    tables = list(checked_sections({str(n): found for n, found in enumerate(work)}).values())
    content = {
        "title": title,
        "note": note,
        "phantom": comparison.phantom,
        "knees": len(comparison.knees),
        "participants": len(set(comparison.participants)),
        "notes": list(comparison.notes),
        "baselines": list(comparison.baselines),
        "statistics": records,
        "paired": pairs,
        "conventions": comparison.conventions,
        "inference": {"intervals": INTERVAL_WORDS, "paired": TEST_WORDS},
        "provenance": comparison.provenance,
        "sections": comparison.sections,
        "work": tables,
    }
    texts = (
        _csv(records),
        _csv(pairs),
        json.dumps(content, indent=2, allow_nan=False) + "\n",
        render(comparison, records, pairs, title=title, note=note, work=tables, pictures=pictures),
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(FILES, texts, strict=True):
        with whole(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in FILES]


def render(
    comparison: Comparison,
    records: Sequence[Mapping[str, Any]],
    pairs: Sequence[Mapping[str, Any]],
    *,
    title: str,
    note: str,
    work: Sequence[Mapping[str, Any]] = (),
    pictures: Sequence[Path] = (),
) -> str:
    """The page."""
    phantom = f"<p>{PHANTOM}</p>" if comparison.phantom else ""
    warning = f"<p><strong>{escape(note)}</strong></p>" if note else ""
    notes = "".join(f"<li>{escape(text)}</li>" for text in comparison.notes)
    people = count(len(set(comparison.participants)), "participant")
    everything = [record for record in records if record["kl_grade"] == "all"]
    body = f"""<p class="muted">{count(len(comparison.knees), "knee")} of {people}, the same for every row</p>
<div class="notice">{warning}{phantom}<p>{RESEARCH}</p></div>
<ul class="muted">{notes}</ul>
<h2>Scores</h2>
{_scores(comparison, everything)}
<h2>Against each baseline</h2>
{_paired(comparison, pairs)}
<h2>Scores by Kellgren-Lawrence grade</h2>
{_grades(comparison, records)}
{_pictures(pictures)}
{_sections(comparison)}
{_work(work)}
<h2>Conventions</h2>
{definitions(_words(comparison))}
<h2>Runs</h2>
{definitions(comparison.provenance)}"""
    return document(title, body, style="main { max-width: 1400px; } main img { max-width: 100%; }")


def _scores(comparison: Comparison, records: Sequence[Mapping[str, Any]]) -> str:
    found = {(record["row"], record["metric"]): record for record in records}
    repeated = any(record["repetitions"] > 1 for record in records)
    rows = []
    for row in comparison.rows:
        cells = [_score(found.get((row.name, metric)), metric) for metric in comparison.metrics]
        times = [str(len(next(iter(row.repetitions.values()))))] if repeated else []
        rows.append([escape(row.name), *times, *cells])
    caption = "Mean over knees; below, the median and the mean's 95 % interval"
    caption += ", and the standard deviation over repetitions where there are several." if repeated else "."
    heads = ["", *(["trainings"] if repeated else []), *(label(metric) for metric in comparison.metrics)]
    return table(heads, rows, caption=caption)


def _score(record: Mapping[str, Any] | None, metric: str) -> str:
    if record is None:
        return ""
    if record["mean"] is None:
        return "none"
    spread = record["sd_repetitions"]
    missing = record["knees"] - record["n"]
    return cell(
        number(record["mean"], metric),
        number(record["median"], metric),
        range_words(record["low"], record["high"], metric),
        "" if spread is None else f"sd of trainings {number(spread, metric)}",
        f"{missing} without a score" if missing else "",
    )


def _paired(comparison: Comparison, pairs: Sequence[Mapping[str, Any]]) -> str:
    """A fold a baseline: rows less the baseline."""
    folds = []
    for place, baseline in enumerate(comparison.baselines):
        found = {(pair["row"], pair["metric"]): pair for pair in pairs if pair["baseline"] == baseline}
        metrics = [m for m in comparison.metrics if any(metric == m for _, metric in found)]
        names = dict.fromkeys(name for name, _ in found)
        rows = [[escape(name), *(_difference(found.get((name, m)), m) for m in metrics)] for name in names]
        shown = table(["", *(label(m) for m in metrics)], rows)
        opened = " open" if place == 0 else ""
        folds.append(f"<details{opened}><summary>less {escape(baseline)}</summary>{shown}</details>")
    return "".join(folds) or "<p>No row of the table is a baseline to test against.</p>"


def _difference(pair: Mapping[str, Any] | None, metric: str) -> str:
    if pair is None or pair["difference"] is None:
        return ""
    return cell(
        number(pair["difference"], metric),
        number(pair["median"], metric),
        range_words(pair["low"], pair["high"], metric),
        probability(pair["p"]),
    )


def _grades(comparison: Comparison, records: Sequence[Mapping[str, Any]]) -> str:
    folds = []
    grades = list(dict.fromkeys(record["kl_grade"] for record in records if record["kl_grade"] != "all"))
    sizes = {record["kl_grade"]: record["knees"] for record in records}
    for metric in comparison.metrics:
        found = {(r["row"], r["kl_grade"]): r for r in records if r["metric"] == metric}
        names = dict.fromkeys(name for name, _ in found)
        rows = [[escape(name), *(_score(found.get((name, grade)), metric) for grade in grades)] for name in names]
        shown = table(["", *(f"KL {grade}, n = {sizes[grade]}" for grade in grades)], rows)
        folds.append(f"<details><summary>{escape(label(metric))}</summary>{shown}</details>")
    return "".join(folds)


def _pictures(paths: Sequence[Path]) -> str:
    """Every picture, open: each says in itself what it shows."""
    shown = ""
    for path in paths:
        words = escape(path.stem.replace("_", " "))
        shown += f'<p><img src="{data_uri(path.read_bytes())}" alt="{words}"></p>'
    return f"<h2>Pictures</h2>{shown}" if shown else ""


def _sections(comparison: Comparison) -> str:
    """Measures over the whole set of every run, each run in a fold."""
    folds = "".join(
        f"<details><summary>{escape(name)}</summary>{''.join(section(found) for found in sections.values())}</details>"
        for name, sections in comparison.sections.items()
    )
    return f"<h2>Measures over the whole set</h2>{folds}" if folds else ""


def _work(tables: Sequence[Mapping[str, Any]]) -> str:
    return f"<h2>How the rows were made</h2>{''.join(section(found) for found in tables)}" if tables else ""


def _words(comparison: Comparison) -> dict[str, str]:
    texts = {
        label(metric): "; ".join(f"{term.replace('_', ' ')}: {value}" for term, value in terms.items())
        for metric, terms in comparison.conventions.items()
    }
    return texts | {"Intervals": INTERVAL_WORDS, "Tests": TEST_WORDS}


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as a table; None is an empty cell."""
    text = io.StringIO()
    columns = list(records[0]) if records else ["row", "baseline", "metric"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if record[c] is None else record[c] for c in columns] for record in records)
    return text.getvalue()
