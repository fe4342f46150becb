"""What stage 2 sees: the training set's latents, encoded once, and everything that is drawn for a step."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from bundle.engines.prepare_batch import SLICE, TOKENS, WITHHELD
from bundle.engines.shared_rows import shared_rows
from bundle.engines.slices import as_plain
from bundle.keys import COVARIATES, FILM, MRI, READINGS
from bundle.networks import FilmToVolume
from bundle.networks.film_encoder import FilmEncoder

logger = logging.getLogger(__name__)
KNEE = "knee"
"""Entry of an item: which of the training volumes it is of."""


class LatentDataset(Dataset):
    """Latents of slices with their conditions, noise and time.

    Nothing is read or encoded until `prepare`, which needs the trained autoencoder; it keeps the posterior's mean
    and standard deviation of every slice in a memory-mapped file named after the autoencoder and the data, so that
    a resumed training does not encode again. So it does with the films' latents and, where the film encoder's tower
    is frozen, with its embeddings, which then stand for the films. Ranks share the work. An item is a pure function
    of (seed, epoch, index).

    Args:
        volumes: items with `image` (1, H, W), `mri` (1, H, W, S) in [-1, 1], `readings` (width,) and, for a denoiser
            that is told them, `covariates` (width,) and `tokens` (k, context_dim), beside the film's.
        network: a `FilmToVolume`; `prepare` sets its `scale_factor`.
        data: the datalist behind `volumes`, from which the cache's name is made.
        folder: where the cache is kept.
        slices_per_volume: items a volume and epoch; the paper's one random slice is 1.
        latent_scale: factor on latents; None means 1 / standard deviation of the training latents.
        readings_dropout: share of items whose readings are withheld, so that "unknown" is trained too.
        condition_dropout: share of items whose film, readings and covariates are withheld together: what
            classifier-free guidance asks the denoiser for (`Denoiser.forward`); depth stays.
        with_slices: whether items hold the real slice, for a loss in pixels.
        twins: whether the second half of `volumes` are twins of the first, which differ in a finding: they get the same
            draws, and their readings are never withheld.
        encode_batch: slices that are encoded at once. Few, so that a CPU's cache holds them: 4 at a time took 0.4 of
            the time of 50 (128 x 128, one core).
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        volumes: Sequence,
        network: FilmToVolume,
        *,
        data: Sequence[dict[str, Any]],
        folder: str,
        slices_per_volume: int = 1,
        latent_scale: float | None = None,
        readings_dropout: float = 0.1,
        condition_dropout: float = 0.0,
        with_slices: bool = False,
        twins: bool = False,
        encode_batch: int = 5,
        seed: int = 0,
    ) -> None:
        for name, share in (("readings_dropout", readings_dropout), ("condition_dropout", condition_dropout)):
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1], got {share}.")
        self.volumes, self.network, self.data = volumes, network, data
        self.folder = Path(folder)
        self.slices_per_volume = slices_per_volume
        self.latent_scale = latent_scale
        self.readings_dropout, self.condition_dropout = readings_dropout, condition_dropout
        self.with_slices = with_slices
        self.twins = twins
        self.encode_batch = encode_batch
        self.seed = seed
        self.epoch = 0
        self.moments: np.ndarray | None = None
        self.film_latents: np.ndarray
        self.embeddings: np.ndarray | None = None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's draws come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.volumes) * self.slices_per_volume

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        moments = self.moments if self.moments is not None else self.prepare()
        rng = np.random.default_rng([self.seed, self.epoch, self.drawn_as(index, len(self)), 2])
        knee = index // self.slices_per_volume
        item, slices = self.volumes[knee], moments[knee]
        position = int(rng.integers(len(slices)))
        mean, sd = np.split(slices[position].astype(np.float32), 2)
        scale = float(self.network.scale_factor)
        clean = scale * (mean + sd * rng.standard_normal(mean.shape, dtype=np.float32))
        readings = torch.as_tensor(item[READINGS], dtype=torch.float32)
        if rng.random() < self.readings_dropout and not self.is_twin(knee):
            readings = torch.zeros_like(readings)
        result = {
            "latent": torch.from_numpy(clean),
            "noise": torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32)),
            "time": torch.tensor(self.network.schedule.draw_time(rng), dtype=torch.float32),
            KNEE: torch.tensor(knee),
            "depth": torch.tensor(self.network.grid.depths(len(slices))[position], dtype=torch.float32),
            READINGS: readings,
            "film_latent": torch.from_numpy(np.array(self.film_latents[knee])),
            FILM: (
                as_plain(item[FILM]).float()
                if self.embeddings is None
                else torch.from_numpy(np.array(self.embeddings[knee]))
            ),
        }
        if self.with_slices:
            result[SLICE] = as_plain(item[MRI])[..., position].float()
        result |= {key: as_plain(item[key]).float() for key in (COVARIATES, TOKENS) if key in item}
        if self.condition_dropout:
            # the last draw, so that the others are those of a training without it
            result[WITHHELD] = torch.tensor(rng.random() < self.condition_dropout)
        return result

    def drawn_as(self, index: int, count: int) -> int:
        """The item of `count`, volume by volume, whose draws an item gets: its own, or its twin's in the first half."""
        return index % (count // 2) if self.twins else index

    def is_twin(self, knee: int) -> bool:
        """Whether a volume is of the second half of twins."""
        return self.twins and knee >= len(self.volumes) // 2

    @torch.no_grad()
    def prepare(self) -> np.ndarray:
        """Encode the training set, or find it encoded; set the network's `scale_factor`; freeze its autoencoder.

        Returns:
            posterior mean and standard deviation of every slice, (knees, S, 2 C, h, w).
        """
        autoencoder, count = self.network.autoencoder.eval().requires_grad_(False), len(self.volumes)
        path = self.folder / f"latents-{self.fingerprint([], [autoencoder])}.npy"
        self.moments = shared_rows(path, count=count, make=self._encode)
        if self.latent_scale is None:
            means = np.asarray(self.moments[:, :, : self.moments.shape[2] // 2], dtype=np.float64)
            scale = 1.0 / means.std()
        else:
            scale = self.latent_scale
        self.network.scale_factor.fill_(scale)
        told: list[object] = [float(self.network.scale_factor), self.network.scale_film_latent]
        told += ["edges"] if self.network.denoiser.gates is not None else []
        path = self.folder / f"films-{self.fingerprint(told, [autoencoder])}.npy"
        self.film_latents = shared_rows(path, count=count, make=self._encode_film)
        encoder = self.network.denoiser.film_encoder
        if encoder is not None and encoder.frozen:
            path = self.folder / f"embeddings-{self.fingerprint([encoder.tower.image_size], [encoder.tower])}.npy"
            self.embeddings = shared_rows(path, count=count, make=partial(self._embed_film, encoder))
        logger.info(f"{count} knees as latents, scale factor {float(self.network.scale_factor):.4f}")
        return self.moments

    def _encode(self, knee: int) -> np.ndarray:
        """Moments of a knee's slices, (S, 2 C, h, w)."""
        device = self.network.scale_factor.device
        slices = as_plain(self.volumes[knee][MRI]).float()[0].permute(2, 0, 1)[:, None]
        encode = self.network.autoencoder.encode
        parts = [torch.cat(encode(part.to(device)), dim=1).cpu() for part in slices.split(self.encode_batch)]
        return torch.cat(parts).half().numpy()

    def _encode_film(self, knee: int) -> np.ndarray:
        return self.network.encode_film(self._film(knee))[0].cpu().numpy()

    def _embed_film(self, encoder: FilmEncoder, knee: int) -> np.ndarray:
        was_training = encoder.training
        embedding = encoder.eval().embed(self._film(knee))[0].cpu().numpy()
        encoder.train(was_training)
        return embedding

    def _film(self, knee: int) -> Tensor:
        return as_plain(self.volumes[knee][FILM]).float()[None].to(self.network.scale_factor.device)

    def fingerprint(self, told: Sequence[object], modules: Sequence[nn.Module]) -> str:
        """Hash of the data's names, the grid, what else is told, and modules' weights: the name of a cache."""
        digest = hashlib.sha256(json.dumps([[str(item[MRI]) for item in self.data], *told]).encode())
        tensors = [value for module in modules for value in module.state_dict().values()]
        for tensor in [self.network.grid_description, *tensors]:
            digest.update(tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]
