"""Noise schedules: how a clean latent is noised, what the denoiser is asked, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import torch
from monai.networks.schedulers import DDIMScheduler, RFlowScheduler
from torch import Tensor

from bundle.sampling.solvers import FreshNoise, ddim, dpm_solver, steps_over

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

    def sample(self, predict: Predict, noise: Tensor, *, steps: int, fresh: FreshNoise | None = None) -> Tensor:
        """From noise to a clean latent in `steps` calls of `predict`; `fresh` gives noise to samplers that add it."""


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

    def sample(self, predict: Predict, noise: Tensor, *, steps: int, fresh: FreshNoise | None = None) -> Tensor:
        """Euler's method on `steps` equal intervals; it adds no noise.

        MONAI's own step rounds the next timestep down to a whole number, which 1000 / 6 is not.
        """
        latent = noise
        for step in range(check_steps(steps)):
            time = noise.new_full((noise.shape[0],), self.num_train_timesteps * (1.0 - step / steps))
            latent = latent + predict(latent, time) / steps
        return latent


class DiffusionSchedule:
    """Variance-preserving diffusion over MONAI's alphas, sampled on a list of timesteps of our own.

    MONAI's `set_timesteps` and `step` disagree about the previous timestep at few steps (decision 004), so its
    class gives the alphas and the arithmetic of training alone.

    Args:
        num_train_timesteps: T; 2000 in the paper.
        beta_start: first beta of the square-root-linear schedule.
        beta_end: last beta.
        prediction_type: `epsilon` (the paper), `v_prediction` or `sample`.
        solver: `ddim` (the paper) or `dpm_solver`.
        spacing: of `SPACINGS`: `trailing` starts at pure noise; `leading` is the rule of latent diffusion's code, its
            last step ending at the first alpha-bar; `log_snr` is even in the log of the signal-to-noise ratio, best
            with few steps of `dpm_solver` (zero123.md 4).
        eta: of `ddim`: 0 is deterministic, 1 ancestral.
        zero_terminal_snr: shift and scale the alphas so that the last timestep is pure noise.

    Raises:
        ValueError: on an unknown choice, or one that cannot go with another.

    Source:
        Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021; the paper's Eq. 9. Zero terminal SNR:
        Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", WACV 2024, algorithm 1.
    """

    def __init__(
        self,
        *,
        num_train_timesteps: int = 2000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        prediction_type: str = "epsilon",
        solver: str = "ddim",
        spacing: str = "trailing",
        eta: float = 0.0,
        zero_terminal_snr: bool = False,
    ) -> None:
        _check_choice("solver", solver, SOLVERS)
        _check_choice("spacing", spacing, SPACINGS)
        if not 0 <= eta <= 1 or (eta and solver != "ddim"):
            raise ValueError(f"`eta` must lie in [0, 1], and be 0 unless `solver` is `ddim`; got {eta}.")
        if zero_terminal_snr and prediction_type == "epsilon":
            raise ValueError(
                "`zero_terminal_snr` needs `prediction_type` v_prediction or sample: in pure noise, the noise says "
                "nothing of the latent."
            )
        if zero_terminal_snr and (solver == "dpm_solver" or spacing == "log_snr"):
            raise ValueError("`zero_terminal_snr` goes with `ddim` alone: the log of a ratio of zero is infinite.")
        self.scheduler = DDIMScheduler(
            num_train_timesteps,
            schedule="scaled_linear_beta",
            beta_start=beta_start,
            beta_end=beta_end,
            prediction_type=prediction_type,
            clip_sample=False,
        )
        if zero_terminal_snr:
            self.scheduler.alphas_cumprod = _zero_terminal(self.scheduler.alphas_cumprod)
        self.num_train_timesteps = num_train_timesteps
        self.prediction_type = prediction_type
        self.solver, self.spacing, self.eta = solver, spacing, eta

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
        """`steps` falling timesteps; `log_snr` gives fewer where two would be the same."""
        if check_steps(steps) > self.num_train_timesteps:
            raise ValueError(f"`steps` must be at most {self.num_train_timesteps}, got {steps}.")
        return SPACINGS[self.spacing](self.scheduler.alphas_cumprod, steps)

    def sample(self, predict: Predict, noise: Tensor, *, steps: int, fresh: FreshNoise | None = None) -> Tensor:
        """From noise to a clean latent.

        Args:
            predict: the denoiser.
            noise: (N, C, h, w).
            steps: calls of `predict`.
            fresh: number of the step to standard normal noise of `noise`'s shape; `eta` above 0 needs it.

        Returns:
            (N, C, h, w).
        """
        if self.eta and fresh is None:
            raise ValueError("`fresh` must give each step's noise where `eta` is above 0, got None.")
        alphas = self.scheduler.alphas_cumprod.to(noise)
        last = alphas[0] if self.spacing == "leading" else alphas.new_tensor(1.0)
        way = steps_over(alphas, self.timesteps(steps), last=last)

        def estimate(latent: Tensor, time: int) -> tuple[Tensor, Tensor]:
            prediction = predict(latent, noise.new_full((noise.shape[0],), float(time)))
            return self.estimate(latent, prediction, alphas[time])

        if self.solver == "dpm_solver":
            return dpm_solver(estimate, noise, way)
        return ddim(estimate, noise, way, eta=self.eta, fresh=fresh)

    def estimate(self, latent: Tensor, prediction: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Clean latent and noise that a prediction speaks of, at alpha-bar `alpha`."""
        signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        if self.prediction_type == "epsilon":
            return (latent - sigma * prediction) / signal, prediction
        if self.prediction_type == "sample":
            return prediction, (latent - signal * prediction) / sigma
        return signal * latent - sigma * prediction, signal * prediction + sigma * latent


def _trailing(alphas: Tensor, steps: int) -> list[int]:
    return [round(len(alphas) * (1 - step / steps)) - 1 for step in range(steps)]


def _leading(alphas: Tensor, steps: int) -> list[int]:
    apart = len(alphas) // steps
    # ldm adds 1 to each; where every timestep is taken, the last would leave the schedule
    return [min(1 + step * apart, len(alphas) - 1) for step in range(steps)][::-1]


def _log_snr(alphas: Tensor, steps: int) -> list[int]:
    ratio = (alphas / (1 - alphas)).double().log()
    wanted = torch.linspace(float(ratio[-1]), float(ratio[0]), steps + 1, dtype=torch.float64)[:-1]
    nearest = (ratio[None] - wanted[:, None]).abs().argmin(dim=1)
    return sorted(set(nearest.tolist()), reverse=True)


SOLVERS = ("ddim", "dpm_solver")
SPACINGS: dict[str, Callable[[Tensor, int], list[int]]] = {
    "trailing": _trailing,
    "leading": _leading,
    "log_snr": _log_snr,
}


def _zero_terminal(alphas: Tensor) -> Tensor:
    signal = alphas.double().sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return signal.square().to(alphas)


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}.")


def check_steps(steps: int) -> int:
    """Return `steps`, or raise ValueError: it is a positive whole number."""
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"`steps` must be a positive whole number, got {steps!r}.")
    return steps


def seeded_noise(shape: tuple[int, ...], *, seed: int, sample: int, draw: int = 0) -> Tensor:
    """Standard normal noise that depends on nothing but its arguments; numpy's, since torch's may change.

    Args:
        shape: of the noise.
        seed: of the volume.
        sample: number of the sample, from 0.
        draw: counts the noises of one sample: 0 is where it starts, the others are added on the way.

    Returns:
        float32 noise on the CPU.
    """
    key = [seed, sample, draw] if draw else [seed, sample]
    return torch.from_numpy(np.random.default_rng(key).standard_normal(shape, dtype=np.float32))
