"""The ways in which the denoiser can be told of the film: the model's own, and those of the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FilmConditioning:
    """What reaches the denoiser.

    Args:
        latents: latents beside the noised one: none, the film's, or the film's and its edges'.
        token: whether the film encoder's token is the context; without it the context is zero.
        slice_in_context: whether depth is told in the context, in place of the down path.
    """

    latents: int
    token: bool
    slice_in_context: bool = False


FILM_CONDITIONINGS: Mapping[str, FilmConditioning] = {
    "paper": FilmConditioning(latents=1, token=True),
    "none": FilmConditioning(latents=0, token=False),
    "concat": FilmConditioning(latents=1, token=False),
    "edges": FilmConditioning(latents=2, token=False),
    "context": FilmConditioning(latents=1, token=True, slice_in_context=True),
}
"""`paper` is the model's: the film's latent and token, depth in the down path. `none` (latent diffusion that does not
see the film), `concat` (its fair twin), `edges` (after CoLa-Diff) and `context` (after X-Diffusion) are baselines'."""


def film_conditioning(name: str) -> FilmConditioning:
    """The conditioning of that name, or ValueError naming those that exist."""
    if name not in FILM_CONDITIONINGS:
        raise ValueError(f"`film_conditioning` must be one of {', '.join(FILM_CONDITIONINGS)}, got {name!r}.")
    return FILM_CONDITIONINGS[name]
