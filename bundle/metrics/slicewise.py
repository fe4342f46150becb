"""MONAI's metrics of images, per coronal slice or per volume, with nothing dropped unseen."""

from __future__ import annotations

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from bundle.metrics.volume_metric import VolumeMetric


class VolumeWise(VolumeMetric):
    """A MONAI regression metric on whole volumes (B, 1, H, W, S).

    Finite input only. An identical volume has an infinite PSNR, which stays infinite; `left_out` counts it.

    Args:
        metric: gives (B, 1) for 3-D images, such as `PSNRMetric` or `SSIMMetric(spatial_dims=3)`.
        reduction: over volumes, `mean` or `median`.
        get_not_nans: whether `aggregate` returns (score, number of volumes behind it).
    """

    what_is_counted = "infinite_volumes"

    def __init__(
        self, metric: CumulativeIterationMetric, *, reduction: str = "mean", get_not_nans: bool = False
    ) -> None:
        super().__init__(counts=self.what_is_counted, reduction=reduction, get_not_nans=get_not_nans)
        self.metric = metric

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.metric})"

    def _score(self, y_pred: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        scores = self._apply(y_pred, y)
        return scores, scores.isinf().long()

    def _apply(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        """Scores (N, 1) of N images or volumes, float64 on the CPU; NaN is an error."""
        if y is None:
            raise ValueError(f"{self} needs `y`, the real volumes.")
        self.metric.reset()
        scores = self.metric(y_pred, y)
        self.metric.reset()
        if not isinstance(scores, Tensor) or scores.shape != (len(y_pred), 1):
            raise ValueError(f"{self}: the metric must give one score an image, shape ({len(y_pred)}, 1).")
        if bool(scores.isnan().any()):
            raise ValueError(f"{self}: {int(scores.isnan().sum())} of {len(scores)} scores are NaN on finite images.")
        return scores.double().cpu()


class SliceWise(VolumeWise):
    """A MONAI regression metric on every coronal slice of (B, 1, H, W, S), mean over the slices of a volume.

    Identical slices (two of pure background, say) have an infinite PSNR, which would stand for the whole volume: they
    are left out of its mean and `left_out` counts them. If all slices are identical the volume's score is infinite.

    Args:
        metric: gives (B, 1) for 2-D images, such as `PSNRMetric` or `SSIMMetric(spatial_dims=2)`.
        reduction: over volumes, `mean` or `median`.
        get_not_nans: whether `aggregate` returns (score, number of volumes behind it).
    """

    what_is_counted = "infinite_slices"

    def _score(self, y_pred: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        per_slice = self._apply(_slices(y_pred), None if y is None else _slices(y)).view(len(y_pred), -1)
        infinite = per_slice.isinf()
        finite_mean = per_slice.where(~infinite, torch.nan).nanmean(dim=1)
        scores = torch.where(infinite.all(dim=1), per_slice[:, 0], finite_mean)
        return scores[:, None], infinite.sum(dim=1, keepdim=True)


def _slices(volumes: Tensor) -> Tensor:
    """(B, 1, H, W, S) to (B * S, 1, H, W)."""
    return volumes.movedim(-1, 1).flatten(0, 1)
