"""Run the network over a film as MONAI's engines and MONAI Label call an inferer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor, nn

from bundle.keys import READINGS
from bundle.sampling import RunningMoments


class VolumeInferer(Inferer):
    """Film to volume, with what a run decides and the weights do not.

    Args:
        steps: sampling steps; None means the network's own.
        slices: how many slices; None means the grid's.
        samples: how many samples; above 1 the result is their mean, added up as they come, so that memory holds one
            sample and two sums however many there are.
        seed: of the noise.
        mean: give the mean head's volume instead of samples; the network must have one.
        keep_samples: give the samples as channels instead of their mean; `SplitSamplesd` takes them apart.
    """

    def __init__(
        self,
        *,
        steps: int | None = None,
        slices: int | None = None,
        samples: int = 1,
        seed: int = 0,
        mean: bool = False,
        keep_samples: bool = False,
    ) -> None:
        if samples < 1 or (mean and samples > 1):
            raise ValueError(f"`samples` must be at least 1, and 1 with `mean`, got {samples}.")
        self.mean, self.keep_samples = mean, keep_samples
        self.steps, self.slices, self.samples, self.seed = steps, slices, samples, seed

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: nn.Module,
        *args: object,
        readings: Tensor | None = None,
        covariates: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Films (B, 1, H, W) in [-1, 1] to volumes (B, 1, H, W, S) in [-1, 1], or (B, samples, H, W, S) if kept.

        Without `readings` a film's own are used, where `ReadingsWithFilmd` has put them into its meta.
        """
        drawn = self.draw(inputs, network, readings=readings, covariates=covariates, tokens=tokens)
        if self.keep_samples:
            return torch.cat(list(drawn), 1)
        moments = RunningMoments()
        for sample in drawn:
            moments.add(sample)
        return moments.mean.to(sample.dtype)

    def draw(
        self,
        inputs: Tensor,
        network: nn.Module,
        *,
        readings: Tensor | None = None,
        covariates: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield the samples, each (B, 1, H, W, S)."""
        # Baselines are called as the model is, and know none of these.
        options: dict[str, Any] = {"mean": True} if self.mean else {}
        told = {"covariates": covariates, "tokens": tokens}
        options |= {name: value for name, value in told.items() if value is not None}
        film = (inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs).float()
        if readings is None and isinstance(inputs, MetaTensor) and READINGS in inputs.meta:
            readings = torch.as_tensor(inputs.meta[READINGS]).reshape(len(film), -1).to(film)
        for sample in range(self.samples):
            yield network(
                film, readings, slices=self.slices, steps=self.steps, seed=self.seed, sample=sample, **options
            )
