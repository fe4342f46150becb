"""Noise over the slices of one volume: one for all, one each, or correlated along depth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bundle.sampling.schedules import seeded_noise

CORRELATIONS = ("shared", "independent", "correlated")


def slice_noise(
    shape: tuple[int, int, int],
    depths_mm: np.ndarray,
    *,
    seed: int,
    sample: int = 0,
    draw: int = 0,
    correlation: str = "shared",
    length_mm: float = 6.0,
) -> Tensor:
    """Standard normal noise for the latents of a volume's slices.

    Args:
        shape: (C, h, w) of one latent.
        depths_mm: (S,) positions of the slices, mm.
        seed: seed; the same gives the same noise on any machine.
        sample: index of the sample; another index is another noise.
        draw: number of the noise within the sample, see `seeded_noise`.
        correlation: `shared` (the paper's Algorithm 2), `independent`, or `correlated`: a Gaussian process over
            depth with a squared-exponential kernel.
        length_mm: the kernel's length.

    Returns:
        (S, C, h, w) float32; every element has mean 0 and variance 1.

    Raises:
        ValueError: on an unknown correlation or a length that is not positive.
    """
    count = len(depths_mm)
    if correlation == "shared":
        return seeded_noise(shape, seed=seed, sample=sample, draw=draw).expand(count, *shape)
    if correlation not in CORRELATIONS:
        raise ValueError(f"`correlation` must be one of {', '.join(CORRELATIONS)}, got {correlation!r}.")
    noise = seeded_noise((count, *shape), seed=seed, sample=sample, draw=draw)
    if correlation == "independent":
        return noise
    if length_mm <= 0:
        raise ValueError(f"`length_mm` must be positive, got {length_mm}.")
    apart = (depths_mm[:, None] - depths_mm[None, :]) / length_mm
    # The nugget keeps the factor defined for slices much closer than the length; rows are scaled back to variance 1.
    factor = np.linalg.cholesky(np.exp(-0.5 * apart**2) + 1e-6 * np.eye(count))
    factor /= np.linalg.norm(factor, axis=1, keepdims=True)
    return torch.einsum("st,tchw->schw", torch.from_numpy(factor).float(), noise)
