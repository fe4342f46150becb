"""Distillation: a student that does in one step what its teacher does in many."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.engines import PrepareBatch
from torch import Tensor, nn

from bundle.engines.prepare_batch import Prepared, PrepareDenoising
from bundle.networks import FilmToVolume
from bundle.sampling import DiffusionSchedule, FlowSchedule
from bundle.weights import load_weights

MOST_STEPS = 4
Predict = Callable[[Tensor, Tensor], Tensor]
Estimates = tuple[Tensor, Tensor]

# latent, prediction, signal, sigma -> clean latent and noise
ESTIMATES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Estimates]] = {
    "epsilon": lambda latent, said, signal, sigma: ((latent - sigma * said) / signal, said),
    "sample": lambda latent, said, signal, sigma: (said, (latent - signal * said) / sigma),
    "v_prediction": lambda latent, said, signal, sigma: (
        signal * latent - sigma * said,
        signal * said + sigma * latent,
    ),
    "velocity": lambda latent, said, signal, sigma: (latent + sigma * said, latent - signal * said),
}
# clean latent, noise, signal, sigma -> prediction
PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": lambda clean, noise, signal, sigma: noise,
    "sample": lambda clean, noise, signal, sigma: clean,
    "v_prediction": lambda clean, noise, signal, sigma: signal * noise - sigma * clean,
    "velocity": lambda clean, noise, signal, sigma: clean - noise,
}


class Segments:
    """The student's steps over a schedule, and in each the teacher's smaller ones.

    A latent is `signal * clean + sigma * noise` at every time; for a flow the two sum to 1, for a diffusion their
    squares do, and one deterministic step reads the same in both: keep clean and noise, take the next two factors.

    Args:
        schedule: of teacher and student; Euler steps of a flow, or DDIM with eta 0.
        steps: of the student, 1 to 4.
        substeps: of the teacher within each of them.

    Raises:
        ValueError: if a step of the schedule's sampler depends on the steps before it or adds noise.
    """

    def __init__(self, schedule: FlowSchedule | DiffusionSchedule, *, steps: int, substeps: int) -> None:
        if not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"`steps` of a student must lie in 1 to {MOST_STEPS}, got {steps}.")
        if not isinstance(substeps, int) or substeps < 2:
            raise ValueError(f"`substeps` must be at least 2, or there is nothing to learn, got {substeps}.")
        self.schedule, self.kind = schedule, schedule.prediction_type
        fine = substeps * np.arange(steps)[:, None] + np.arange(substeps + 1)
        if isinstance(schedule, FlowSchedule):
            sigma = torch.from_numpy(1 - fine / (steps * substeps))
            self.times = sigma[:, :-1] * schedule.num_train_timesteps
            self.signal, self.sigma = 1 - sigma, sigma
            return
        if schedule.solver != "ddim" or schedule.eta:
            raise ValueError(
                f"`schedule` must sample with `ddim` and eta 0, got {schedule.solver} and eta {schedule.eta}; a step "
                "of the others is not a function of where it starts."
            )
        alphas = schedule.scheduler.alphas_cumprod.double()
        starts = schedule.timesteps(steps)
        ends = [*starts[1:], -1]
        spread = [np.linspace(start, end, substeps + 1)[:-1].round() for start, end in zip(starts, ends, strict=True)]
        self.times = torch.from_numpy(np.stack(spread))
        last = alphas[0] if schedule.spacing == "leading" else alphas.new_tensor(1.0)
        after = torch.stack([*(alphas[start] for start in starts[1:]), last])
        levels = torch.cat([alphas[self.times.long()], after[:, None]], dim=1)
        self.signal, self.sigma = levels.sqrt(), (1 - levels).sqrt()

    def of(self, time: Tensor) -> Tensor:
        """Segment of each training time (N,), uniform where `time` is drawn as the schedule draws it."""
        count, total = len(self.times), self.schedule.num_train_timesteps
        share = time.double() / total
        if isinstance(self.schedule, FlowSchedule):
            share = torch.special.ndtr((torch.logit(share) - self.schedule.time_mean) / self.schedule.time_sd)
        return (count * (1 - share)).long().clamp(0, count - 1)

    def land(self, predict: Predict, latent: Tensor, segment: Tensor) -> Tensor:
        """Where the teacher's small steps take latents (N, C, h, w) by the end of their segments (N,)."""
        for step in range(self.times.shape[1]):
            said = predict(latent, self._of(self.times[:, step], segment, latent).flatten())
            signal, sigma, next_signal, next_sigma = self._factors(segment, step, step + 1, latent)
            clean, noise = ESTIMATES[self.kind](latent, said, signal, sigma)
            latent = next_signal * clean + next_sigma * noise
        return latent

    def target(self, latent: Tensor, landed: Tensor, segment: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction that takes a student there in one step, and how far a prediction's unit moves the landing.

        Source:
            Salimans, Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022, algorithm 2.
        """
        signal, sigma, next_signal, next_sigma = self._factors(segment, 0, -1, latent)
        clean = (landed - next_sigma / sigma * latent) / (next_signal - next_sigma / sigma * signal)
        noise = (latent - signal * clean) / sigma
        turn = next_signal * sigma - next_sigma * signal
        divide = {"epsilon": signal, "sample": sigma}.get(self.kind, torch.ones_like(sigma))
        return PREDICTIONS[self.kind](clean, noise, signal, sigma), turn / divide

    def _factors(self, segment: Tensor, here: int, there: int, like: Tensor) -> list[Tensor]:
        tables = (self.signal[:, here], self.sigma[:, here], self.signal[:, there], self.sigma[:, there])
        return [self._of(table, segment, like) for table in tables]

    def _of(self, table: Tensor, segment: Tensor, like: Tensor) -> Tensor:
        return table.to(like)[segment].view(-1, 1, 1, 1)


class PrepareDistilling(PrepareBatch):
    """From a batch to the latents at the student's steps and what the teacher makes of them.

    Args:
        teacher: the frozen denoiser.
        schedule: of both.
        steps: of the student.
        substeps: of the teacher in each of the student's.
    """

    def __init__(
        self, teacher: nn.Module, schedule: FlowSchedule | DiffusionSchedule, *, steps: int, substeps: int
    ) -> None:
        self.teacher, self.schedule = teacher, schedule
        self.segments = Segments(schedule, steps=steps, substeps=substeps)
        self.denoising = PrepareDenoising(schedule)

    def __call__(self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **_: Any) -> Prepared:
        """Items of `LatentDataset` or `WindowDataset`; the label is the target and the scale of its errors."""
        segment = self.segments.of(batchdata["time"]).to(device or batchdata["time"].device)
        starts = self.segments.times[:, 0].float()
        data = {**batchdata, "time": starts[segment.cpu()]}
        latent, _target, _args, conditions = self.denoising(data, device, non_blocking)
        told = {name: value for name, value in conditions.items() if name != "time"}
        with torch.no_grad():
            landed = self.segments.land(lambda noisy, time: self.teacher(noisy, time, **told), latent, segment)
            target = self.segments.target(latent, landed, segment)
        return latent, target, (), conditions  # type: ignore[return-value]


class LandingLoss(nn.Module):
    """Mean squared distance between where the student's step lands and where the teacher's steps did."""

    def forward(self, prediction: Tensor, label: tuple[Tensor, Tensor]) -> Tensor:
        """Prediction (N, C, h, w) against the target and scale of `Segments.target`."""
        target, scale = label
        return ((prediction - target) * scale).square().mean()


def teacher_of(network: FilmToVolume, path: str) -> nn.Module:
    """The denoiser of a weights file, in a frozen copy of the student's network.

    Args:
        network: the student, built as the teacher was.
        path: the teacher's weights.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another network.
    """
    teacher = copy.deepcopy(network)
    load_weights(teacher, path)
    return teacher.denoiser.requires_grad_(False)
