"""Does a generated volume point to its own patient: the rank of the real volume among those of others."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

NO_RESIDUAL = 1e-5
"""A residual under this share of the real residuals' root mean square is none: the mean volume, and rounding."""


def residual_correlation(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Pearson correlation of every generated with every real residual (volume minus mean training volume).

    What all knees share would make every pair alike; it is in the mean volume and does not count here.

    Args:
        generated: residuals, (N, D).
        real: residuals, (M, D).

    Returns:
        (N, M) float64 in [-1, 1]; a row is NaN where the generated volume is the mean volume, or flat.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, or a real volume has no residual.
    """
    pair = []
    for name, residuals in (("generated", generated), ("real", real)):
        residuals = np.asarray(residuals, dtype=np.float64)
        if residuals.ndim != 2 or 0 in residuals.shape or not np.isfinite(residuals).all():
            raise ValueError(f"`{name}` must be finite and have shape (N, D), got {residuals.shape}.")
        pair.append(residuals - residuals.mean(1, keepdims=True))
    ours, theirs = pair
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"`generated` and `real` must have one D, got {ours.shape[1]} and {theirs.shape[1]}.")
    lengths = np.linalg.norm(theirs, axis=1)
    floor = NO_RESIDUAL * np.sqrt((lengths**2).mean())
    if not floor or (lengths <= floor).any():
        raise ValueError(
            f"`real`: volume {int(lengths.argmin())} does not differ from the mean volume; retrieval needs real "
            "volumes that differ, and a mean of the training volumes."
        )
    own = np.linalg.norm(ours, axis=1)
    own[own <= floor] = np.nan
    return np.clip((ours / own[:, None]) @ (theirs / lengths[:, None]).T, -1, 1)


@dataclass(frozen=True)
class Retrieval:
    """Where each film's own volume stands among its candidates; every field is (N,).

    Args:
        greater: candidates more similar than the own volume.
        tied: candidates exactly as similar.
        candidates: how many there are, the own volume among them.

    Equal candidates are taken in random order, in expectation: whoever gives all films one volume is at chance.
    """

    greater: np.ndarray
    tied: np.ndarray
    candidates: np.ndarray

    @property
    def rank(self) -> np.ndarray:
        """Rank of the own volume, 1 the best; chance is (candidates + 1) / 2."""
        return 1 + self.greater + self.tied / 2

    @property
    def auc(self) -> np.ndarray:
        """Chance that the own volume is more similar than another candidate; NaN without another one."""
        others = (self.candidates - 1).astype(float)
        others[others == 0] = np.nan
        return (others - self.greater - self.tied / 2) / others

    def top(self, k: int) -> np.ndarray:
        """Chance of the own volume among the best `k`; by chance k / candidates."""
        return np.clip((k - self.greater) / (self.tied + 1), 0, 1)


def retrieve(similarity: np.ndarray, own: Sequence[int], distractors: Sequence[np.ndarray] | None = None) -> Retrieval:
    """Rank each film's own volume.

    Args:
        similarity: (N, M), of film n's generated with real volume m; a row of NaN says nothing and is at chance.
        own: which of the M is film n's own.
        distractors: for each film the other candidates; None takes all of the M.

    Raises:
        ValueError: if an index is out of range, or a row is NaN in parts.
    """
    count, reals = similarity.shape
    if len(own) != count or not all(0 <= index < reals for index in own):
        raise ValueError(f"`own` must be {count} indices under {reals}, got {list(own)}.")
    unknown = np.isnan(similarity)
    if (unknown.any(1) != unknown.all(1)).any():
        raise ValueError("`similarity` has rows that are NaN in parts; a similarity to one real volume is undefined.")
    greater, tied, candidates = (np.zeros(count, dtype=int) for _ in range(3))
    for film, mine in enumerate(own):
        others = np.arange(reals) if distractors is None else np.asarray(distractors[film], dtype=int)
        others = others[others != mine]
        candidates[film] = len(others) + 1
        if unknown[film, mine]:
            tied[film] = len(others)
            continue
        scores = similarity[film]
        greater[film] = (scores[others] > scores[mine]).sum()
        tied[film] = (scores[others] == scores[mine]).sum()
    return Retrieval(greater, tied, candidates)


def matched_distractors(
    *,
    participants: Sequence[Hashable],
    sexes: Sequence[str | None],
    grades: Sequence[int | None],
    sizes: Sequence[float],
    count: int = 10,
) -> list[np.ndarray]:
    """For each knee the knees of other people that sex, grade and size do not tell from it.

    They have the same sex and the same Kellgren-Lawrence grade, and of those they are the nearest in size.

    Args:
        participants: whose knee each is.
        sexes: a missing one is None or empty.
        grades: Kellgren-Lawrence, a missing one is None.
        sizes: bone width in mm or body mass index, a missing one is NaN.
        count: at most so many.

    Returns:
        (at most `count`,) indices a knee, nearest first; none where something is missing or nobody matches.

    Raises:
        ValueError: on unequal lengths, or `count` under 1.
    """
    number = len(participants)
    if {len(sexes), len(grades), len(sizes)} != {number} or count < 1:
        raise ValueError(f"`sexes`, `grades` and `sizes` must have {number} entries each, and `count` be positive.")
    known = [
        bool(sex) and grade is not None and math.isfinite(size)
        for sex, grade, size in zip(sexes, grades, sizes, strict=True)
    ]
    found = []
    for knee in range(number):
        others = [
            other
            for other in range(number)
            if known[knee]
            and known[other]
            and participants[other] != participants[knee]
            and (sexes[other], grades[other]) == (sexes[knee], grades[knee])
        ]
        others.sort(key=lambda other: abs(sizes[other] - sizes[knee]))
        found.append(np.array(others[:count], dtype=int))
    return found


def bone_width_mm(labels: np.ndarray, *, column_mm: float, bones: Sequence[int] = (1, 2)) -> float:
    """Widest extent of femur and tibia across the knee.

    Args:
        labels: (H, W, S) whole numbers, columns across the knee.
        column_mm: voxel edge along columns.
        bones: labels of femur and tibia.

    Returns:
        mm; NaN where there is no such bone.
    """
    there = np.any(np.isin(labels, bones), axis=2)
    columns = [np.flatnonzero(row) for row in there]
    widths = [line[-1] - line[0] + 1 for line in columns if len(line)]
    return float(max(widths) * column_mm) if widths else float("nan")
