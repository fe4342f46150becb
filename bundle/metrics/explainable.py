"""How much of what a film can tell a model has found: its error between the mean volume's and the oracle's."""

from __future__ import annotations

import numpy as np

from bundle.metrics.ensembles import check_ensemble


def mean_squared_error(samples: np.ndarray, truth: np.ndarray, *, corrected: bool = True) -> float:
    """Squared error of the samples' mean, as it would be with infinitely many of them.

    With y the truth, m the mean that infinitely many samples have and s^2 their variance, E (mean of K - y)^2 =
    (m - y)^2 + s^2 / K. The second part is taken off, s^2 estimated without bias (K - 1), so the result is unbiased for
    any K of 2 or more and may be negative.

    Args:
        samples: (K, ...); K = 1 is a point estimate, which has nothing to correct.
        truth: (...).
        corrected: False leaves the part s^2 / K in, for a comparison at equal K.

    Returns:
        mean over the values.
    """
    samples, truth = check_ensemble(samples, truth, least=1)
    error = float(((samples.mean(0) - truth) ** 2).mean())
    count = len(samples)
    return error - float(samples.var(0, ddof=1).mean()) / count if corrected and count > 1 else error


def explainable_share(errors: np.ndarray) -> float:
    """(MSE of mean volume - MSE of model) / (MSE of mean volume - MSE of oracle), of the means over knees.

    Means before the ratio: a knee that is hard to tell from the mean would otherwise weigh without bound. 1 is all that
    can be known, 0 no better than the mean volume; a model can be worse, and by chance better than 1.

    Args:
        errors: (N, 3): mean volume, model, oracle, one row a knee.

    Returns:
        the share; NaN where the oracle is no better than the mean volume.

    Raises:
        ValueError: if the shape is another, or an error is not finite.
    """
    errors = np.asarray(errors, dtype=float)
    if errors.ndim != 2 or errors.shape[1] != 3 or not len(errors) or not np.isfinite(errors).all():
        raise ValueError(f"`errors` must be finite, (N, 3) for mean volume, model and oracle, got {errors.shape}.")
    mean, model, oracle = errors.mean(0)
    return float((mean - model) / (mean - oracle)) if mean > oracle else float("nan")


def share_above_floor(scores: np.ndarray) -> float:
    """(model - floor) / (oracle - floor), of the means over knees, for scores without a correction for K.

    The floor is the score of another person's knee. All three must come from the mean of equally many volumes.

    Args:
        scores: (N, 3): floor, model, oracle, one row a knee; of any direction.

    Returns:
        the share; NaN where oracle and floor are equal.

    Raises:
        ValueError: if the shape is another, or a score is not finite.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or scores.shape[1] != 3 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"`scores` must be finite, (N, 3) for floor, model and oracle, got {scores.shape}.")
    floor, model, oracle = scores.mean(0)
    return float((model - floor) / (oracle - floor)) if oracle != floor else float("nan")
