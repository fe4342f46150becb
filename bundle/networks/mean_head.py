"""The posterior-mean head: from a film to the mean latent volume, in one pass, continuous in depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.diffusion_model_unet import zero_module
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.networks.spline import fit_spline, spline_basis


class MeanHead(nn.Module):
    """A small UNet over the film whose output channels are the coefficients of a spline over depth.

    Trained on squared error it gives the mean of the latents that go with a film, which carries most of what a film
    explains. It goes down from the film's resolution and up again to the latent's, so that it sees the film's pixels
    and not their latent alone. What it adds to `base`, the training set's mean volume, starts at zero.

    Args:
        image_size: rows and columns of the film.
        readings_width: length of the readings' vector; a vector of zeros, what is unknown, changes nothing.
        covariates_width: length of the covariates' vector, which modulates beside the readings and starts at changing
            nothing; 0 for none.
        latent_channels: C of the latent.
        downsampling: of the autoencoder; a power of two.
        knots: coefficients over depth.
        channels: of each level, the film's resolution first; each further level halves it, the latent's among them.
        groups: of every group norm.

    Raises:
        ValueError: if there are too few levels, or the film's edge cannot be halved so often.

    Source:
        The mean of a posterior minimises squared error (Bishop, "Pattern Recognition and Machine Learning", 2006,
        section 1.5.5); modulation by readings: Perez et al., "FiLM", AAAI 2018, Eq. 2.
    """

    def __init__(
        self,
        *,
        image_size: int,
        readings_width: int,
        covariates_width: int = 0,
        latent_channels: int = 4,
        downsampling: int = 4,
        knots: int = 24,
        channels: Sequence[int] = (16, 32, 64, 128, 160),
        groups: int = 8,
    ) -> None:
        super().__init__()
        halvings = downsampling.bit_length() - 1
        if downsampling != 2**halvings or not 0 < halvings < len(channels):
            raise ValueError(
                f"`channels` must have more levels than `downsampling`, a power of two, has halvings; got "
                f"{len(channels)} levels and {downsampling}."
            )
        if image_size % 2 ** (len(channels) - 1):
            raise ValueError(
                f"`image_size` must be a multiple of {2 ** (len(channels) - 1)} for {len(channels)} levels of "
                f"`channels`, got {image_size}."
            )
        self.latent_channels, self.knots, self.halvings = latent_channels, knots, halvings
        edge, top = image_size // downsampling, channels[halvings]
        told = channels[-1]
        # without biases, so that a vector of zeros modulates nothing
        self.told = nn.Sequential(nn.Linear(readings_width, told, bias=False), nn.SiLU())
        self.covariates_width = covariates_width
        self.told_covariates = None
        if covariates_width:
            self.told_covariates = nn.Sequential(nn.Linear(covariates_width, told, bias=False), nn.SiLU())
        vectors = 2 if covariates_width else 1
        self.first = nn.Conv2d(1, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            ModulatedBlock(before, here, told=told, vectors=vectors, groups=groups)
            for before, here in zip([channels[0], *channels[:-1]], channels, strict=True)
        )
        self.middle = ModulatedBlock(channels[-1], channels[-1], told=told, vectors=vectors, groups=groups)
        upwards = range(len(channels) - 2, halvings - 1, -1)
        self.up = nn.ModuleList(
            ModulatedBlock(
                channels[level + 1] + channels[level], channels[level], told=told, vectors=vectors, groups=groups
            )
            for level in upwards
        )
        self.norm = nn.GroupNorm(groups, top)
        self.last = zero_module(nn.Conv2d(top, knots * latent_channels, 1))
        self.base = nn.Parameter(torch.zeros(knots, latent_channels, edge, edge))

    def forward(self, film: Tensor, readings: Tensor, depth: Tensor, *, covariates: Tensor | None = None) -> Tensor:
        """Mean latents at given depths.

        Args:
            film: (B, 1, H, W) in [-1, 1].
            readings: (B, readings_width); zeros where nothing is known.
            depth: (B, S) in [0, 1].
            covariates: (B, covariates_width); None where nothing is known.

        Returns:
            (B, S, C, h, w), scaled latents.

        Raises:
            ValueError: on covariates that the head was not built for.
        """
        return self.at(self.coefficients(film, readings, covariates=covariates), depth)

    def coefficients(self, film: Tensor, readings: Tensor, *, covariates: Tensor | None = None) -> Tensor:
        """The spline's coefficients, (B, knots, C, h, w), of what `forward` is told: once a volume."""
        told = [self.told(readings.to(film.dtype))]
        if self.told_covariates is not None:
            known = film.new_zeros(len(film), self.covariates_width) if covariates is None else covariates
            told.append(self.told_covariates(known.to(film.dtype)))
        elif covariates is not None:
            raise ValueError("`covariates` need a mean head that was built with `covariates_width`.")
        hidden, skips = self.first(film), []
        for level, block in enumerate(self.down):
            hidden = block(hidden if level == 0 else F.avg_pool2d(hidden, 2), told)
            skips.append(hidden)
        hidden = self.middle(hidden, told)
        for block, skip in zip(self.up, skips[-2 : self.halvings - len(skips) - 1 : -1], strict=True):
            hidden = block(torch.cat([F.interpolate(hidden, scale_factor=2.0), skip], dim=1), told)
        change = self.last(F.silu(self.norm(hidden)))
        return self.base + change.unflatten(1, (self.knots, self.latent_channels))

    def at(self, coefficients: Tensor, depth: Tensor) -> Tensor:
        """The spline at depths (B, S), or (S,) for all films alike: (B, S, C, h, w)."""
        basis = spline_basis(depth, self.knots).to(coefficients.dtype)
        return torch.einsum("sk,bkchw->bschw" if basis.ndim == 2 else "bsk,bkchw->bschw", basis, coefficients)

    @torch.no_grad()
    def set_base(self, mean: Tensor, depth: Tensor) -> None:
        """Start from a mean latent volume, (S, C, h, w) at depths (S,): the spline that fits it best."""
        self.base.copy_(fit_spline(mean, depth, self.knots))


class ModulatedBlock(nn.Module):
    """A residual block of two convolutions, the second one's input scaled and shifted by what is told.

    Args:
        inputs: channels in.
        outputs: channels out.
        told: length of a vector of what is told.
        vectors: how many such vectors there are: the readings', and perhaps the covariates'.
        groups: of both norms; where `inputs` is no multiple of it, the first norm has one group.
    """

    def __init__(self, inputs: int, outputs: int, *, told: int, groups: int, vectors: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups if inputs % groups == 0 else 1, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.modulation = zero_module(nn.Linear(told, 2 * outputs, bias=False))
        # a layer of its own, so that a head with covariates takes the weights of one without
        self.more = nn.ModuleList(zero_module(nn.Linear(told, 2 * outputs, bias=False)) for _ in range(vectors - 1))
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, told: Sequence[Tensor]) -> Tensor:
        """(B, inputs, h, w) and vectors (B, told) to (B, outputs, h, w)."""
        hidden = self.norm2(self.conv1(F.silu(self.norm1(x))))
        modulation = self.modulation(told[0])
        for layer, vector in zip(self.more, told[1:], strict=True):
            modulation = modulation + layer(vector)
        scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv2(F.silu(hidden * (1 + scale) + shift))
        return self.skip(x) + hidden
