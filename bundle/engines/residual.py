"""The denoiser's targets where there is a mean head: what the head leaves over, at unit variance."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import PrepareBatch

from bundle.engines.latents import LatentDataset
from bundle.engines.prepare_batch import Prepared
from bundle.engines.slices import as_plain
from bundle.keys import FILM, READINGS
from bundle.networks import FilmToVolume

logger = logging.getLogger(__name__)


class Residual:
    """Turns a denoiser's training into one of residuals.

    A step of the run list attaches it, as the averages are: the trainer stays the one of the plain denoiser.

    Args:
        network: with a trained mean head; its `residual_scale` is set when the training starts.
        latents: the training's dataset.
        residual_scale: factor on residuals; None means 1 / standard deviation of the training set's.

    Raises:
        ValueError: if the network has no mean head.
    """

    def __init__(self, network: FilmToVolume, latents: LatentDataset, *, residual_scale: float | None = None) -> None:
        network.check_mean_head()
        self.network, self.latents, self.residual_scale = network, latents, residual_scale

    def attach(self, trainer: Engine) -> None:
        """Attach to the denoiser's trainer, after the dataset's own handler, which prepares the latents."""
        trainer.add_event_handler(Events.STARTED, lambda _: self.set_scale())
        trainer.prepare_batch = PrepareResidual(self.network, trainer.prepare_batch)

    @torch.no_grad()
    def set_scale(self) -> None:
        """Set the network's `residual_scale`."""
        scale = self.residual_scale or 1 / self.deviation()
        self.network.residual_scale.fill_(scale)
        logger.info(f"residual scale {scale:.4f}: the mean head leaves {1 / scale:.3f} of a latent's deviation")

    @torch.no_grad()
    def deviation(self) -> float:
        """Root mean square, over the training set, of scaled latent minus the mean head's.

        Training draws latents from the posterior, so its variance counts too.
        """
        network, latents = self.network, self.latents
        moments = latents.moments if latents.moments is not None else latents.prepare()
        device, total = network.scale_factor.device, 0.0
        depth = torch.from_numpy(network.grid.depths(moments.shape[1])).float().to(device)
        for knee, item in enumerate(latents.volumes):
            film, readings = as_plain(item[FILM]).float(), torch.as_tensor(item[READINGS], dtype=torch.float32)
            mean = network.mean_latents(film[None].to(device), readings[None].to(device), depth)[0]
            both = network.scale_factor * torch.from_numpy(np.asarray(moments[knee], dtype=np.float32)).to(device)
            clean, sd = both.double().chunk(2, dim=1)
            total += float(((clean - mean).square() + sd.square()).mean())
        deviation = (total / len(moments)) ** 0.5
        if not deviation:
            raise ValueError("the mean head leaves nothing over; there is nothing for the denoiser to learn.")
        return deviation


class PrepareResidual(PrepareBatch):
    """A batch whose latents are replaced by scaled residuals, and the mean head's latents as a further condition.

    Args:
        network: with a trained mean head, which gets no gradient here.
        prepare: what makes a plain denoiser's batch of the rest.
    """

    def __init__(self, network: FilmToVolume, prepare: PrepareBatch) -> None:
        self.network, self.prepare = network, prepare

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **options: Any
    ) -> Prepared:
        """Items of `LatentDataset`."""
        names = ("latent", "depth", READINGS, FILM)
        clean, depth, readings, film = (batchdata[name].to(device, non_blocking=non_blocking) for name in names)
        with torch.no_grad():
            mean = self.network.mean_latents(film, readings, depth[:, None])[:, 0]
            residual = (clean - mean) * self.network.residual_scale
        prepared = self.prepare({**batchdata, "latent": residual}, device, non_blocking, **options)
        return *prepared[:3], {**prepared[3], "mean": mean}
