"""Mean and standard deviation of samples that are drawn one after another, without keeping them."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningMoments:
    """Mean and spread of tensors of one shape, in double precision; holds two of them, however many are added.

    Source:
        Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products", Technometrics 4(3), 1962.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, sample: Tensor) -> None:
        """Take a sample into account; each of the first one's shape."""
        if self.count and sample.shape != self.mean.shape:
            raise ValueError(f"`sample` must have shape {tuple(self.mean.shape)}, got {tuple(sample.shape)}.")
        self.count += 1
        sample = sample.double()
        before = sample - self.mean.to(sample.device)
        self.mean = self.mean.to(sample.device) + before / self.count
        self._squares = self._squares.to(sample.device) + before * (sample - self.mean)

    @property
    def spread(self) -> Tensor:
        """Standard deviation over the samples, with count - 1; ValueError with fewer than two."""
        if self.count < 2:
            raise ValueError(f"`spread` needs at least 2 samples, got {self.count}.")
        return (self._squares / (self.count - 1)).sqrt()
