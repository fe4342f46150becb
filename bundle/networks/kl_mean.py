"""Baseline without weights: the mean training volume of the film's Kellgren-Lawrence grade."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bundle.keys import READINGS
from bundle.networks.baselines import Weightless, no_items
from bundle.readings import KL_GRADES, kl_grade


class KLMean(Weightless):
    """Gives a film the mean of the training volumes that share its KL grade.

    The mean of all training volumes stands in where the grade is missing, and where fewer than `least` training
    volumes have it: a mean of one or two knees is somebody's knee. Under the policy `grade0` for missing readings a
    missing grade reads as grade 0, here as in the model.

    Memory: a mean for each grade and one of all, 6 x H x W x S x 4 bytes: 20 MB at 128 x 128 x 50, 79 MB at 256; twice
    that while it is fitted.

    Args:
        shape: (H, W, S) of the volumes.
        least: training volumes a grade must have to be used.
    """

    means: Tensor
    counts: Tensor

    def __init__(self, shape: Sequence[int], *, least: int = 5) -> None:
        super().__init__(shape)
        if least < 1:
            raise ValueError(f"`least` must be at least 1, got {least}.")
        self.least = least
        self.register_buffer("means", torch.zeros(KL_GRADES + 1, 1, *shape))  # the last is the mean of all
        self.register_buffer("counts", torch.zeros(KL_GRADES, dtype=torch.int64))

    def fit(self, items: Iterable[Mapping[str, Any]]) -> KLMean:
        """Take the means over `items`, in one pass, in place of any earlier ones.

        Args:
            items: dictionaries with `mri`, shape (1, H, W, S), in [-1, 1], and `readings`: variable to grade, or the
                one-hot vector; a volume whose grade is missing counts in the mean of all alone.

        Returns:
            this module.

        Raises:
            ValueError: if there is no item, or a volume has another shape or a value that is not finite.
        """
        means = torch.zeros(self.means.shape, dtype=torch.float64)
        counts = [0] * (KL_GRADES + 1)
        for number, item in enumerate(items, start=1):
            volume, grade = self.volume_of(item, number), _place(kl_grade(item.get(READINGS)))
            for place in {grade, KL_GRADES}:
                counts[place] += 1
                means[place] += (volume - means[place]) / counts[place]
        if not counts[KL_GRADES]:
            raise no_items()
        self.means.copy_(means)
        self.counts.copy_(torch.tensor(counts[:KL_GRADES]))
        self.count.fill_(counts[KL_GRADES])
        return self

    def volumes(self, film: Tensor, readings: Tensor | None) -> Tensor:
        """The mean of each film's grade, or that of all."""
        grades = kl_grades(readings) if readings is not None else torch.full((len(film),), KL_GRADES)
        enough = torch.cat([self.counts >= self.least, self.counts.new_tensor([True], dtype=torch.bool)])
        grades = grades.to(enough.device)
        return self.means[torch.where(enough[grades], grades, KL_GRADES)]


def kl_grades(readings: Tensor) -> Tensor:
    """KL grades of one-hot vectors (B, readings_width): (B,) int64, `KL_GRADES` where it is missing."""
    return torch.tensor([_place(kl_grade(one)) for one in readings.cpu()])


def _place(grade: int | None) -> int:
    return KL_GRADES if grade is None else grade
