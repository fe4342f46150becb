"""Confidence intervals by drawing participants again: two knees of one person are not two people."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from monai.utils import optional_import

scipy_bootstrap, has_scipy = optional_import("scipy.stats", name="bootstrap")

METHODS = ("percentile", "BCa")
Statistic = Callable[[np.ndarray], float]


def column_mean(values: np.ndarray) -> float:
    """Mean of (N,) or (N, 1) values; NaN where one of them is."""
    return float(values.mean())


def ratio_of_means(values: np.ndarray) -> float:
    """Mean of the first of two columns over that of the second; NaN where the second is 0."""
    above, below = values.mean(0)
    return float(above / below) if below else float("nan")


def participant_interval(
    values: np.ndarray,
    participants: Sequence[Hashable],
    *,
    statistic: Statistic = column_mean,
    level: float = 0.95,
    resamples: int = 1000,
    method: str = "percentile",
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of a statistic over knees, all knees of a participant drawn together.

    Args:
        values: what is known of each knee, (N,) or (N, C).
        participants: whose knee each is, N of them.
        statistic: `values` of some knees, with repeats, to a number.
        level: of the interval, two-sided.
        resamples: how often participants are drawn, with replacement.
        method: `percentile` or `BCa` (bias-corrected and accelerated; needs 20 participants or more to be worth it).
        seed: of the draws.

    Returns:
        lower and upper limit; both NaN with fewer than two participants, or where the statistic of a draw is NaN.

    Raises:
        ValueError: on an empty set, unequal lengths, or an option out of range.
        OptionalImportError: if scipy is missing.

    Source:
        Efron, J. Am. Stat. Assoc. 82, 1987, doi:10.1080/01621459.1987.10478410; the cluster bootstrap as in Davison and
        Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8.
    """
    values = np.asarray(values, dtype=float)
    if not len(values) or len(values) != len(participants):
        raise ValueError(f"`participants` must name one for each of {len(values)} knees, got {len(participants)}.")
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"`level` must lie in (0, 1) and `resamples` be positive, got {level} and {resamples}.")
    members = [np.flatnonzero([who == one for who in participants]) for one in dict.fromkeys(participants)]
    if len(members) < 2:
        return float("nan"), float("nan")

    def of(drawn: np.ndarray) -> float:
        return statistic(values[np.concatenate([members[int(one)] for one in drawn])])

    with warnings.catch_warnings():
        # a statistic that cannot be had from a draw is NaN here and None in a report, which says as much
        warnings.simplefilter("ignore")
        result = scipy_bootstrap(
            (np.arange(len(members)),),
            of,
            vectorized=False,
            n_resamples=resamples,
            confidence_level=level,
            method=method,
            rng=np.random.default_rng(seed),
        )
    if np.isnan(result.bootstrap_distribution).any():
        return float("nan"), float("nan")
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
