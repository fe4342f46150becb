"""Knees of a prepared set with what a film is to be graded for: one grade out of some, or all readings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from bundle.data.datalist import pairs
from bundle.keys import FILM, MRI, PARTICIPANT, READINGS, SIDE
from bundle.readings import grade_table

logger = logging.getLogger(__name__)
TARGET = "target"
"""Entry of a knee: a one-hot vector, zeros where a grade is missing."""


def graded_knees(
    root: str, split: str, *, variable: str = "XRKL", grades: Sequence[int] = (0, 2)
) -> list[dict[str, Any]]:
    """Knees whose grade of one variable is among some.

    Args:
        root: folder of the prepared set.
        split: `training`, `validation` or `test`.
        variable: the reading.
        grades: one for each class, in the order of the network's outputs; 0 against 2 is the paper's task.

    Returns:
        a dictionary a knee: `image`, `mri`, `participant` and `side` as `pairs` gives them; `target` is one-hot of its
        class. Knees with another grade or none are left out; how many is logged.

    Raises:
        ValueError: if a class has no knee.
    """
    found, codes = pairs(root, split), np.eye(len(grades), dtype=np.float32)
    order: list[float] = list(grades)
    classes = [order.index(grade) if grade in order else None for grade in _grades(found, variable)]
    knees = [_knee(knee, codes[which]) for knee, which in zip(found, classes, strict=True) if which is not None]
    logger.info(f"{split}: {len(knees)} of {len(found)} knees have {variable} {' or '.join(map(str, grades))}")
    for which, grade in enumerate(grades):
        if which not in classes:
            raise ValueError(
                f"dataset {root}: none of the {len(found)} knees of the split `{split}` has {variable} {grade}; "
                "prepare more participants."
            )
    return knees


def read_knees(root: str, split: str, *, table: str = "oai") -> list[dict[str, Any]]:
    """Knees with at least one reading, `target` being the code of all of them.

    Raises:
        ValueError: if there is none.
    """
    found = pairs(root, split)
    codes = [grade_table(table).encode(knee[READINGS], where=f"participant {knee[PARTICIPANT]}") for knee in found]
    knees = [_knee(knee, code) for knee, code in zip(found, codes, strict=True) if code.any()]
    logger.info(f"{split}: {len(knees)} of {len(found)} knees have a reading")
    if not knees:
        raise ValueError(f"dataset {root}: no knee of the split `{split}` has a reading; prepare more participants.")
    return knees


def _grades(knees: list[dict[str, Any]], variable: str) -> list[float | None]:
    return [knee[READINGS].get(variable) for knee in knees]


def _knee(knee: dict[str, Any], target: np.ndarray) -> dict[str, Any]:
    return {key: knee[key] for key in (FILM, MRI, PARTICIPANT, SIDE)} | {TARGET: target}
