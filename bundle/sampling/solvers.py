"""Ways from noise to a clean latent over a list of timesteps: DDIM, and DPM-Solver++ of second order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Estimate = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(noisy latent, timestep) -> estimates of the clean latent and of the noise in it."""
FreshNoise = Callable[[int], Tensor]
"""Number of the step -> standard normal noise of the latent's shape."""


@dataclass(frozen=True)
class Step:
    """One step's way, in square roots of alpha-bar (`signal`) and of one minus it (`sigma`).

    Args:
        time: timestep that it starts from.
        signal: there; sigma: there.
        next_signal: where it ends; next_sigma: there.
    """

    time: int
    signal: Tensor
    sigma: Tensor
    next_signal: Tensor
    next_sigma: Tensor


def steps_over(alphas: Tensor, times: Sequence[int], *, last: Tensor) -> list[Step]:
    """The steps from each time to the next.

    Args:
        alphas: alpha-bar of every timestep, (T,).
        times: timesteps, falling.
        last: alpha-bar at which the last step ends.
    """
    levels = [*(alphas[time] for time in times), last]
    return [
        Step(time, here.sqrt(), (1 - here).sqrt(), there.sqrt(), (1 - there).sqrt())
        for time, here, there in zip(times, levels[:-1], levels[1:], strict=True)
    ]


def ddim(
    estimate: Estimate, noise: Tensor, steps: Sequence[Step], *, eta: float = 0.0, fresh: FreshNoise | None = None
) -> Tensor:
    """DDIM.

    Args:
        estimate: the denoiser's estimates.
        noise: start, (N, C, h, w).
        steps: of `steps_over`.
        eta: 0 is deterministic, 1 is ancestral sampling.
        fresh: the noise of each step; needed where `eta` is above 0.

    Source:
        Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, Eqs. 12 and 16.
    """
    latent = noise
    for number, step in enumerate(steps):
        clean, epsilon = estimate(latent, step.time)
        if not eta or fresh is None:
            latent = step.next_signal * clean + step.next_sigma * epsilon
            continue
        ratio = step.signal / step.next_signal
        drawn = eta * step.next_sigma / step.sigma * (1 - ratio.square()).clamp(min=0).sqrt()
        kept = (step.next_sigma.square() - drawn.square()).clamp(min=0).sqrt()
        latent = step.next_signal * clean + kept * epsilon + drawn * fresh(number)
    return latent


def dpm_solver(estimate: Estimate, noise: Tensor, steps: Sequence[Step]) -> Tensor:
    """DPM-Solver++(2M): each step reuses the estimate before; the first and the last are of first order.

    Args:
        estimate: the denoiser's estimates.
        noise: start, (N, C, h, w).
        steps: of `steps_over`.

    Source:
        Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022,
        algorithm 2; first order at the ends, where half the log of the signal-to-noise ratio is infinite.
    """
    latent = noise
    before: tuple[Tensor, Tensor] | None = None  # estimate and length of the last step
    for step in steps:
        clean, _ = estimate(latent, step.time)
        here, there = _half_log_snr(step.signal, step.sigma), _half_log_snr(step.next_signal, step.next_sigma)
        length = there - here
        direction = clean
        if before is not None and bool(length.isfinite()) and bool(before[1].isfinite()):
            ratio = before[1] / length
            direction = clean + (clean - before[0]) / (2 * ratio)
        latent = step.next_sigma / step.sigma * latent - step.next_signal * torch.expm1(-length) * direction
        before = clean, length
    return latent


def _half_log_snr(signal: Tensor, sigma: Tensor) -> Tensor:
    return (signal / sigma).log()
