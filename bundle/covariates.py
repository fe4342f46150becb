"""Age, sex, body mass index and side of a knee as a vector for the denoiser."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bundle.readings import check_policy

SCALES = {"age": (62.0, 9.0), "bmi": (28.5, 5.0)}
"""Rounded mean and standard deviation over OAI's participants (45 to 79 years), for numbers near 0."""
LIMITS = {"age": (18.0, 120.0), "bmi": (10.0, 80.0)}
CATEGORIES = {"sex": ("F", "M"), "side": ("R", "L")}
NAMES = ("age", "sex", "bmi", "side")


def width(policy: str | None = "zeros") -> int:
    """Length of what `encode` gives under a missing policy; 0 for None, which means no covariates at all."""
    if policy is None:
        return 0
    slots = len(SCALES) + sum(len(values) for values in CATEGORIES.values())
    return slots + (len(NAMES) if _check(policy) == "mask" else 0)


def policy_of(length: int) -> str | None:
    """The missing policy whose vectors are so long; None for 0. ValueError for a length that no policy gives."""
    for policy in (None, "zeros", "mask"):
        if width(policy) == length:
            return policy
    raise ValueError(
        f"`length` must be that of a covariates' vector, {width('zeros')} or {width('mask')}, got {length}."
    )


def encode(
    covariates: Mapping[str, float | str | None] | None, *, policy: str = "zeros", where: str = "covariates"
) -> np.ndarray:
    """Vector of a knee's covariates: age and BMI in standard deviations from the mean, sex and side one-hot.

    Args:
        covariates: `age` in years, `sex` F or M, `bmi` in kg/m2, `side` R or L; absent or None is missing.
        policy: `zeros` leaves a missing one's slots at 0 (for a number, the mean), `mask` appends one availability
            bit each. `grade0` speaks of readings alone.
        where: row or file that errors name.

    Returns:
        float32 vector of length `width(policy)`, in the order age, sex, bmi, side, availability bits.

    Raises:
        ValueError: on an unknown name, a value outside the limits, or an unknown policy; names it, and `where`.
    """
    _check(policy)
    covariates = covariates or {}
    for name in covariates:
        if name not in NAMES:
            raise ValueError(f"{where}: unknown covariate `{name}`; there are {', '.join(NAMES)}.")
    vector: list[float] = []
    available: list[float] = []
    for name in NAMES:
        value = covariates.get(name)
        available.append(float(value is not None))
        vector += _category(name, value, where) if name in CATEGORIES else _number(name, value, where)
    return np.asarray([*vector, *(available if policy == "mask" else [])], dtype=np.float32)


def _category(name: str, value: float | str | None, where: str) -> list[float]:
    if value is not None and value not in CATEGORIES[name]:
        raise ValueError(f"{where}: `{name}` must be one of {', '.join(CATEGORIES[name])} or missing, got {value!r}.")
    return [float(value == choice) for choice in CATEGORIES[name]]


def _number(name: str, value: float | str | None, where: str) -> list[float]:
    if value is None:
        return [0.0]
    low, high = LIMITS[name]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise ValueError(f"{where}: `{name}` must be a number from {low:g} to {high:g} or missing, got {value!r}.")
    mean, sd = SCALES[name]
    return [(number - mean) / sd]


def _check(policy: str) -> str:
    if check_policy(policy) == "grade0":
        raise ValueError("`policy` of covariates must be `zeros` or `mask`, got 'grade0': they have no grades.")
    return policy
