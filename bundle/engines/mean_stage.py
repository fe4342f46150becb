"""The stage between autoencoder and denoiser: the mean head learns whole latent volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.engines import PrepareBatch
from torch import Tensor, nn
from torch.utils.data import Dataset

from bundle.engines.latents import LatentDataset
from bundle.engines.prepare_batch import Prepared
from bundle.engines.slices import as_plain
from bundle.engines.twins import twin_error
from bundle.keys import COVARIATES, FILM, MRI, READINGS
from bundle.networks import FilmToVolume


class MeanDataset(Dataset):
    """Films with the latents of all their slices, and some slices of the joint band where a loss is put on them.

    The latent is the posterior's mean, which squared error leads to as well as to samples of it, with less noise. An
    item is a pure function of (seed, epoch, index).

    Args:
        latents: the denoiser's dataset, whose cache and volumes are used.
        repeats: items a knee and epoch.
        band_slices: slices of an item that are decoded and compared; 0 for none.
        band_from: epoch in which that begins.

    Raises:
        ValueError: if the network has no mean head.
    """

    def __init__(self, latents: LatentDataset, *, repeats: int = 1, band_slices: int = 0, band_from: int = 1) -> None:
        latents.network.check_mean_head()
        self.latents, self.repeats, self.band_slices, self.band_from = latents, repeats, band_slices, band_from
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's draws come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.latents.volumes) * self.repeats

    @torch.no_grad()
    def prepare(self) -> np.ndarray:
        """Prepare the latents; freeze the autoencoder; give a mean head that begins the mean volume to start from.

        Returns:
            what `LatentDataset.prepare` does.
        """
        network, moments = self.latents.network, self.latents.prepare()
        head = network.check_mean_head()
        network.autoencoder.requires_grad_(False)  # the band's loss goes through its decoder, and must not train it
        if head.base.any():
            return moments  # weights that a training starts from have learnt theirs
        total = np.zeros(means_of(moments[0]).shape)
        for knee in moments:
            total += means_of(knee)
        mean = torch.from_numpy(total / len(moments)).float() * network.scale_factor.cpu()
        head.set_base(mean.to(network.scale_factor.device), self._depths(moments).to(network.scale_factor))
        return moments

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        latents = self.latents
        moments = latents.moments if latents.moments is not None else self.prepare()
        rng = np.random.default_rng([latents.seed, self.epoch, latents.drawn_as(index, len(self)), 3])
        knee = index // self.repeats
        item, scale = latents.volumes[knee], float(latents.network.scale_factor)
        readings = torch.as_tensor(item[READINGS], dtype=torch.float32)
        if rng.random() < latents.readings_dropout and not latents.is_twin(knee):
            readings = torch.zeros_like(readings)
        result = {
            FILM: as_plain(item[FILM]).float(),
            READINGS: readings,
            "depth": self._depths(moments),
            "latent": torch.from_numpy(scale * means_of(moments[knee])),
        }
        if COVARIATES in item:
            result[COVARIATES] = as_plain(item[COVARIATES]).float()
        if self.band_slices and self.epoch >= self.band_from:
            volume = as_plain(item[MRI]).float()
            positions = torch.from_numpy(rng.integers(volume.shape[-1], size=self.band_slices))
            result["positions"] = positions
            result["band"] = joint_band(volume[..., positions].permute(3, 0, 1, 2))
        return result

    def _depths(self, moments: np.ndarray) -> Tensor:
        return torch.from_numpy(self.latents.network.grid.depths(moments.shape[1])).float()


class MeanPrediction(nn.Module):
    """What the mean stage trains: the mean head; the autoencoder is used and is no part of it.

    Args:
        network: whose `mean_head` is trained in place.
    """

    def __init__(self, network: FilmToVolume) -> None:
        super().__init__()
        self.mean_head = network.check_mean_head()
        self._whole = (network,)  # in a tuple, so that neither optimiser nor DDP sees the rest of the network

    def forward(
        self,
        film: Tensor,
        readings: Tensor,
        depth: Tensor,
        positions: Tensor | None = None,
        covariates: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Mean latents, and decoded slices of the joint band where any are asked for.

        Args:
            film: (B, 1, H, W) in [-1, 1].
            readings: (B, readings_width).
            depth: (B, S) in [0, 1].
            positions: (B, M), numbers of slices among the S.
            covariates: (B, covariates_width), where the head was built for them.

        Returns:
            latents (B, S, C, h, w), and the band (B, M, 1, rows, W) or None.
        """
        latents = self.mean_head(film, readings, depth, covariates=covariates)
        if positions is None:
            return latents, None
        network = self._whole[0]
        chosen = torch.stack([knee[numbers] for knee, numbers in zip(latents, positions, strict=True)])
        # unclamped, or what lies beyond the range would have no way back
        images = network.autoencoder.decode(chosen.flatten(0, 1) / network.scale_factor).mean(dim=1, keepdim=True)
        return latents, joint_band(images).unflatten(0, chosen.shape[:2])


class PrepareMean(PrepareBatch):
    """The mean stage's batches: film, readings and depths in; latents, and perhaps the joint band, to compare."""

    def __call__(self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **_: Any) -> Prepared:
        """Items of `MeanDataset`."""
        data = {key: value.to(device, non_blocking=non_blocking) for key, value in batchdata.items()}
        conditions = {"readings": data[READINGS], "depth": data["depth"]}
        if COVARIATES in data:
            conditions["covariates"] = data[COVARIATES]
        if "band" in data:
            conditions["positions"] = data["positions"]
        return data[FILM], (data["latent"], data.get("band")), (), conditions


class MeanLoss(nn.Module):
    """Squared error of the latents, and absolute error of the decoded joint band.

    Args:
        band_weight: of the latter.
        twin_weight: of the squared error of twins' difference (`twin_error`); 0 where there are none.

    Raises:
        ValueError: on a negative weight.
    """

    def __init__(self, *, band_weight: float = 0.0, twin_weight: float = 0.0) -> None:
        super().__init__()
        for name, weight in (("band_weight", band_weight), ("twin_weight", twin_weight)):
            if weight < 0:
                raise ValueError(f"`{name}` must not be negative, got {weight}.")
        self.band_weight, self.twin_weight = band_weight, twin_weight

    def forward(self, output: tuple[Tensor, Tensor | None], target: tuple[Tensor, Tensor | None]) -> Tensor:
        """Loss of `MeanPrediction`'s output against `PrepareMean`'s target."""
        loss = nn.functional.mse_loss(output[0], target[0])
        if self.twin_weight:
            loss = loss + self.twin_weight * twin_error(output[0], target[0])
        if output[1] is None or target[1] is None:
            return loss
        return loss + self.band_weight * nn.functional.l1_loss(output[1], target[1])


def joint_band(images: Tensor) -> Tensor:
    """The middle third of the rows, (..., H, W) to (..., rows, W): the joint, on which films and grid are centred."""
    rows = images.shape[-2]
    return images[..., rows // 3 : -(-2 * rows // 3), :]


def means_of(moments: np.ndarray) -> np.ndarray:
    """Posterior means, (S, C, h, w) float32, of one knee's moments (S, 2 C, h, w)."""
    return np.asarray(moments[:, : moments.shape[1] // 2], dtype=np.float32)
