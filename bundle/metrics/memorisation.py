"""Does a model copy: how near generated volumes come to training volumes, and to volumes nobody trained on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

COPY_RATIO = 1 / 3
"""A volume this much nearer to one training volume than to any other person's is called a copy (Yoon et al. 2023)."""


@dataclass(frozen=True)
class Memorisation:
    """Of each of N generated volumes; distances are root mean squared differences.

    Args:
        training: expected distance to the nearest of `count` training volumes, (N,).
        held_out: the same of held-out volumes, (N,).
        nearer: chance that the nearest training volume is nearer than the nearest held-out one, (N,); 1/2 if nothing is
            copied.
        count: volumes on either side, (N,).
        first_to_second: distance to the nearest of ALL training volumes over that to the nearest of another
            participant, (N,); NaN where there is none.
    """

    training: np.ndarray
    held_out: np.ndarray
    nearer: np.ndarray
    count: np.ndarray
    first_to_second: np.ndarray

    @property
    def copies(self) -> np.ndarray:
        """Which are copies: `first_to_second` under a third, (N,) bool."""
        return self.first_to_second < COPY_RATIO


def compare_nearest(
    to_training: np.ndarray,
    to_held_out: np.ndarray,
    *,
    participants: Sequence[Hashable],
    training_participants: Sequence[Hashable],
    held_out_participants: Sequence[Hashable],
) -> Memorisation:
    """Compare distances to training volumes with distances to held-out ones, at equal numbers of either.

    The nearest of many is nearer than the nearest of few, so the larger side is drawn down to the smaller. All
    subsamples count: the result is the expectation over them, not one draw. A participant's own volumes are no
    reference on either side: being near them is the task. One copied volume among many drops out of most subsamples,
    so `first_to_second` looks at all training volumes.

    Args:
        to_training: distances of N generated to M training volumes, (N, M).
        to_held_out: to H held-out volumes, (N, H).
        participants: whose knee each generated volume shows.
        training_participants: whose knee each training volume shows.
        held_out_participants: whose knee each held-out volume shows.

    Raises:
        ValueError: if shapes do not fit, a distance is negative or not finite, or a volume has no reference left.

    Source:
        The ratio to the second nearest: Yoon, Choi, Kwon, Ryu, "Diffusion Probabilistic Models Generalize when They
        Fail to Memorize", ICML workshop on structured probabilistic inference, 2023.
    """
    sides = {"to_training": (to_training, training_participants), "to_held_out": (to_held_out, held_out_participants)}
    for name, (distances, owners) in sides.items():
        expected = (len(participants), len(owners))
        if distances.shape != expected or not (np.isfinite(distances).all() and (distances >= 0).all()):
            raise ValueError(f"`{name}` must be finite distances of shape {expected}, got {distances.shape}.")
    rows = []
    for row, who in enumerate(participants):
        own = np.array([owner == who for owner in training_participants])
        training = np.sort(to_training[row][~own])
        held_out = np.sort(to_held_out[row][[owner != who for owner in held_out_participants]])
        count = min(len(training), len(held_out))
        if not count:
            raise ValueError(
                f"participant {who!r}: no training or no held-out volume of another person; memorisation needs both."
            )
        chances = _nearest_chances(len(training), count), _nearest_chances(len(held_out), count)
        pairs = np.sign(held_out[None] - training[:, None])  # 1 where training is nearer, 0 where equal
        nearer = float(chances[0] @ ((1 + pairs) / 2) @ chances[1])
        second = _first_to_second(to_training[row], training_participants)
        rows.append((chances[0] @ training, chances[1] @ held_out, nearer, count, second))
    return Memorisation(*(np.array(column) for column in zip(*rows, strict=True)))


def _nearest_chances(total: int, drawn: int) -> np.ndarray:
    """Chance of each of `total` sorted distances to be the least of `drawn`, without replacement: (total,)."""
    chances, left = np.zeros(total), 1.0
    for place in range(total - drawn + 1):
        chances[place] = left * drawn / (total - place)
        left -= chances[place]
    return chances


def _first_to_second(distances: np.ndarray, owners: Sequence[Hashable]) -> float:
    first = int(distances.argmin())
    others = distances[[owner != owners[first] for owner in owners]]
    if not len(others):
        return float("nan")
    return float(distances[first] / others.min()) if others.min() else 1.0
