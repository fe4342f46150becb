"""Intervals and paired tests of scores, drawn by participant: two knees of one person are not two people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.utils import optional_import

wilcoxon, has_scipy = optional_import("scipy.stats", name="wilcoxon")

RESAMPLES = 2000
LEVEL = 0.95
SEED = 20240
"""Of the bootstrap; fixed, so that a page can be made again."""
INTERVAL_WORDS = (
    f"{LEVEL:.0%} percentile interval of the mean over {RESAMPLES} bootstrap draws of participants, each with all of "
    f"their knees (Efron and Tibshirani 1993, chapter 13), seed {SEED}"
)
TEST_WORDS = (
    "Wilcoxon's signed-rank test, two-sided, of the participants' mean differences (ties and zeros as Pratt 1959); "
    "p is not corrected for the number of comparisons"
)


@dataclass(frozen=True)
class Interval:
    """A mean over knees and its bootstrap interval; None where there is nothing to compute it from.

    Args:
        mean: over the knees that have a finite score.
        low: of the interval; high: of the interval; both None with fewer than two participants.
        n: knees behind the mean.
        participants: people behind it.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    participants: int


@dataclass(frozen=True)
class Paired:
    """A mean difference over the knees that both have a score, its interval, and the test's p.

    Args:
        difference: `interval` of the differences.
        median: of the differences.
        p: of the test over participants; None with fewer than two, or where no difference is other than zero.
    """

    difference: Interval
    median: float | None
    p: float | None


def interval(values: np.ndarray, participants: Sequence[str], *, resamples: int = RESAMPLES) -> Interval:
    """Mean and bootstrap interval of scores.

    A draw takes as many participants as there are, with replacement, and pools their knees.

    Args:
        values: a score a knee, shape (N,); NaN and infinite ones take no part, and `n` says how many did.
        participants: whose knee each is, N names.
        resamples: draws of the bootstrap.

    Raises:
        ValueError: if the lengths differ.
    """
    sums, counts = _by_participant(values, participants)
    people, knees = len(sums), int(counts.sum())
    mean = float(sums.sum() / knees) if knees else None
    if people < 2:
        return Interval(mean, None, None, knees, people)
    draws = np.random.default_rng(SEED).integers(people, size=(resamples, people))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), knees, people)


def paired(
    values: np.ndarray, others: np.ndarray, participants: Sequence[str], *, resamples: int = RESAMPLES
) -> Paired:
    """How much `values` exceed `others`, knee by knee.

    Args:
        values: a score a knee, shape (N,).
        others: another method's, of the same knees.
        participants: whose knee each is.
        resamples: draws of the bootstrap.

    Raises:
        ValueError: if the lengths differ.
        OptionalImportError: if scipy is missing.
    """
    values, others = np.asarray(values, float), np.asarray(others, float)
    if values.shape != others.shape:
        raise ValueError(f"`values` and `others` must be of the same knees, got {len(values)} and {len(others)}.")
    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, which takes no part
        differences = values - others
    sums, counts = _by_participant(differences, participants)
    means = sums / counts
    finite = differences[np.isfinite(differences)]
    p = None
    if len(means) > 1 and bool((means != 0).any()):
        p = float(wilcoxon(means, zero_method="pratt").pvalue)
        p = p if math.isfinite(p) else None
    median = float(np.median(finite)) if len(finite) else None
    return Paired(interval(differences, participants, resamples=resamples), median, p)


def _by_participant(values: np.ndarray, participants: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of finite values of each participant who has any, in order of name."""
    values = np.asarray(values, dtype=float)
    if values.shape != (len(participants),):
        raise ValueError(f"`values` must have one score a knee, got {values.shape} for {len(participants)} knees.")
    finite = np.isfinite(values)
    _, owner = np.unique(np.asarray(participants, dtype=str)[finite], return_inverse=True)
    counts = np.bincount(owner)
    return np.bincount(owner, weights=values[finite]), counts
