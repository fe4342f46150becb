"""The floor of a score: real volumes of other people as if they were the prediction."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import Dataset, MetaTensor
from monai.transforms import Transform

from bundle.keys import MRI, PARTICIPANT, SIDE, VISIT


class AddOtherKneed(Transform):
    """Store the mean of other participants' real volumes under a key, as a step of an evaluator's postprocessing.

    Args:
        volumes: real volumes to draw from, items with `mri` (1, H, W, S); `volumes.data` says whose they are.
        key: where the volume, (1, H, W, S), goes.
        samples: mean of how many; as many as the model's and the oracle's samples, for scores at equal K.
        seed: of the draw, which depends on it and on the knee's name alone.
    """

    def __init__(self, volumes: Dataset, *, key: str = "other_knee", samples: int = 1, seed: int = 0) -> None:
        if samples < 1:
            raise ValueError(f"`samples` must be positive, got {samples}.")
        self.volumes, self.key, self.samples, self.seed = volumes, key, samples, seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volume added."""
        others = [n for n, item in enumerate(self.volumes.data) if item[PARTICIPANT] != data[PARTICIPANT]]
        if len(others) < self.samples:
            raise ValueError(f"`volumes` has {len(others)} knees of other participants, expected {self.samples}.")
        name = "/".join(str(data[key]) for key in (PARTICIPANT, SIDE, VISIT))
        rng = np.random.default_rng([self.seed, *name.encode()])
        drawn = [self.volumes[int(n)][MRI] for n in rng.choice(others, self.samples, replace=False)]
        plain = [volume.as_tensor() if isinstance(volume, MetaTensor) else volume for volume in drawn]
        return {**data, self.key: torch.stack(plain).mean(0)}
