"""Noise schedules: how a clean latent is noised, what the denoiser is asked, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from monai.networks.schedulers import DDIMScheduler, RFlowScheduler
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy latent, time of each item) -> prediction."""


class NoiseSchedule(Protocol):
    """What training and sampling ask of a schedule; `time` is (N,), on the scale that the denoiser embeds."""

    def draw_time(self, rng: np.random.Generator) -> float:
        """One training time."""

    def add_noise(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The noised latent at `time`."""

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the denoiser is to predict."""

    def sample(self, predict: Predict, noise: Tensor, *, steps: int) -> Tensor:
        """From noise to a clean latent in `steps` calls of `predict`."""


class FlowSchedule:
    """Rectified flow: a straight path from noise to latent, whose velocity is predicted.

    Args:
        num_train_timesteps: the time of pure noise, in the units that the denoiser embeds.
        time_mean: mean of the logit-normal training times; above 0 favours noise.
        time_sd: its standard deviation.

    Source:
        Liu, Gong, Liu, "Flow Straight and Fast", ICLR 2023; logit-normal times: Esser et al., "Scaling Rectified
        Flow Transformers", ICML 2024, section 3.1. Velocity is latent minus noise, as in MONAI.
    """

    prediction_type = "velocity"

    def __init__(self, *, num_train_timesteps: int = 1000, time_mean: float = 0.0, time_sd: float = 1.0) -> None:
        self.scheduler = RFlowScheduler(num_train_timesteps, use_discrete_timesteps=False)
        self.num_train_timesteps = num_train_timesteps
        self.time_mean, self.time_sd = time_mean, time_sd

    def draw_time(self, rng: np.random.Generator) -> float:
        """A logit-normal time in (0, `num_train_timesteps`)."""
        return float(self.num_train_timesteps / (1.0 + np.exp(-rng.normal(self.time_mean, self.time_sd))))

    def add_noise(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Clean latent and noise, mixed linearly in time."""
        return self.scheduler.add_noise(clean, noise, time)

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The velocity: it does not depend on time."""
        return clean - noise

    def sample(self, predict: Predict, noise: Tensor, *, steps: int) -> Tensor:
        """Euler's method on `steps` equal intervals.

        MONAI's own step rounds the next timestep down to a whole number, which 1000 / 6 is not.
        """
        latent = noise
        for step in range(check_steps(steps)):
            time = noise.new_full((noise.shape[0],), self.num_train_timesteps * (1.0 - step / steps))
            latent = latent + predict(latent, time) / steps
        return latent


class DiffusionSchedule:
    """Variance-preserving diffusion over MONAI's alphas, sampled by DDIM on a list of timesteps of our own.

    MONAI's `set_timesteps` and `step` disagree about the previous timestep at few steps (decision 004), so its
    class gives the alphas and the arithmetic of training alone.

    Args:
        num_train_timesteps: T; 2000 in the paper.
        beta_start: first beta of the square-root-linear schedule.
        beta_end: last beta.
        prediction_type: `epsilon` (the paper), `v_prediction` or `sample`.

    Source:
        Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, Eq. 12 with eta 0; the paper's Eq. 9.
    """

    def __init__(
        self,
        *,
        num_train_timesteps: int = 2000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        prediction_type: str = "epsilon",
    ) -> None:
        self.scheduler = DDIMScheduler(
            num_train_timesteps,
            schedule="scaled_linear_beta",
            beta_start=beta_start,
            beta_end=beta_end,
            prediction_type=prediction_type,
            clip_sample=False,
        )
        self.num_train_timesteps = num_train_timesteps
        self.prediction_type = prediction_type

    def draw_time(self, rng: np.random.Generator) -> float:
        """A uniform whole timestep."""
        return float(rng.integers(self.num_train_timesteps))

    def add_noise(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Eq. 4 of Ho et al. 2020."""
        return self.scheduler.add_noise(clean, noise, time.long())

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The noise, the clean latent, or v of Salimans and Ho 2022."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return clean
        return self.scheduler.get_velocity(clean, noise, time.long())

    def timesteps(self, steps: int) -> list[int]:
        """`steps` timesteps from T - 1 downwards, evenly spaced ("trailing": the first is pure noise)."""
        if check_steps(steps) > self.num_train_timesteps:
            raise ValueError(f"`steps` must be at most {self.num_train_timesteps}, got {steps}.")
        return [round(self.num_train_timesteps * (1 - step / steps)) - 1 for step in range(steps)]

    def sample(self, predict: Predict, noise: Tensor, *, steps: int) -> Tensor:
        """DDIM with eta 0; the last step ends at alpha-bar 1."""
        alphas = self.scheduler.alphas_cumprod.to(noise)
        latent, times = noise, self.timesteps(steps)
        for time, after in zip(times, [*times[1:], None], strict=True):
            prediction = predict(latent, noise.new_full((noise.shape[0],), float(time)))
            signal, sigma = alphas[time].sqrt(), (1 - alphas[time]).sqrt()
            if self.prediction_type == "epsilon":
                clean, epsilon = (latent - sigma * prediction) / signal, prediction
            elif self.prediction_type == "sample":
                clean, epsilon = prediction, (latent - signal * prediction) / sigma
            else:
                clean, epsilon = signal * latent - sigma * prediction, signal * prediction + sigma * latent
            ahead = alphas.new_tensor(1.0) if after is None else alphas[after]
            latent = ahead.sqrt() * clean + (1 - ahead).sqrt() * epsilon
        return latent


def check_steps(steps: int) -> int:
    """Return `steps`, or raise ValueError: it is a positive whole number."""
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"`steps` must be a positive whole number, got {steps!r}.")
    return steps


def seeded_noise(shape: tuple[int, ...], *, seed: int, sample: int) -> Tensor:
    """Standard normal noise that depends on nothing but its arguments; numpy's, since torch's may change."""
    return torch.from_numpy(np.random.default_rng([seed, sample]).standard_normal(shape, dtype=np.float32))
