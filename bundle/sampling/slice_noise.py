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

    `shared` and `correlated` noise at a depth is the same whichever other depths are asked for, so that 200 slices show
    the knee that 50 do.

    Args:
        shape: (C, h, w) of one latent.
        depths_mm: (S,) positions of the slices, mm from the first of the window.
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

    Source:
        A Gaussian process as white noise seen through a kernel: Higdon, "Space and space-time modeling using process
        convolutions", 2002, section 2.
    """
    count = len(depths_mm)
    if correlation == "shared":
        return seeded_noise(shape, seed=seed, sample=sample, draw=draw).expand(count, *shape)
    if correlation not in CORRELATIONS:
        raise ValueError(f"`correlation` must be one of {', '.join(CORRELATIONS)}, got {correlation!r}.")
    if correlation == "independent":
        return seeded_noise((count, *shape), seed=seed, sample=sample, draw=draw)
    if length_mm <= 0:
        raise ValueError(f"`length_mm` must be positive, got {length_mm}.")
    # White noise at knots half a length apart, from three lengths before the window to three behind the last slice;
    # more knots leave the earlier ones' noise as it is. A kernel of squares over length^2 makes one of halved squares.
    step = length_mm / 2
    knots = (np.arange(int(np.ceil(depths_mm.max() / step)) + 13) - 6) * step
    weights = np.exp(-(((depths_mm[:, None] - knots) / length_mm) ** 2))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    noise = seeded_noise((len(knots), *shape), seed=seed, sample=sample, draw=draw)
    return torch.einsum("sk,kchw->schw", torch.from_numpy(weights).float(), noise)
