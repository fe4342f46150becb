"""Random transforms whose draws are a function of seed, epoch and item alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Compose
from torch.utils.data import Dataset


class AugmentedDataset(Dataset):
    """Items of another dataset through random transforms.

    Args:
        data: items; indexing it must give the same each time.
        transform: random transforms, seeded anew for each item.
        seed: of the draws.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Compose, *, seed: int = 0) -> None:
        self.data, self.transform, self.seed, self.epoch = data, transform, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, item: int) -> Any:
        """The item, augmented."""
        state = np.random.SeedSequence([self.seed, self.epoch, item]).generate_state(1)
        self.transform.set_random_state(seed=int(state[0]))
        return self.transform(self.data[item])
