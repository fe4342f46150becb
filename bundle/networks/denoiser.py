"""What stage 2 trains: the UNet with its heads, the film's context token and its pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bundle.networks.conditioning import TwoPathUNet, freeze_one_token_attention
from bundle.networks.film_conditioning import film_conditioning as named_conditioning
from bundle.networks.film_edges import ChannelGates
from bundle.networks.film_encoder import FilmEncoder
from bundle.networks.film_pyramid import FilmPyramid


class Denoiser(nn.Module):
    """What stage 2 trains: the UNet with its heads, and the film's context token.

    Args:
        unet: the two-path UNet; its input is the noised latent beside the film's latent and the mean's, as told next.
        film_encoder: gives the context token; None where `film_conditioning` has none, and the context is zero.
        film_pyramid: features of the film for each level of the UNet.
        film_latent: whether the film's latent is among the UNet's input, if `film_conditioning` has it there.
        mean: whether the mean head's latent is.
        film_conditioning: how the film is told, of `FILM_CONDITIONINGS`.

    Raises:
        ValueError: if the UNet's `in_channels` do not hold what they must, or a part does not go with
            `film_conditioning`.
    """

    def __init__(
        self,
        *,
        unet: TwoPathUNet,
        film_encoder: FilmEncoder | None,
        film_pyramid: FilmPyramid | None = None,
        film_latent: bool = True,
        mean: bool = False,
        film_conditioning: str = "paper",
    ) -> None:
        super().__init__()
        told = named_conditioning(film_conditioning)
        if (film_encoder is not None) != told.token:
            raise ValueError(
                f"`film_encoder` must be {'there' if told.token else 'None'} where `film_conditioning` is "
                f"{film_conditioning!r}; the overlays of configs/baselines set both."
            )
        if not told.latents and (film_pyramid is not None or mean):
            raise ValueError(
                "`film_conditioning` 'none' keeps the film from the denoiser, and `film_pyramid` or `mean_head` would "
                "show it; leave them out."
            )
        if told.slice_in_context and unet.mixers is not None:
            raise ValueError("`film_conditioning` 'context' needs slices on their own; leave out `depth_mixing`.")
        latents = told.latents if film_latent else 0
        wanted = unet.out_channels * (1 + latents + mean)
        if unet.in_channels != wanted:
            names = (("the film's", latents > 0), ("its edges'", latents > 1), ("the mean's", mean))
            also = [name for name, there in names if there]
            raise ValueError(
                f"`in_channels` of the UNet must be {wanted}, {unet.out_channels} for each of "
                f"{', '.join(['the noised latent', *also])}; got {unet.in_channels}."
            )
        self.unet = unet
        self.film_encoder = film_encoder
        self.film_pyramid = film_pyramid
        self.film_latent, self.mean = latents > 0, mean
        freeze_one_token_attention(unet)
        self.gates = ChannelGates(unet.out_channels * latents) if latents > 1 else None
        self.slice_projection = None
        if told.slice_in_context:
            # beside the film encoder's projection this is one projection of embedding and index together
            self.slice_projection = nn.Linear(unet.block_out_channels[0], unet.context_dim, bias=False)
            unet.depth_head.requires_grad_(False)  # not called, and distributed training stops on unused parameters

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
        tokens: Tensor | None = None,
        withheld: Tensor | None = None,
    ) -> Tensor:
        """Predict what the schedule asks for, for N slices.

        Args:
            noisy: noised latents, (N, C, h, w).
            time: (N,), on the schedule's scale.
            depth: (N,) in [0, 1].
            readings: (N, readings_width).
            film_latent: (N, C, h, w), or (N, 2 C, h, w) with the edges'.
            film: (N, 1, H, W), encoded to the next two; or else
            context: (N, tokens, context_dim), encoded before: once a volume is enough, and
            features: of the film pyramid, where there is one.
            mean: (N, C, h, w), the mean head's latents, where the UNet was built for them.
            covariates: (N, covariates_width), where the UNet was built for them.
            tokens: (N, k, context_dim), further context beside the film's, where the UNet was built with
                `extra_tokens`.
            withheld: (N,), true for items of which film, mean, readings, covariates and tokens are to be unknown:
                zeros in their place, for classifier-free guidance (Liu et al., "Zero-1-to-3", section 3.2, does so).
                Depth stays.

        Returns:
            (N, C, h, w).
        """
        if context is None:
            seen = noisy if self.film_encoder is None else film
            if seen is None:
                raise ValueError("`film` must be given, or `context`, which is made of it.")
            context = self.token(seen)
        if features is None and self.film_pyramid is not None:
            features = self.film_pyramid(film)
        beside = []
        if self.film_latent:
            beside.append(film_latent if self.gates is None else self.gates(film_latent))
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
        if tokens is not None:
            context = torch.cat([context, tokens if withheld is None else tokens * known.view(-1, 1, 1)], dim=1)
        path_depth: Tensor | None = depth
        if self.slice_projection is not None:
            path_depth = None
            context = context + self.slice_projection(self.unet.depth_code(depth).to(context.dtype))[:, None]
        conditions = {"depth": path_depth, "readings": readings, "covariates": covariates, "features": features}
        return self.unet(torch.cat([noisy, *beside], dim=1), time, context, **conditions)

    def token(self, film: Tensor) -> Tensor:
        """The context of films or their embeddings, (B, 1, context_dim): the film encoder's token, else zeros."""
        if self.film_encoder is not None:
            return self.film_encoder(film)
        return film.new_zeros(len(film), 1, self.unet.context_dim)
