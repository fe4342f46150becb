"""Does it know what it does not know: samples of one film against the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = (0.5, 0.8, 0.95)
"""Of the central intervals whose coverage is reported."""


def check_ensemble(samples: np.ndarray, truth: np.ndarray, *, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, or ValueError unless they are finite, (K, ...) and (...), and K is at least `least`."""
    samples, truth = np.asarray(samples, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if samples.ndim != truth.ndim + 1 or samples.shape[1:] != truth.shape or len(samples) < least:
        raise ValueError(
            f"`samples` must have shape (K, *{truth.shape}) with K of {least} or more, got {samples.shape}."
        )
    if not (np.isfinite(samples).all() and np.isfinite(truth).all()):
        raise ValueError("`samples` and `truth` must be finite; leave out and count what has no value first.")
    return samples, truth


def fair_crps(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score, free of the number of samples; less is better, the truth's unit.

    mean |x_k - y| - sum over pairs |x_i - x_j| / (2 K (K - 1)), all ordered pairs: in expectation that of infinitely
    many samples. It may be negative for one value. Given a point forecast alone it would be the absolute error.

    Args:
        samples: (K, ...), K of 2 or more.
        truth: (...).

    Returns:
        (...) float64.

    Source:
        Ferro, Q. J. R. Meteorol. Soc. 140, 2014, doi:10.1002/qj.2270, equation 8; pairs by order statistics.
    """
    samples, truth = check_ensemble(samples, truth, least=2)
    count = len(samples)
    weights = (2 * np.arange(count) - count + 1).reshape(-1, *[1] * truth.ndim)
    pairs = (weights * np.sort(samples, 0)).sum(0)  # over unordered pairs
    return np.abs(samples - truth).mean(0) - pairs / (count * (count - 1))


def covered(samples: np.ndarray, truth: np.ndarray, *, level: float) -> np.ndarray:
    """Whether the central interval of the samples holds the truth.

    The interval runs between the quantiles (1 - level) / 2 and (1 + level) / 2 at plotting positions r / (K + 1), where
    samples that are exchangeable with the truth cover it at the level; between positions it is interpolated, which is
    off by up to 4 points with 4 samples. Beyond the outermost positions it is the samples' whole range, see
    `reachable_level`. Limits count as inside.

    Args:
        samples: (K, ...), K of 2 or more.
        truth: (...).
        level: in (0, 1).

    Returns:
        (...) bool.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` must lie in (0, 1), got {level}.")
    samples, truth = check_ensemble(samples, truth, least=2)
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
    # interpolating between equal samples rounds; one unit in the last place is no miss
    slack = 4 * np.finfo(float).eps * np.maximum(np.abs(low), np.abs(high))
    return (truth >= low - slack) & (truth <= high + slack)


def reachable_level(level: float, count: int) -> float:
    """What perfect samples cover at `level` with so few of them: at most (K - 1) / (K + 1); 95 % needs 39."""
    return min(level, (count - 1) / (count + 1))


def rank_histogram(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How often the truth stands at each rank among the samples; flat for perfect ones, a U for too narrow ones.

    A truth equal to samples is shared among the ranks it could have.

    Args:
        samples: (K, ...).
        truth: (...).

    Returns:
        (K + 1,) float64, summing to the number of values.

    Source:
        Hamill, Mon. Weather Rev. 129, 2001, doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2.
    """
    samples, truth = check_ensemble(samples, truth, least=1)
    below, tied = (samples < truth).sum(0).ravel(), (samples == truth).sum(0).ravel()
    shares = 1 / (tied + 1)
    return np.array([(shares * ((below <= r) & (r <= below + tied))).sum() for r in range(len(samples) + 1)])


def reliability_index(histogram: Sequence[float] | np.ndarray) -> float:
    """Sum of |share of a rank - 1 / (K + 1)|: 0 for a flat histogram, near 2 where all stand at one rank.

    Source:
        Delle Monache et al., J. Geophys. Res. 111, 2006, D24307, doi:10.1029/2005JD006917, without its
        factor of 100.
    """
    counts = np.asarray(histogram, dtype=float)
    if counts.ndim != 1 or len(counts) < 2 or not counts.sum() > 0:
        raise ValueError("`histogram` must be (K + 1,) counts of at least one value.")
    return float(np.abs(counts / counts.sum() - 1 / len(counts)).sum())


def spread_and_error(samples: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance that perfect samples' mean would err by, and the squared error it has; their means agree for such.

    Args:
        samples: (K, ...), K of 2 or more.
        truth: (...).

    Returns:
        (K + 1) / K times the samples' variance (K - 1 in its denominator), and the squared error of their mean; (...)
        float64 each.

    Source:
        Fortin et al., J. Hydrometeorol. 15, 2014, doi:10.1175/JHM-D-14-0008.1, equation 15.
    """
    samples, truth = check_ensemble(samples, truth, least=2)
    return (len(samples) + 1) / len(samples) * samples.var(0, ddof=1), (samples.mean(0) - truth) ** 2
