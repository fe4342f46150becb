"""Training of the knee finder: its batches, its loss, and the file it ends in."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
from monai.engines import PrepareBatch
from torch import Tensor, nn

from bundle.engines.average import ParameterAverage
from bundle.engines.slices import as_plain
from bundle.keys import FILM
from bundle.networks.knee_finder import landmark_loss
from bundle.writers import whole


class PrepareLandmarks(PrepareBatch):
    """Views (B, 1, H, W), and points (B, 2, P, 3) in their pixels as (B, 2 P, 2)."""

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Items of the finder's dataset."""
        image, points = (as_plain(batchdata[key]).to(device, non_blocking=non_blocking) for key in (FILM, "points"))
        return image.float(), points[..., :2].flatten(1, 2)


class LandmarkLoss(nn.Module):
    """`networks.knee_finder.landmark_loss` as a module."""

    def forward(self, scores: Tensor, points: Tensor) -> Tensor:
        """Mean cross-entropy of the maps."""
        return landmark_loss(scores, points)


def finish_finder(average: ParameterAverage, *, path: str) -> None:
    """Write a finder's averaged weights in half precision, a flat dictionary of tensors, whole or not at all.

    Args:
        average: moving averages of all its parameters.
        path: file to write.
    """
    if idist.get_rank() == 0:
        with whole(path) as temporary:
            torch.save({name: value.half().cpu() for name, value in average.shadow.items()}, temporary)
        print(path)
