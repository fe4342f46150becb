"""Training on twins: the same knee with and without a finding, in one batch, under one noise."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DistributedSampler


class TwinSampler(DistributedSampler):
    """A `DistributedSampler` that has a knee's twin follow it.

    Args:
        dataset: whose second half are the twins of the first, in the same order; with `twins` false, any.
        twins: whether it is so.
        options: further arguments of `DistributedSampler`, keywords.
    """

    def __init__(self, dataset: Sized, *, twins: bool, **options: Any) -> None:
        self.apart = len(dataset) // 2 if twins else None
        super().__init__(dataset if self.apart is None else range(self.apart), **options)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        for index in super().__iter__():
            yield index
            if self.apart is not None:
                yield index + self.apart

    def __len__(self) -> int:
        return super().__len__() * (1 if self.apart is None else 2)


def twin_error(prediction: Tensor, target: Tensor, *, slices: int = 1) -> Tensor:
    """Mean squared error of the difference between twins.

    What twins share, film, anatomy and noise, cancels in the difference, and the finding alone is left: of the squared
    error of either it is a thousandth.

    Args:
        prediction: (N, ...), of a knee's `slices` and then its twin's, and so on.
        target: of `prediction`'s shape.
        slices: items of a knee.

    Raises:
        ValueError: if N is no whole number of twins.
    """
    if len(prediction) % (2 * slices):
        raise ValueError(
            f"a batch of {len(prediction)} must be a multiple of {2 * slices}, a knee and its twin: with `twins_dir` "
            "`batch_size` holds pairs of windows, `mean_batch_size` pairs of knees, `micro_batch_size` too."
        )
    own, twin = (target - prediction).unflatten(0, (-1, 2, slices)).unbind(1)
    return F.mse_loss(own, twin)
