"""Classifier-free guidance: away from what the denoiser says without its conditions."""

from __future__ import annotations

from torch import Tensor

from bundle.sampling.schedules import Predict


def guided(conditional: Predict, unconditional: Predict, *, scale: float) -> Predict:
    """A prediction that follows the conditions `scale` times as far.

    Args:
        conditional: the denoiser with its conditions.
        unconditional: the denoiser without them.
        scale: 1 is the conditional denoiser itself, called alone; above 1 exaggerates the conditions.

    Source:
        Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022, Eq. 6 with w = scale - 1.
    """
    if scale == 1:
        return conditional

    def predict(latent: Tensor, time: Tensor) -> Tensor:
        without = unconditional(latent, time)
        return without + scale * (conditional(latent, time) - without)

    return predict
