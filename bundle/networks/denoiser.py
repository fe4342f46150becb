"""What stage 2 trains: the UNet with its heads, the film's context token and its pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bundle.networks.conditioning import TwoPathUNet, freeze_one_token_attention
from bundle.networks.film_encoder import FilmEncoder
from bundle.networks.film_pyramid import FilmPyramid


class Denoiser(nn.Module):
    """What stage 2 trains: the UNet with its heads, and the film's context token.

    Args:
        unet: the two-path UNet; its input is the noised latent beside the film's latent and the mean's, as told next.
        film_encoder: gives the context token.
        film_pyramid: features of the film for each level of the UNet.
        film_latent: whether the film's latent is among the UNet's input.
        mean: whether the mean head's latent is.

    Raises:
        ValueError: if the UNet's `in_channels` do not hold what they must.
    """

    def __init__(
        self,
        *,
        unet: TwoPathUNet,
        film_encoder: FilmEncoder,
        film_pyramid: FilmPyramid | None = None,
        film_latent: bool = True,
        mean: bool = False,
    ) -> None:
        super().__init__()
        wanted = unet.out_channels * (1 + film_latent + mean)
        if unet.in_channels != wanted:
            also = [name for name, there in (("the film's", film_latent), ("the mean's", mean)) if there]
            raise ValueError(
                f"`in_channels` of the UNet must be {wanted}, {unet.out_channels} for each of "
                f"{', '.join(['the noised latent', *also])}; got {unet.in_channels}."
            )
        self.unet = unet
        self.film_encoder = film_encoder
        self.film_pyramid = film_pyramid
        self.film_latent, self.mean = film_latent, mean
        freeze_one_token_attention(unet)

    def forward(
        self,
        noisy: Tensor,
        time: Tensor,
        *,
        depth: Tensor,
        readings: Tensor,
        film_latent: Tensor,
        film: Tensor | None = None,
        context: Tensor | None = None,
        features: Sequence[Tensor] | None = None,
        mean: Tensor | None = None,
        covariates: Tensor | None = None,
        withheld: Tensor | None = None,
    ) -> Tensor:
        """Predict what the schedule asks for, for N slices.

        Args:
            noisy: noised latents, (N, C, h, w).
            time: (N,), on the schedule's scale.
            depth: (N,) in [0, 1].
            readings: (N, readings_width).
            film_latent: (N, C, h, w).
            film: (N, 1, H, W), encoded to the next two; or else
            context: (N, tokens, context_dim), encoded before: once a volume is enough, and
            features: of the film pyramid, where there is one.
            mean: (N, C, h, w), the mean head's latents, where the UNet was built for them.
            covariates: (N, covariates_width), where the UNet was built for them.
            withheld: (N,), true for items whose film, mean, readings and covariates are to be unknown: zeros in their
                place, for classifier-free guidance (Liu et al., "Zero-1-to-3", section 3.2, does so). Depth stays.

        Returns:
            (N, C, h, w).
        """
        if context is None:
            context = self.film_encoder(film)
        if features is None and self.film_pyramid is not None:
            features = self.film_pyramid(film)
        beside = [film_latent] if self.film_latent else []
        if self.mean:
            if mean is None:
                raise ValueError("`mean` must be given: the denoiser learns what the mean head leaves over.")
            beside.append(mean)
        if withheld is not None:
            known = (~withheld.bool()).to(noisy)
            images = known.view(-1, 1, 1, 1)
            beside, context = [image * images for image in beside], context * known.view(-1, 1, 1)
            features = None if features is None else [image * images for image in features]
            readings = readings * known[:, None]
            covariates = None if covariates is None else covariates * known[:, None]
        conditions = {"depth": depth, "readings": readings, "covariates": covariates, "features": features}
        return self.unet(torch.cat([noisy, *beside], dim=1), time, context, **conditions)
