"""The denoiser's targets where there is a mean head: what the head leaves over, at unit variance."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import PrepareBatch
from torch import Tensor

from bundle.engines.latents import KNEE, LatentDataset
from bundle.engines.prepare_batch import MEAN, Prepared, window_of
from bundle.engines.shared_rows import shared_rows
from bundle.engines.slices import as_plain
from bundle.keys import COVARIATES, FILM, READINGS
from bundle.networks import FilmToVolume

logger = logging.getLogger(__name__)


class Residual:
    """Turns a denoiser's training into one of residuals.

    A step of the run list attaches it, as the averages are: the trainer stays the one of the plain denoiser. The mean
    head does not change any more, so what it says of each training film is computed once, with the knee's readings and
    without any, and kept as the spline's coefficients in a memory-mapped file named after its weights.

    Args:
        network: with a trained mean head; its `residual_scale` is set when the training starts.
        latents: the training's dataset.
        residual_scale: factor on residuals; None means 1 / standard deviation of the training set's.

    Raises:
        ValueError: if the network has no mean head.
    """

    coefficients: np.ndarray

    def __init__(self, network: FilmToVolume, latents: LatentDataset, *, residual_scale: float | None = None) -> None:
        network.check_mean_head()
        self.network, self.latents, self.residual_scale = network, latents, residual_scale

    def attach(self, trainer: Engine) -> None:
        """Attach to the denoiser's trainer, after the dataset's own handler, which prepares the latents."""
        trainer.add_event_handler(Events.STARTED, lambda _: self.prepare())
        trainer.prepare_batch = PrepareResidual(self, trainer.prepare_batch)

    @torch.no_grad()
    def prepare(self) -> None:
        """Ask the mean head about every training film, or find it asked; set the network's `residual_scale`."""
        network, latents = self.network, self.latents
        said = ["with readings, without", *([COVARIATES] if network.covariates_width else [])]
        name = latents.fingerprint(said, [network.autoencoder, network.check_mean_head()])
        path = latents.folder / f"means-{name}.npy"
        self.coefficients = shared_rows(path, count=len(latents.volumes), make=self._coefficients)
        scale = self.residual_scale or 1 / self.deviation()
        network.residual_scale.fill_(scale)
        logger.info(f"residual scale {scale:.4f}: the mean head leaves {1 / scale:.3f} of a latent's deviation")

    @torch.no_grad()
    def deviation(self) -> float:
        """Root mean square, over the training set, of scaled latent minus the mean head's, readings given.

        Training draws latents from the posterior, so its variance counts too.
        """
        network, latents = self.network, self.latents
        moments = latents.moments if latents.moments is not None else latents.prepare()
        device, total = network.scale_factor.device, 0.0
        depth = torch.from_numpy(network.grid.depths(moments.shape[1])).float().to(device)
        for knee, row in enumerate(moments):
            mean = self.means(torch.tensor([knee]), torch.tensor([True]), depth[None])[0]
            both = network.scale_factor * torch.from_numpy(np.asarray(row, dtype=np.float32)).to(device)
            clean, sd = both.double().chunk(2, dim=1)
            total += float(((clean - mean).square() + sd.square()).mean())
        deviation = (total / len(moments)) ** 0.5
        if not deviation:
            raise ValueError("the mean head leaves nothing over; there is nothing for the denoiser to learn.")
        return deviation

    def means(self, knees: Tensor, told: Tensor, depth: Tensor) -> Tensor:
        """What the mean head says.

        Args:
            knees: indices of training films, (B,).
            told: whether with the knee's readings, (B,).
            depth: (B, S) in [0, 1], on the network's device.

        Returns:
            (B, S, C, h, w), scaled latents.
        """
        rows = torch.from_numpy(self.coefficients[knees.cpu().numpy(), told.cpu().long().numpy()])
        return self.network.check_mean_head().at(rows.to(depth), depth)

    def _coefficients(self, knee: int) -> np.ndarray:
        """The spline's coefficients without and with readings, covariates as they are, (2, knots, C, h, w)."""
        item, head = self.latents.volumes[knee], self.network.check_mean_head()
        device = self.network.scale_factor.device
        film = as_plain(item[FILM]).float()[None].to(device)
        readings = torch.as_tensor(item[READINGS], dtype=torch.float32)[None].to(device)
        known = as_plain(item[COVARIATES]).float()[None].to(device) if COVARIATES in item else None
        both = [
            head.coefficients(film, said, covariates=known)[0].cpu().numpy()
            for said in (torch.zeros_like(readings), readings)
        ]
        return np.stack(both)


class PrepareResidual(PrepareBatch):
    """A batch whose latents are replaced by scaled residuals, and the mean head's latents as a further condition.

    Args:
        residual: what knows the means.
        prepare: what makes a plain denoiser's batch of the rest.
    """

    def __init__(self, residual: Residual, prepare: PrepareBatch) -> None:
        self.residual, self.prepare = residual, prepare

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **options: Any
    ) -> Prepared:
        """Items of `LatentDataset`, or windows of `WindowDataset`, whose depths are (V, S)."""
        clean, depth = (batchdata[name].to(device, non_blocking=non_blocking) for name in ("latent", "depth"))
        # a window's slices are of one knee, and told alike
        window = window_of(depth)
        knees, told = (value[::window] for value in (batchdata[KNEE], batchdata[READINGS].any(dim=1)))
        mean = self.residual.means(knees, told, depth.reshape(-1, window)).flatten(0, 1)
        residual = (clean - mean) * self.residual.network.residual_scale
        return self.prepare({**batchdata, "latent": residual, MEAN: mean}, device, non_blocking, **options)
