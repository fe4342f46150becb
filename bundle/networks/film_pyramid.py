"""Features of the film, from its full resolution down, for each level of the denoiser."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets.diffusion_model_unet import zero_module
from torch import Tensor, nn


class FilmPyramid(nn.Module):
    """A small convolutional network over the film, and one zero-initialised convolution into each UNet level.

    A film's latent was made to hold films, at the latent's resolution; here the denoiser's own loss decides which of
    the film's pixels matter. At zero the denoiser equals the one without it.

    Args:
        widths: channels of each pyramid level, the film's resolution first; each further level halves it.
        unet_channels: channels of each UNet level; the UNet's levels are the pyramid's last ones.
        groups: of every group norm.

    Raises:
        ValueError: if the pyramid has fewer levels than the UNet.

    Source:
        Zero-initialised injection: Zhang, Rao, Agrawala, "Adding Conditional Control to Text-to-Image Diffusion
        Models", ICCV 2023, section 3.1; features at each resolution: Mou et al., "T2I-Adapter", AAAI 2024.
    """

    def __init__(self, *, widths: Sequence[int], unet_channels: Sequence[int], groups: int = 8) -> None:
        super().__init__()
        if len(widths) < len(unet_channels):
            raise ValueError(
                f"`widths` must have at least the {len(unet_channels)} levels of `unet_channels`, got {len(widths)}."
            )
        stages = [
            _stage(before, here, stride=1 if level == 0 else 2, groups=groups)
            for level, (before, here) in enumerate(zip([1, *widths[:-1]], widths, strict=True))
        ]
        self.stages = nn.ModuleList(stages)
        # a level of the UNet is entered with the channels of the one above it
        entered = [unet_channels[0], *unet_channels[:-1]]
        self.into = nn.ModuleList(
            zero_module(nn.Conv2d(width, channels, 1))
            for width, channels in zip(widths[-len(unet_channels) :], entered, strict=True)
        )

    def forward(self, film: Tensor) -> list[Tensor]:
        """Films (B, 1, H, W) to what each UNet level adds to its input, (B, channels, h, w), the first level first."""
        features, hidden = [], film
        for stage in self.stages:
            hidden = stage(hidden)
            features.append(hidden)
        return [into(f) for into, f in zip(self.into, features[-len(self.into) :], strict=True)]


def _stage(inputs: int, outputs: int, *, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
        nn.GroupNorm(groups, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.SiLU(),
    )
