"""Samples of one film beside their mean, for measures of uncertainty."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.data import MetaTensor
from monai.transforms import Transform
from torch import Tensor

from bundle.keys import PRED


class SplitSamplesd(Transform):
    """Take apart what `VolumeInferer(keep_samples=True)` gives, as the first step of an evaluator's postprocessing.

    The entry becomes the samples' mean, which is what it is without `keep_samples`.

    Args:
        key: of the samples, (K, H, W, S), one a channel.
        samples: where they go, as (K, 1, H, W, S).
        sample: where the first of them goes, as (1, H, W, S): one draw as a method of its own; None leaves it out.
    """

    def __init__(self, *, key: str = PRED, samples: str = "pred_samples", sample: str | None = "pred_sample") -> None:
        self.key, self.samples, self.sample = key, samples, sample

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with mean and samples."""
        drawn = data.get(self.key)
        if not isinstance(drawn, Tensor) or drawn.ndim != 4:
            found = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
            raise ValueError(
                f"`{self.key}` must hold samples (K, H, W, S), got {found}; give the inferer `keep_samples=True`."
            )
        plain = drawn.as_tensor() if isinstance(drawn, MetaTensor) else drawn
        result = {**data, self.key: plain.mean(0, keepdim=True), self.samples: plain[:, None]}
        return result if self.sample is None else {**result, self.sample: plain[:1]}
