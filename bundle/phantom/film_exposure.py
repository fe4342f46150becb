"""From path lengths to stored pixels: polychromatic beam, scatter, blur, photons, exposure control, display."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from bundle.phantom.tissues import CORTICAL_PER_MM, LEAN_PER_MM, SPECTRA
from bundle.phantom.worlds import World

BITS = 12
_SCATTER_MM = 35.0
_EQUALISE, _EQUALISE_MM = 0.4, 25.0
"""Share of the slow part of the density that processing takes off, so that thigh and shin fit one window; its scale."""
_GAMMA, _MIDDLE = 4.0, 0.55
"""Slope and middle of the display's sigmoid, on the window from 0 to 1."""


def primary(lean: Tensor, mineral: Tensor, kv: int) -> Tensor:
    """Share of the beam's energy that passes: Beer-Lambert in the bins of the tube's spectrum.

    Args:
        lean: path through lean tissue, (H, W), mm.
        mineral: path through cortical bone, (H, W), mm.
        kv: one of `tissues.SPECTRA`.

    Returns:
        (H, W), 0 to 1.
    """
    passed = torch.zeros_like(lean)
    for share, mu_lean, mu_cortical in zip(SPECTRA[kv], LEAN_PER_MM, CORTICAL_PER_MM, strict=True):
        if share:
            passed += share * torch.exp(-(mu_lean * lean + mu_cortical * mineral))
    return passed


def detect(
    passed: Tensor, spacing_mm: float, world: World, rng: np.random.Generator, *, ignored: Tensor | None = None
) -> np.ndarray:
    """Scatter, blur, photons, logarithm, and the window that exposure control and reader's display choose.

    Args:
        passed: primary share, (H, W).
        spacing_mm: detector pixel.
        world: photons, scatter and blur of the place.
        rng: of the photons.
        ignored: (H, W) bool, what neither exposure control nor processing regards: metal, lead, unexposed border.

    Returns:
        (H, W) uint16 of 12 bits, bone bright.
    """
    rows, columns = passed.shape
    coarse = max(round(6.4 / spacing_mm), 1)
    small = _shrink(passed, coarse)
    small = _gaussian(small, _SCATTER_MM / (coarse * spacing_mm))
    # In air the scatter comes from the limb beside it: bound it by what the limb itself lets through.
    haze = world.film_scatter * small.clamp(max=0.25)
    haze = _enlarge(haze, (rows, columns))
    energy = passed + haze
    if spacing_mm < 1:
        energy = _gaussian(energy, max(world.film_blur_mm / spacing_mm, 0.3))
    image = energy.numpy().astype(np.float64)
    regarded = np.ones(image.shape, dtype=bool) if ignored is None else ~ignored.numpy()
    limb = (image < 0.45) & regarded
    middle = np.median(image[limb]) if limb.any() else 0.05
    photons = world.film_photons * (spacing_mm / 0.4) ** 2 / middle
    counts = np.maximum(rng.poisson(image * photons), 1) / photons
    density = _equalise(-np.log(counts), regarded, coarse, spacing_mm)
    low, high = np.percentile(density[limb], [1.0, 99.9]) if limb.any() else (0.0, 5.0)
    level = (density - low) / (high - low)
    toe, shoulder = (1 / (1 + np.exp(-_GAMMA * (end - _MIDDLE))) for end in (-0.05, 1.02))
    display = 1 / (1 + np.exp(-_GAMMA * (level - _MIDDLE)))
    scaled = np.clip((display - toe) / (shoulder - toe), 0, 1)
    return np.round(scaled * (2**BITS - 1)).astype(np.uint16)


def _shrink(image: Tensor, coarse: int) -> Tensor:
    rows, columns = image.shape
    size = (max(rows // coarse, 1), max(columns // coarse, 1))
    return interpolate(image[None, None], size=size, mode="area")[0, 0]


def _enlarge(image: Tensor, shape: tuple[int, int]) -> Tensor:
    return interpolate(image[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]


def _gaussian(image: Tensor, sigma: float) -> Tensor:
    """Blur by `sigma` pixels, edges replicated; (H, W)."""
    reach = max(math.ceil(3 * sigma), 1)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = kernel / kernel.sum()
    image = image[None, None]
    image = conv2d(pad(image, (0, 0, reach, reach), mode="replicate"), kernel[None, None, :, None])
    return conv2d(pad(image, (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None, :])[0, 0]


def _equalise(density: np.ndarray, regarded: np.ndarray, coarse: int, spacing_mm: float) -> np.ndarray:
    """Compress the dynamic range as a film's processing does: less of what varies slowly, edges as they are."""
    weight = torch.from_numpy(regarded.astype(np.float32))
    image = torch.from_numpy(np.maximum(density, 0).astype(np.float32)) * weight
    sigma = _EQUALISE_MM / (coarse * spacing_mm)
    # Over the regarded pixels alone: a border or an implant would else darken what lies beside it.
    slow = _gaussian(_shrink(image, coarse), sigma) / _gaussian(_shrink(weight, coarse), sigma).clamp(min=1e-3)
    return density - _EQUALISE * _enlarge(slow, density.shape).numpy().astype(np.float64)
