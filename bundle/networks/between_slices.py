"""Slices between slices: a volume at other depths, by linear interpolation."""

from __future__ import annotations

import torch
from torch import Tensor


def at_depths(volume: Tensor, depths: Tensor) -> Tensor:
    """Interpolate a volume's slices linearly over depth.

    Args:
        volume: (B, C, H, W, S), slices evenly over the window: the first at depth 0, the last at 1.
        depths: (N,) in [0, 1].

    Returns:
        (B, C, H, W, N).

    Raises:
        ValueError: if a depth lies outside.
    """
    if depths.numel() and not bool(((depths >= 0) & (depths <= 1)).all()):
        raise ValueError(f"`depths` must lie in [0, 1], got {depths.tolist()}.")
    count = volume.shape[-1]
    position = depths.to(volume.device, torch.float64) * (count - 1)
    below = position.floor().long().clamp(max=max(count - 2, 0))
    share = (position - below).to(volume)
    above = (below + 1).clamp(max=count - 1)
    return volume[..., below] * (1 - share) + volume[..., above] * share


def asked_depths(slices: int | None, depths: Tensor | None, *, count: int) -> Tensor | None:
    """What a call asks for: its depths, or `slices` evenly over the window; None where that is the volume's own.

    Args:
        slices: how many are asked for; None for the volume's own.
        depths: slice positions in [0, 1], which go before `slices`.
        count: how many slices the volume has.

    Returns:
        depths (N,) in [0, 1], or None.
    """
    if depths is not None:
        return depths
    return None if slices in (None, count) else torch.linspace(0, 1, slices, dtype=torch.float64)
