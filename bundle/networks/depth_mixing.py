"""What lets the slices of one volume see each other: attention over depth, and convolution along it, in millimetres."""

from __future__ import annotations

import math

import torch
from monai.networks.nets.diffusion_model_unet import zero_module
from torch import Tensor, nn
from torch.nn import functional as F

WAVELENGTHS_MM = (3.0, 150.0)
"""Shortest and longest wavelength of the rotary code: two slices of the grid, two depths of the window."""


class DepthMixer(nn.Module):
    """Adds to each pixel what its neighbours in depth say; nothing before it has been trained.

    Positions are millimetres, so that 30 slices or 500 mean the same to it, and only differences of them count.
    It does not ask in which order the slices come.

    Args:
        channels: of the feature maps.
        num_head_channels: channels of an attention head, even.
        reach_mm: a slice attends to those at most this far away: what training's windows show, so that a whole stack
            asks nothing that was never trained.
        pitch_mm: distance at which the convolution looks to either side, between slices linearly interpolated;
            None leaves the convolution out.

    Raises:
        ValueError: if the channels cannot be shared out to heads, or a length is not positive.

    Source:
        Attention over one axis at each pixel: Blattmann et al., "Align your Latents", CVPR 2023, section 3.1, there
        over time. Rotary code: Su et al., "RoFormer", 2021, Eq. 15, with continuous positions.
    """

    wavenumbers: Tensor

    def __init__(
        self, channels: int, *, num_head_channels: int = 32, reach_mm: float = 13.5, pitch_mm: float | None = None
    ) -> None:
        super().__init__()
        if num_head_channels % 2 or num_head_channels < 2 or channels % num_head_channels:
            raise ValueError(
                f"`num_head_channels` must be even and divide the level's {channels} channels, got {num_head_channels}."
            )
        for name, length in (("reach_mm", reach_mm), ("pitch_mm", pitch_mm)):
            if length is not None and not length > 0:
                raise ValueError(f"`{name}` must be positive, in mm, got {length}.")
        self.heads, self.reach_mm, self.pitch_mm = channels // num_head_channels, reach_mm, pitch_mm
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = zero_module(nn.Linear(channels, channels))
        self.convolution = None if pitch_mm is None else zero_module(nn.Linear(3 * channels, channels))
        first, last = (math.log(2 * math.pi / length) for length in WAVELENGTHS_MM)
        wavenumbers = torch.linspace(first, last, num_head_channels // 2, dtype=torch.float64).exp()
        self.register_buffer("wavenumbers", wavenumbers, persistent=False)

    def forward(self, hidden: Tensor, positions_mm: Tensor) -> Tensor:
        """Mix slices.

        Args:
            hidden: (V, S, C, h, w), S slices of each of V volumes.
            positions_mm: (V, S), of the slices, in mm.

        Returns:
            (V, S, C, h, w).
        """
        volumes, slices, channels, height, width = hidden.shape
        tokens = hidden.permute(0, 3, 4, 1, 2).reshape(volumes, height * width, slices, channels)
        if self.convolution is not None:
            tokens = tokens + self.convolution(self._beside(tokens, positions_mm))
        tokens = tokens + self.out(self._attend(self.norm(tokens), positions_mm))
        return tokens.reshape(volumes, height, width, slices, channels).permute(0, 3, 4, 1, 2)

    def _attend(self, tokens: Tensor, positions_mm: Tensor) -> Tensor:
        """(V, P, S, C) to the same."""
        volumes, pixels, slices, channels = tokens.shape
        shape = (volumes, pixels, slices, self.heads, channels // self.heads)
        query, key, value = (part.reshape(shape).transpose(2, 3) for part in self.qkv(tokens).chunk(3, dim=-1))
        # double precision: the difference of two large angles would lose what is left of it
        angles = positions_mm.double()[:, None, None, :, None] * self.wavenumbers.double()
        cos, sin = angles.cos().to(tokens), angles.sin().to(tokens)
        apart = (positions_mm[:, :, None] - positions_mm[:, None, :]).abs()
        near = (apart <= self.reach_mm + 1e-3)[:, None]  # rounding must not lose the farthest
        # pixels stand with the heads, so that one mask serves all of them
        query, key = (_rotate(part, cos, sin).flatten(1, 2) for part in (query, key))
        mixed = F.scaled_dot_product_attention(query, key, value.flatten(1, 2), near)
        return mixed.unflatten(1, (pixels, self.heads)).transpose(2, 3).reshape(volumes, pixels, slices, channels)

    def _beside(self, tokens: Tensor, positions_mm: Tensor) -> Tensor:
        """(V, P, S, C) to (V, P, S, 3 C): what lies `pitch_mm` behind, here, and as far in front."""
        pitch = float(self.pitch_mm or 0)
        weights = [interpolation(positions_mm, positions_mm + shift).to(tokens) for shift in (-pitch, pitch)]
        behind, before = (torch.einsum("vts,vpsc->vptc", weight, tokens) for weight in weights)
        return torch.cat([behind, tokens, before], dim=-1)


def interpolation(positions: Tensor, wanted: Tensor) -> Tensor:
    """Weights of linear interpolation over positions in any order; beyond the ends, the end's value.

    Args:
        positions: (V, S), in any unit.
        wanted: (V, T), in the same.

    Returns:
        (V, T, S); rows sum to 1.
    """
    ordered, order = positions.double().sort(dim=1)
    count = positions.shape[1]
    if count == 1:
        return positions.new_ones(*wanted.shape, 1)
    wanted = wanted.double().contiguous()
    above = torch.searchsorted(ordered, wanted).clamp(1, count - 1)
    low, high = ordered.gather(1, above - 1), ordered.gather(1, above)
    share = ((wanted - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    weights = torch.zeros(*wanted.shape, count, dtype=torch.float64, device=positions.device)
    weights.scatter_add_(2, order.gather(1, above - 1)[..., None], (1 - share)[..., None])
    weights.scatter_add_(2, order.gather(1, above)[..., None], share[..., None])
    return weights


def _rotate(features: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of features by their slice's angle."""
    first, second = features.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
