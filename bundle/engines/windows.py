"""What stage 2 sees where slices see each other: windows of neighbouring slices, noised as the sampler noises them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from bundle.engines.latents import LatentDataset
from bundle.engines.prepare_batch import SLICE
from bundle.engines.slices import as_plain
from bundle.keys import MRI
from bundle.networks import FilmToVolume
from bundle.sampling import slice_noise

OF_EACH_SLICE = ("latent", "noise", "depth", SLICE)
"""Entries of a window that differ from slice to slice; the others are the knee's."""


class WindowDataset(LatentDataset):
    """Windows of neighbouring slices, out of the cache of `LatentDataset`.

    A window has one time and one set of conditions, as a volume has while it is sampled, and its noise is `shared`,
    `independent` or `correlated` as the network will draw it. An item is a pure function of (seed, epoch, index).

    Args:
        volumes, network, data, folder: as `LatentDataset`.
        window: neighbouring slices of an item; what a mixer's `reach_mm` shows at the most.
        windows_per_volume: items a volume and epoch.
        options: further arguments of `LatentDataset`; not `slices_per_volume`.

    Raises:
        ValueError: if the window is longer than the network's grid, or shorter than two slices.
    """

    def __init__(
        self,
        volumes: Sequence,
        network: FilmToVolume,
        *,
        data: Sequence[dict[str, Any]],
        folder: str,
        window: int = 10,
        windows_per_volume: int = 1,
        **options: Any,
    ) -> None:
        if not 2 <= window <= network.grid.slices:
            raise ValueError(f"`window` must lie in 2 to {network.grid.slices}, the grid's slices, got {window}.")
        super().__init__(volumes, network, data=data, folder=folder, slices_per_volume=windows_per_volume, **options)
        self.window = window

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = super().__getitem__(index)  # prepares, too; its slice is replaced, its conditions and time stay
        moments = self.moments if self.moments is not None else self.prepare()
        rng = np.random.default_rng([self.seed, self.epoch, self.drawn_as(index, len(self)), 3])
        slices = moments[index // self.slices_per_volume]
        start = int(rng.integers(len(slices) - self.window + 1))
        part = slice(start, start + self.window)
        mean, sd = np.split(slices[part].astype(np.float32), 2, axis=1)
        clean = float(self.network.scale_factor) * (mean + sd * rng.standard_normal(mean.shape, dtype=np.float32))
        grid = self.network.grid
        depths = grid.depths(len(slices))[part]
        noise = slice_noise(
            mean.shape[1:],
            depths * (grid.slices - 1) * grid.slice_spacing_mm,
            seed=int(rng.integers(2**31)),
            correlation=self.network.noise_correlation,
            length_mm=self.network.noise_length_mm,
        )
        drawn = {"latent": torch.from_numpy(clean), "noise": noise, "depth": torch.from_numpy(depths).float()}
        if self.with_slices:
            real = as_plain(self.volumes[index // self.slices_per_volume][MRI])[..., part]
            drawn[SLICE] = real.float().movedim(-1, 0)
        return item | drawn


def denoiser_dataset(
    volumes: Sequence, network: FilmToVolume, *, slices_per_volume: int, window: int | None, **options: Any
) -> LatentDataset:
    """Single slices, or windows where `window` says how long they are; as many slices an epoch in both.

    Args:
        volumes: as `LatentDataset`.
        network: as `LatentDataset`.
        slices_per_volume: slices a volume and epoch.
        window: neighbouring slices of an item; None means single slices.
        options: further arguments of the datasets.

    Raises:
        ValueError: if no whole number of windows has `slices_per_volume` slices.
    """
    if window is None:
        return LatentDataset(volumes, network, slices_per_volume=slices_per_volume, **options)
    windows, rest = divmod(slices_per_volume, window)
    if rest or not windows:
        raise ValueError(
            f"`slices_per_volume` must be a multiple of `window`, {window}, got {slices_per_volume}; `window` null "
            "shows single slices, where the network has no `depth_mixing`."
        )
    return WindowDataset(volumes, network, window=window, windows_per_volume=windows, **options)


def items_of_a_batch(slices: int, window: int | None, ranks: int = 1) -> int:
    """Items that a process takes of a batch, at least one.

    Args:
        slices: of the batch, of all processes together.
        window: slices of an item; None means single slices.
        ranks: number of processes.
    """
    return max(1, slices // (window or 1) // ranks)


def stack_windows(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate V windows of S slices to a batch of V * S slices, a window's following one another.

    Returns:
        what `PrepareDenoising` takes, (V * S, ...) each; `depth` alone is (V, S), which says what belongs together.
    """
    batch = default_collate(list(items))
    window = batch["depth"].shape[1]
    return {
        name: value if name == "depth" else value.flatten(0, 1) if name in OF_EACH_SLICE else _repeat(value, window)
        for name, value in batch.items()
    }


def _repeat(value: Tensor, times: int) -> Tensor:
    return value.repeat_interleave(times, dim=0)
