"""Baselines without weights: what one knows of a knee's MRI before seeing its film."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.keys import MRI


class MeanVolume(nn.Module):
    """Gives every film the mean of the training volumes, and is called as the model is.

    The mean is a buffer, so `state_dict` keeps a fitted one. Canonical (right) knees only: a mean over both sides
    would be symmetric.

    Args:
        shape: (H, W, S) of the volumes.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"`shape` must be (H, W, S), each at least 1, got {tuple(shape)}.")
        self.register_buffer("mean", torch.zeros(1, 1, *shape))
        self.register_buffer("count", torch.tensor(0))

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
            volume = torch.as_tensor(item[MRI]).detach().cpu().double()
            if volume.shape != mean.shape:
                raise ValueError(
                    f"item {count}: `{MRI}` must have shape {tuple(mean.shape)}, got {tuple(volume.shape)}."
                )
            if not bool(volume.isfinite().all()):
                raise ValueError(f"item {count}: `{MRI}` has values that are NaN or infinite.")
            mean += (volume - mean) / count
        if not count:
            raise ValueError("`items` must hold at least one training volume, got none; is the data folder prepared?")
        self.mean.copy_(mean[None])
        self.count.fill_(count)
        return self

    def forward(
        self,
        film: Tensor,
        readings: Tensor | None = None,
        *,
        slices: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        sample: int = 0,
    ) -> Tensor:
        """The mean volume, once a film.

        Args:
            film: shape (B, 1, H, W); only its number and device matter.
            readings: ignored.
            slices: how many, evenly over the window and interpolated linearly; None means as fitted.
            steps: ignored, as are the next two, which an inferer gives the model.
            seed: ignored.
            sample: ignored.

        Returns:
            shape (B, 1, H, W, S).

        Raises:
            RuntimeError: if `fit` has not been called.
        """
        if not self.count:
            raise RuntimeError("MeanVolume has no volumes to average yet; call `fit` with the training items first.")
        mean = self.mean.to(film.device)
        if slices is not None and slices != mean.shape[-1]:
            mean = F.interpolate(mean, size=(*mean.shape[2:4], slices), mode="trilinear", align_corners=True)
        return mean.repeat(len(film), 1, 1, 1, 1)
