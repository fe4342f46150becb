"""Several evaluations of the same knees in one table: rows, intervals, paired tests, Kellgren-Lawrence grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.readings import kl_groups
from bundle.reports.runs import MODEL, KneeKey, Run
from bundle.reports.statistics import interval, paired

REAL = "real"
SAME = 1e-6
"""Scores that differ by less, over all knees and metrics, are those of one method seen in two runs."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name: on the page.
        repetitions: metric to scores (repetitions, knees); repetitions are trainings that differ in their seed.
        model: whether it is a run's own model, not one of the baselines that an evaluation scores beside it.
    """

    name: str
    repetitions: Mapping[str, np.ndarray]
    model: bool

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """Metric to a score a knee: the mean over repetitions."""
        return {metric: values.mean(axis=0) for metric, values in self.repetitions.items()}


@dataclass(frozen=True)
class Comparison:
    """What several runs say together.

    Args:
        knees: the knees that all runs have.
        grades: of those knees.
        rows: the table.
        metrics: all metrics, in order of appearance.
        baselines: names of the rows that every other is tested against.
        notes: what a reader must know: knees left out, rows left out.
        conventions: metric to how it was computed.
        phantom: whether the knees are a phantom's.
        sections: run's name to its measures over the whole set.
        provenance: run's name and folder to what its summary says of data and weights.
    """

    knees: Sequence[KneeKey]
    grades: Sequence[int | None]
    rows: Sequence[Row]
    metrics: Sequence[str]
    baselines: Sequence[str]
    notes: Sequence[str]
    conventions: Mapping[str, Mapping[str, Any]]
    phantom: bool
    sections: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, str]

    @property
    def participants(self) -> list[str]:
        """Whose knee each is."""
        return [participant for participant, _, _ in self.knees]


def compare(runs: Sequence[tuple[str, Run]], *, baselines: Sequence[str] | None = None) -> Comparison:
    """Put runs side by side.

    Runs of one name are repetitions of one training; a knee's score is their mean. Knees that not all runs have are
    left out and counted in `notes`. A baseline that several evaluations scored alike is one row.

    Args:
        runs: name and run, in the order of the table.
        baselines: names of rows that every other row is tested against; None is every row but the first and the
            real volumes.

    Raises:
        ValueError: if there is no run, no knee is common, phantom and real knees meet, a metric was computed under
            different conventions, or a baseline is not a row.
    """
    if not runs:
        raise ValueError("`runs` must hold at least one evaluation.")
    phantoms = {bool(run.summary.get("phantom")) for _, run in runs}
    if len(phantoms) > 1:
        raise ValueError("some runs are of phantom knees and some are not; their figures may not share a table.")
    knees, notes = _common_knees(runs)
    grades = [runs[0][1].grades[knee] for knee in knees]
    for name, run in runs:
        if any(run.grades[knee] != grade for knee, grade in zip(knees, grades, strict=True)):
            raise ValueError(f"run {name}: grades differ from those of run {runs[0][0]}; were both of one preparation?")
    rows, more = _rows(runs, knees)
    names = [row.name for row in rows]
    chosen = [name for name in names[1:] if name != "Real volumes"] if baselines is None else list(baselines)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ValueError(f"baseline {unknown[0]!r} is not a row; the rows are: {', '.join(names)}.")
    return Comparison(
        knees=knees,
        grades=grades,
        rows=rows,
        metrics=list(dict.fromkeys(metric for row in rows for metric in row.repetitions)),
        baselines=chosen,
        notes=notes + more,
        conventions=_conventions(runs),
        phantom=phantoms.pop(),
        sections={_where(name, run): run.summary["sections"] for name, run in runs if run.summary.get("sections")},
        provenance={_where(name, run): _provenance(run) for name, run in runs},
    )


def statistics(comparison: Comparison) -> list[dict[str, Any]]:
    """A record for each row, metric and group of grades (`all` first) that has a knee.

    `mean`, `low` and `high` are of knees' means over repetitions; `sd` is over knees, `sd_repetitions` over the
    repetitions' means, None for one repetition.
    """
    groups = {"all": np.ones(len(comparison.knees), dtype=bool)} | kl_groups(comparison.grades)
    people = np.array(comparison.participants)
    records = []
    for row in comparison.rows:
        for metric, values in row.scores.items():
            for group, members in groups.items():
                chosen, each = values[members], row.repetitions[metric][:, members]
                finite = chosen[np.isfinite(chosen)]
                of = interval(chosen, list(people[members]))
                means = [float(r[np.isfinite(r)].mean()) for r in each if np.isfinite(r).any()]
                records.append(
                    {"row": row.name, "metric": metric, "kl_grade": group}
                    | {"knees": int(members.sum()), "repetitions": len(each)}
                    | asdict(of)
                    | {
                        "median": float(np.median(finite)) if len(finite) else None,
                        "sd": float(finite.std(ddof=1)) if len(finite) > 1 else None,
                        "sd_repetitions": float(np.std(means, ddof=1)) if len(means) > 1 else None,
                    }
                )
    return records


def differences(comparison: Comparison) -> list[dict[str, Any]]:
    """A record for each row, baseline and metric that both have: the row less the baseline, knee by knee."""
    records = []
    by_name = {row.name: row.scores for row in comparison.rows}
    for baseline in comparison.baselines:
        for row in comparison.rows:
            if row.name in (baseline, "Real volumes"):
                continue
            for metric, values in row.scores.items():
                if metric in by_name[baseline]:
                    found = paired(values, by_name[baseline][metric], comparison.participants)
                    records.append(
                        {"row": row.name, "baseline": baseline, "metric": metric}
                        | {"difference": found.difference.mean, "median": found.median, "p": found.p}
                        | {key: getattr(found.difference, key) for key in ("low", "high", "n", "participants")}
                    )
    return records


def _where(name: str, run: Run) -> str:
    return f"{name} ({run.folder.as_posix()})"


def _provenance(run: Run) -> str:
    """What is known of data and weights; files below the current folder by their path from there, no machine's."""
    here = Path.cwd()
    known = {
        term: Path(value).relative_to(here).as_posix() if value and Path(value).is_relative_to(here) else value
        for term, value in run.summary.get("provenance", {}).items()
    }
    return "; ".join(f"{term}: {value}" for term, value in known.items())


def _common_knees(runs: Sequence[tuple[str, Run]]) -> tuple[list[KneeKey], list[str]]:
    common = [knee for knee in runs[0][1].grades if all(knee in run.grades for _, run in runs)]
    everything = {knee for _, run in runs for knee in run.grades}
    if not common:
        counts = ", ".join(f"{name} has {len(run.grades)}" for name, run in runs)
        raise ValueError(f"the runs have no knee in common ({counts}); evaluate them on one test split.")
    if len(common) == len(everything):
        return common, []
    counts = ", ".join(dict.fromkeys(f"{name}: {len(run.grades)}" for name, run in runs))
    return common, [f"{len(common)} of {len(everything)} knees are in every run and are compared ({counts})."]


def _rows(runs: Sequence[tuple[str, Run]], knees: Sequence[KneeKey]) -> tuple[list[Row], list[str]]:
    """Models in the order given, then what evaluations scored beside them, then the real volumes."""
    named: dict[str, list[Run]] = {}
    for name, run in runs:
        named.setdefault(name, []).append(run)
    models = [Row(name, _stacked(group, MODEL, knees), True) for name, group in named.items()]
    others: list[Row] = []
    real: list[Row] = []
    notes: list[str] = []
    for name, group in named.items():
        for method in group[0].scores:
            if method == MODEL or not all(method in run.scores for run in group):
                continue
            row = Row(group[0].name_of(method), _stacked(group, method, knees), False)
            twin = next((known for known in (*models, *others, *real) if _same(known, row)), None)
            if twin is not None:
                if twin.model:
                    notes.append(f"{row.name} has the scores of {twin.name} and is not shown twice.")
            elif method == REAL:
                real.append(row)
            elif any(known.name == row.name for known in (*models, *others)):
                others.append(Row(f"{row.name} ({name})", row.repetitions, False))
            else:
                others.append(row)
    return [*models, *others, *real[:1]], list(dict.fromkeys(notes))


def _stacked(group: Sequence[Run], method: str, knees: Sequence[KneeKey]) -> dict[str, np.ndarray]:
    """Metric to scores (runs, knees) of the metrics that all runs of a group have."""
    places = [{knee: index for index, knee in enumerate(run.grades)} for run in group]
    metrics = [metric for metric in group[0].scores[method] if all(metric in run.scores[method] for run in group)]
    return {
        metric: np.stack(
            [run.scores[method][metric][[at[k] for k in knees]] for run, at in zip(group, places, strict=True)]
        )
        for metric in metrics
    }


def _same(one: Row, other: Row) -> bool:
    mine, theirs = one.scores, other.scores
    return set(mine) == set(theirs) and all(
        np.allclose(mine[metric], theirs[metric], rtol=0, atol=SAME, equal_nan=True) for metric in mine
    )


def _conventions(runs: Sequence[tuple[str, Run]]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name, run in runs:
        for metric, terms in run.summary["conventions"].items():
            if found.setdefault(metric, terms) != terms:
                raise ValueError(
                    f"`{metric}` of run {name} was computed as {terms}, of another run as {found[metric]}; evaluate "
                    "both alike."
                )
    return found
