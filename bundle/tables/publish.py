"""What a plan gave, as files: the comparison, the work behind it, the learning curve, the pictures of the paper."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.reports.comparison import Comparison, compare, statistics
from bundle.reports.comparison_page import write_comparison
from bundle.reports.learning_curve import draw_curve
from bundle.reports.paper_pictures import write_pictures
from bundle.reports.runs import Run, read_run
from bundle.tables.plan import Plan
from bundle.tables.run import Outcome
from bundle.writers import whole

CURVE_COLUMNS = ("row", "knees", "metric", "mean", "low", "high", "n", "repetitions")


def publish(plan: Plan, outcome: Outcome, folder: str | Path) -> list[Path]:
    """Write the comparison of the first number of knees, its pictures and, where there are several, the learning curve.

    Args:
        plan: the table.
        outcome: of `run_plan`; rows that are not done are named on the page.
        folder: made if absent.

    Returns:
        the files.

    Raises:
        ValueError: if no row is done.
    """
    folder = Path(folder)
    comparison = _compared(plan, outcome, plan.knees[0])
    if comparison is None:
        raise ValueError("no row of the plan is done; nothing is written.")
    names = {row.key: row.name for row in plan.rows}
    columns = [names[key] for key in plan.pictured] or None
    runs = _runs(plan, outcome, plan.knees[0])
    pictures = write_pictures(runs, comparison, folder, columns=columns, note=plan.note)
    curve = _curve(plan, outcome, folder) if len(plan.knees) > 1 else []
    shown = [*(path for path in curve if path.suffix == ".png"), *pictures]
    work = _work(plan, outcome)
    paths = write_comparison(comparison, folder, title=plan.title, note=plan.note, work=work, pictures=shown)
    return [*paths, *curve, *pictures]


def _runs(plan: Plan, outcome: Outcome, knees: int | None) -> list[tuple[str, Run]]:
    # Relative where it can be: the page names folders, and no machine's paths belong there.
    done = [record for record in outcome.done if record["knees"] == knees]
    order = {row.name: place for place, row in enumerate(plan.rows)}
    done.sort(key=lambda record: (order[record["row"]], record["seed"]))
    return [(record["row"], read_run(os.path.relpath(record["folder"]))) for record in done]


def _compared(plan: Plan, outcome: Outcome, knees: int | None) -> Comparison | None:
    runs = _runs(plan, outcome, knees)
    if not runs:
        return None
    present = {name for name, _ in runs}
    return compare(runs, baselines=[row.name for row in plan.rows if row.baseline and row.name in present])


def _work(plan: Plan, outcome: Outcome) -> list[dict[str, Any]]:
    seconds = [(record["training_seconds"], record["evaluation_seconds"]) for record in outcome.done]
    rows = [
        [record["row"], record["seed"], record["training_knees"], *spent, _words(record["chosen"]) or None]
        for record, spent in zip(outcome.done, seconds, strict=True)
    ]
    compute = {
        "title": "Compute",
        "note": "Wall-clock seconds of the commands, on whatever else the machine did; options that tuning chose.",
        "columns": ["row", "seed", "training knees", "training, s", "evaluation, s", "chosen"],
        "rows": rows,
        "convention": {
            "options of every training": _words(plan.options),
            "epochs times training knees": _words(plan.knee_epochs) or "as many epochs for any number of knees",
            "tuning, the same for every trained row": _words(plan.tuning) or "none",
            "seeds": ", ".join(map(str, plan.seeds)),
            "cohort": _words(plan.cohort),
        },
    }
    if outcome.complete:
        return [compute]
    missing: list[list[str | None]] = [
        ["failed", name, reason.split(" (")[0]] for name, reason in outcome.failed.items()
    ]
    missing += [["not run", name, None] for name in outcome.left]
    absent = {
        "title": "Not in the table",
        "note": "Steps that failed or were not run; run the plan again to go on.",
        "columns": ["what", "step", "reason"],
        "rows": missing,
        "convention": {},
    }
    return [absent, compute]


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _curve(plan: Plan, outcome: Outcome, folder: Path) -> list[Path]:
    records: list[dict[str, Any]] = []
    for knees in plan.knees:
        comparison = _compared(plan, outcome, knees)
        if comparison is not None:
            trained = {row.name for row in comparison.rows if row.model}
            count = next(r["training_knees"] for r in outcome.done if r["knees"] == knees)
            records += [
                {**{name: found[name] for name in CURVE_COLUMNS if name != "knees"}, "knees": count}
                for found in statistics(comparison)
                if found["kl_grade"] == "all" and found["row"] in trained
            ]
    records.sort(key=lambda record: (record["row"], record["metric"], record["knees"]))
    paths = [folder / "learning_curve.csv", folder / "learning_curve.png"]
    with whole(paths[0]) as temporary:
        temporary.write_text(_csv(records))
    with whole(paths[1]) as temporary:
        temporary.write_bytes(draw_curve(records))
    return paths


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, CURVE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
