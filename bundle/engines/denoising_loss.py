"""The denoiser's loss: what the schedule asks for, and on request the slice that the prediction speaks of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bundle.engines.twins import twin_error
from bundle.networks import FilmToVolume
from bundle.sampling import NoiseSchedule


class DenoisingLoss:
    """Mean squared error of the prediction (Eq. 10), and the reconstruction term that Algorithm 1 also lists.

    Args:
        network: decodes the estimated latent; its autoencoder is frozen by then (`LatentDataset.prepare`).
        pixel_weight: of the mean absolute error between the decoded one-step estimate and the slice, each item's
            weighted by the signal's share of the noised latent's variance (alpha-bar of a diffusion): in noise an
            estimate says nothing of this slice. 0 decodes nothing.
        twin_weight: of the squared error of twins' difference (`twin_error`); 0 where there are none.
        window: slices of an item; None means single ones.

    Raises:
        ValueError: on a negative weight.
    """

    def __init__(
        self, network: FilmToVolume, *, pixel_weight: float = 0.0, twin_weight: float = 0.0, window: int | None = None
    ) -> None:
        for name, weight in (("pixel_weight", pixel_weight), ("twin_weight", twin_weight)):
            if weight < 0:
                raise ValueError(f"`{name}` must not be negative, got {weight}.")
        self.network, self.pixel_weight = network, pixel_weight
        self.twin_weight, self.window = twin_weight, window or 1

    def __call__(self, prediction: Tensor, target: Tensor | dict[str, Tensor]) -> Tensor:
        """Loss of predictions (N, C, h, w).

        Args:
            prediction: of the denoiser.
            target: what the schedule asks for, of `prediction`'s shape; for the pixel term a dictionary of it
                (`target`), `noisy`, `time` and `slice`, as `PrepareDenoising` makes where items have a slice.
        """
        if isinstance(target, Tensor):
            if self.pixel_weight:
                raise ValueError("`pixel_weight` needs items with a slice; give `LatentDataset` `with_slices=True`.")
            return self._error(prediction, target)
        loss = self._error(prediction, target["target"])
        clean, weight = clean_estimate(self.network.schedule, target["noisy"], prediction, target["time"])
        decoded = self.network.autoencoder.decode(clean / self.network.scale_factor)
        apart = (decoded - target["slice"].expand_as(decoded)).abs().flatten(1).mean(1)
        return loss + self.pixel_weight * (weight * apart).mean()

    def _error(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = F.mse_loss(prediction, target)
        if not self.twin_weight:
            return loss
        return loss + self.twin_weight * twin_error(prediction, target, slices=self.window)


def clean_estimate(schedule: NoiseSchedule, noisy: Tensor, prediction: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """The clean latent that a prediction at `time` speaks of, for any schedule.

    Noised latent and target are linear in clean latent and noise; asked for (1, 0) and (0, 1), a schedule names the
    four factors, and two equations in two unknowns are solved.

    Args:
        schedule: that made `noisy`.
        noisy: (N, C, h, w).
        prediction: (N, C, h, w).
        time: (N,).

    Returns:
        the estimate, (N, C, h, w), and the signal's share of the variance, (N,).
    """
    one = torch.ones_like(noisy[:, :1, :1, :1])
    none: Any = torch.zeros_like(one)
    signal, sigma = schedule.add_noise(one, none, time), schedule.add_noise(none, one, time)
    of_clean, of_noise = schedule.target(one, none, time), schedule.target(none, one, time)
    clean = (of_noise * noisy - sigma * prediction) / (signal * of_noise - sigma * of_clean)
    return clean, (signal.square() / (signal.square() + sigma.square())).flatten()
