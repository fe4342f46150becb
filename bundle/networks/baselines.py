"""Baselines without weights: what one knows of a knee's MRI before seeing its film; here the mean volume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bundle.keys import MRI
from bundle.networks.between_slices import asked_depths, at_depths


class Weightless(nn.Module, ABC):
    """What the baselines without weights share: they are fitted in one pass, and called as the model is.

    What is fitted are buffers, so `state_dict` keeps it. Canonical (right) knees only: a mean over both sides would be
    symmetric.

    Args:
        shape: (H, W, S) of the volumes.
    """

    count: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"`shape` must be (H, W, S), each at least 1, got {tuple(shape)}.")
        self.shape = tuple(shape)
        self.register_buffer("count", torch.tensor(0))

    @abstractmethod
    def volumes(self, film: Tensor, readings: Tensor | None) -> Tensor:
        """A fitted volume for each film, (B, 1, H, W, S)."""

    def volume_of(self, item: Mapping[str, Any], number: int) -> Tensor:
        """The volume of a training item, (1, H, W, S) float64, or ValueError that names the item's number."""
        volume = torch.as_tensor(item[MRI]).detach().cpu().double()
        if volume.shape != (1, *self.shape):
            raise ValueError(f"item {number}: `{MRI}` must have shape {(1, *self.shape)}, got {tuple(volume.shape)}.")
        if not bool(volume.isfinite().all()):
            raise ValueError(f"item {number}: `{MRI}` has values that are NaN or infinite.")
        return volume

    def forward(
        self,
        film: Tensor,
        readings: Tensor | None = None,
        *,
        covariates: Tensor | None = None,
        slices: int | None = None,
        depths: Tensor | None = None,
        steps: int | None = None,
        seed: int = 0,
        sample: int = 0,
        mean: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """A volume for each film.

        Args:
            film: shape (B, 1, H, W).
            readings: (B, readings_width), or None where nothing is known.
            covariates: ignored.
            slices: how many, evenly over the window and interpolated linearly; None means as fitted.
            depths: instead of `slices`, the depths wanted, (S,) in [0, 1].
            steps: ignored, as are the others that a call of the model may name: there is one volume a film.
            seed: ignored.
            sample: ignored.
            mean: ignored.
            progress: ignored.

        Returns:
            shape (B, 1, H, W, S).

        Raises:
            RuntimeError: if `fit` has not been called.
        """
        if not self.count:
            name = type(self).__name__
            raise RuntimeError(f"{name} has seen no volumes yet; call `fit` with the training items first.")
        volumes = self.volumes(film, readings).to(film.device)
        wanted = asked_depths(slices, depths, count=volumes.shape[-1])
        return volumes if wanted is None else at_depths(volumes, wanted)


def no_items() -> ValueError:
    """The error of a fit without items."""
    return ValueError("`items` must hold at least one training volume, got none; is the data folder prepared?")


class MeanVolume(Weightless):
    """Gives every film the mean of the training volumes."""

    mean: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.register_buffer("mean", torch.zeros(1, 1, *shape))

    def fit(self, items: Iterable[Mapping[str, Any]]) -> MeanVolume:
        """Take the mean over `items`, in one pass, in place of any earlier one.

        Args:
            items: dictionaries with `mri`, shape (1, H, W, S), in [-1, 1].

        Returns:
            this module.

        Raises:
            ValueError: if there is no item, or a volume has another shape or a value that is not finite.
        """
        mean = torch.zeros(self.mean.shape[1:], dtype=torch.float64)
        count = 0
        for count, item in enumerate(items, start=1):
            mean += (self.volume_of(item, count) - mean) / count
        if not count:
            raise no_items()
        self.mean.copy_(mean[None])
        self.count.fill_(count)
        return self

    def volumes(self, film: Tensor, readings: Tensor | None) -> Tensor:
        """The mean, once a film."""
        return self.mean.repeat(len(film), 1, 1, 1, 1)
