"""What stage 1 sees: patches of slices and of films, each a pure function of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.utils.data import Dataset

from bundle.keys import FILM, MRI


class SliceDataset(Dataset):
    """Random patches for the autoencoder, which must encode slices and films alike.

    Args:
        volumes: items with `image` (1, H, W) and `mri` (1, H, W, S) in [-1, 1], such as a MONAI dataset.
        patch_size: edge of the square patch in pixels; at most H and W.
        latent_channels: of the autoencoder, and
        downsampling: its factor, for the posterior noise of a patch.
        patches_per_volume: items a volume and epoch.
        film_share: share of patches that come from films.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        volumes: Sequence,
        *,
        patch_size: int,
        latent_channels: int,
        downsampling: int,
        patches_per_volume: int = 16,
        film_share: float = 0.15,
        seed: int = 0,
    ) -> None:
        self.volumes = volumes
        self.patch_size = patch_size
        self.latent_shape = (latent_channels, patch_size // downsampling, patch_size // downsampling)
        self.patches_per_volume = patches_per_volume
        self.film_share = film_share
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's draws come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.volumes) * self.patches_per_volume

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch, index, 1])
        item = self.volumes[index // self.patches_per_volume]
        volume = item[MRI]
        from_film = rng.random() < self.film_share
        depth = int(rng.integers(volume.shape[-1]))
        image = torch.as_tensor(item[FILM] if from_film else volume[..., depth])
        row, column = (int(rng.integers(edge - self.patch_size + 1)) for edge in image.shape[-2:])
        patch = image[..., row : row + self.patch_size, column : column + self.patch_size]
        noise = rng.standard_normal(self.latent_shape, dtype=np.float32)
        return {"image": as_plain(patch).float(), "noise": torch.from_numpy(noise)}


def as_plain(tensor: Tensor) -> Tensor:
    """The tensor without MONAI's metadata."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
