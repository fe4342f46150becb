"""From a batch to what the network is called with and what it is compared to."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch
from torch import Tensor

from bundle.engines.slices import as_plain
from bundle.keys import COVARIATES, FILM, MRI, READINGS
from bundle.sampling import NoiseSchedule

WITHHELD = "withheld"
"""Entry of a batch: true where film, readings and covariates are kept from the denoiser."""
TOKENS = "tokens"
"""Entry of a batch, and of an item that a preprocessing puts it in: further context tokens, (k, context_dim)."""
MEAN = "mean"
"""Entry of a batch: what the mean head says of the slices."""
SLICE = "slice"
"""Entry of a batch: the real slices, for a loss in pixels."""
Compared = Tensor | tuple[Tensor, Tensor | None] | dict[str, Tensor] | None
"""What a loss compares: one tensor or what its stage has several of, None where only inference runs."""
Prepared = tuple[Tensor, Compared, tuple, dict[str, Tensor]]


def window_of(depth: Tensor) -> int:
    """Slices that belong together by the shape of their depths: S of (V, S), 1 of (N,)."""
    return depth.shape[1] if depth.ndim == 2 else 1


class PrepareReconstruction(PrepareBatch):
    """Stage 1: the patch is input and target."""

    def __call__(self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **_: Any) -> Prepared:
        """Patches of `SliceDataset`."""
        image, noise = (batchdata[key].to(device, non_blocking=non_blocking) for key in ("image", "noise"))
        return image, image, (), {"noise": noise}


class PrepareDenoising(PrepareBatch):
    """Stage 2: the noised latent is input, the schedule's target is compared (Algorithm 1, Eq. 10).

    Args:
        schedule: the noise schedule of the network.
    """

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule

    def __call__(self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **_: Any) -> Prepared:
        """Items of `LatentDataset`."""
        data = {key: value.to(device, non_blocking=non_blocking) for key, value in batchdata.items()}
        clean, noise, time = data["latent"], data["noise"], data["time"]
        conditions = {key: data[key] for key in ("depth", "film_latent")}
        conditions |= {"time": time, "readings": data[READINGS], "film": data[FILM]}
        conditions |= {key: data[key] for key in (COVARIATES, TOKENS, WITHHELD, MEAN) if key in data}
        noisy = self.schedule.add_noise(clean, noise, time)
        target = self.schedule.target(clean, noise, time)
        if SLICE in data:
            return noisy, {"target": target, "noisy": noisy, "time": time, "slice": data[SLICE]}, (), conditions
        return noisy, target, (), conditions


class PrepareFilm(PrepareBatch):
    """Inference and evaluation: the film, its readings and covariates; the real volume where there is one."""

    def __call__(self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **_: Any) -> Prepared:
        """Items of the preprocessing chain; MetaTensors keep their metadata in the batch."""
        film = batchdata[FILM].to(device, non_blocking=non_blocking)
        mri = batchdata.get(MRI)  # a file's name where only inference runs
        mri = mri.to(device, non_blocking=non_blocking) if isinstance(mri, Tensor) else None
        conditions = {}
        for key in (READINGS, COVARIATES, TOKENS):
            if key in batchdata:
                conditions[key] = as_plain(torch.as_tensor(batchdata[key], dtype=torch.float32)).to(device)
        return film, mri, (), conditions
