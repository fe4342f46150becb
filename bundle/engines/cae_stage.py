"""Training of the CAE generator: film in, film and volume out, both compared."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch
from torch import Tensor, nn

from bundle.engines.prepare_batch import Prepared
from bundle.engines.slices import as_plain
from bundle.keys import FILM, MRI
from bundle.networks.between_slices import at_depths


class PrepareCAE(PrepareBatch):
    """Batches of films with their volumes, brought to the slices that the generator gives.

    Args:
        slices: how many, evenly over the window, interpolated linearly from the volume's.
    """

    def __init__(self, slices: int) -> None:
        self.depths = torch.linspace(0, 1, slices, dtype=torch.float64)

    def __call__(self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **_: Any) -> Prepared:
        """Items with `image` (B, 1, H, W) and `mri` (B, 1, H, W, S)."""
        film, volume = (
            as_plain(batchdata[key]).to(device, torch.float32, non_blocking=non_blocking) for key in (FILM, MRI)
        )
        return film, (film, at_depths(volume, self.depths)), (), {}


class CAELoss(nn.Module):
    """Weighted squared errors of the decoded film and of the volume.

    Args:
        film_weight: the paper's lambda 1.
        volume_weight: its lambda 2.

    Source:
        Wang, Chetouani, Jennane, arXiv 2503.13555, 2025: the hybrid loss.
    """

    def __init__(self, *, film_weight: float = 1.0, volume_weight: float = 1.0) -> None:
        super().__init__()
        if film_weight < 0 or volume_weight <= 0:
            raise ValueError(
                f"`film_weight` must not be negative and `volume_weight` must be positive, got {film_weight} and "
                f"{volume_weight}."
            )
        self.film_weight, self.volume_weight = film_weight, volume_weight

    def forward(self, output: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of `CAE`'s output against `PrepareCAE`'s target."""
        film, volume = (nn.functional.mse_loss(given, wanted) for given, wanted in zip(output, target, strict=True))
        return self.film_weight * film + self.volume_weight * volume


def drops_last(items: int, batch_size: int) -> bool:
    """Whether the last batch of an epoch must go: it has one item, and batch norm over one pixel needs two.

    Raises:
        ValueError: if there are no two items in any batch.
    """
    if min(items, batch_size) < 2:
        raise ValueError(f"batch norm needs batches of at least 2, got {items} items in batches of {batch_size}.")
    return items % batch_size == 1
