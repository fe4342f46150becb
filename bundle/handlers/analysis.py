"""What a table of scores says: intervals, Kellgren-Lawrence grades, and the model against each baseline."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bundle.handlers.scores import ScoreTable, summarise
from bundle.readings import kl_groups
from bundle.reports.statistics import interval, paired


def intervals(table: ScoreTable) -> dict[str, dict[str, dict[str, Any]]]:
    """Method to metric to the fields of `bundle.reports.statistics.Interval`."""
    people = [knee.participant for knee in table.knees]
    return {
        method: {metric: asdict(interval(values, people)) for metric, values in scores.items()}
        for method, scores in table.scores.items()
    }


def by_grade(table: ScoreTable) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Metric to grade to method to `summarise` over the knees of that grade; `n` is their number."""
    groups = kl_groups([knee.kl_grade for knee in table.knees])
    return {
        metric: {
            grade: {
                method: summarise(scores[metric][members])
                for method, scores in table.scores.items()
                if metric in scores
            }
            for grade, members in groups.items()
        }
        for metric in table.metrics
    }


def against_baselines(table: ScoreTable, *, methods: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The first method less each other, over the knees that have both scores.

    Args:
        table: scores of every method.
        methods: the model, then its baselines.

    Returns:
        baseline to metric to `difference` (the fields of an `Interval`), `median` and `p`; metrics that one of the
        two lacks are absent.
    """
    people = [knee.participant for knee in table.knees]
    model, *baselines = methods
    ours = table.scores[model]
    return {
        baseline: {
            metric: asdict(paired(ours[metric], values, people))
            for metric, values in table.scores[baseline].items()
            if metric in ours
        }
        for baseline in baselines
    }
