"""Distillation: the student's one step is the teacher's many, for every kind of prediction; and it is learnt."""

import numpy as np
import pytest
import torch
from torch import nn

from bundle.engines import LandingLoss, Segments
from bundle.sampling import DiffusionSchedule, FlowSchedule

SCHEDULES = {
    "flow": FlowSchedule(),
    "epsilon": DiffusionSchedule(num_train_timesteps=200),
    "v": DiffusionSchedule(num_train_timesteps=200, prediction_type="v_prediction"),
    "sample": DiffusionSchedule(num_train_timesteps=200, prediction_type="sample"),
    "leading": DiffusionSchedule(num_train_timesteps=200, prediction_type="v_prediction", spacing="leading"),
    "zero_snr": DiffusionSchedule(num_train_timesteps=200, prediction_type="v_prediction", zero_terminal_snr=True),
}


def factors(schedule, time):
    """Signal and sigma at a time, from the schedule's own noising of ones and of zeros."""
    one, zero = torch.ones(len(time), 1, 1, 1).double(), torch.zeros(len(time), 1, 1, 1).double()
    return schedule.add_noise(one, zero, time), schedule.add_noise(zero, one, time)


def oracle(schedule):
    """Exact predictions where the data are 2 or -2, each with probability a half, and have a spread of 0.2."""

    def predict(latent, time):
        signal, sigma = factors(schedule, time)
        variance = (0.2 * signal) ** 2 + sigma**2
        centre = 2 * torch.tanh(2 * signal * latent / variance)
        clean = centre + 0.04 * signal / variance * (latent - signal * centre)
        noise = (latent - signal * clean) / sigma.clamp(min=1e-6)
        kinds = {"epsilon": noise, "sample": clean, "v_prediction": signal * noise - sigma * clean}
        return kinds.get(schedule.prediction_type, clean - noise)

    return predict


def noise(count=64, seed=0):
    return torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_student_that_says_the_target_lands_where_the_teacher_does_when_sampled(name, steps):
    """The sampler of inference, given the targets, ends at the teacher's own many-step end."""
    schedule = SCHEDULES[name]
    segments, teacher = Segments(schedule, steps=steps, substeps=10), oracle(schedule)
    starts = segments.times[:, 0]
    latent = noise()
    for number in range(steps):
        latent = segments.land(teacher, latent, torch.full((64,), number))

    def student(noisy, time):
        number = (starts - time[0]).abs().argmin()
        assert (starts[number] - time[0]).abs() < 1e-3, "the sampler stops at the student's times"
        segment = number.expand(len(noisy))
        return segments.target(noisy, segments.land(teacher, noisy, segment), segment)[0]

    torch.testing.assert_close(schedule.sample(student, noise(), steps=steps), latent, atol=1e-4, rtol=1e-4)


def test_the_teachers_steps_are_the_schedules_own():
    """A flow's segments of 5 Euler steps each, end to end, are its sampler's 10."""
    schedule = SCHEDULES["flow"]
    segments, latent = Segments(schedule, steps=2, substeps=5), noise()
    for number in range(2):
        latent = segments.land(oracle(schedule), latent, torch.full((64,), number))
    torch.testing.assert_close(latent, schedule.sample(oracle(schedule), noise(), steps=10))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_scale_is_how_far_an_error_moves_the_landing(name):
    """A prediction off by 0.01 in a step of the sampler, against the target's landing."""
    schedule = SCHEDULES[name]
    segments, teacher = Segments(schedule, steps=1, substeps=4), oracle(schedule)
    segment, start = torch.zeros(64, dtype=torch.long), noise()
    target, scale = segments.target(start, segments.land(teacher, start, segment), segment)
    ends = [schedule.sample(lambda *_, by=by: target + by, start, steps=1) for by in (0.0, 0.01)]
    torch.testing.assert_close(
        (ends[1] - ends[0]).abs(), (0.01 * scale).abs().expand(64, 1, 1, 1), rtol=1e-3, atol=1e-6
    )
    assert LandingLoss()(target + 0.01, (target, scale)).item() == pytest.approx(
        (ends[1] - ends[0]).square().mean().item(), rel=1e-3
    )


@pytest.mark.parametrize("name", ["flow", "epsilon"])
def test_training_times_fall_into_every_segment_equally_often(name):
    rng = np.random.default_rng(0)
    schedule = SCHEDULES[name]
    times = torch.tensor([schedule.draw_time(rng) for _ in range(4000)])
    counts = Segments(schedule, steps=4, substeps=2).of(times).bincount(minlength=4)
    assert counts.min() > 900
    assert counts.max() < 1100


@pytest.mark.parametrize("name", ["flow", "zero_snr"])
def test_a_student_of_two_steps_is_nearer_to_the_teachers_end_than_the_teacher_at_two(name):
    torch.manual_seed(0)
    schedule = SCHEDULES[name]
    teacher, segments = oracle(schedule), Segments(schedule, steps=2, substeps=16)

    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            layers = (nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
            self.layers = nn.Sequential(*layers).double()

        def forward(self, latent, time):
            share = (time / schedule.num_train_timesteps).to(latent)
            told = torch.cat([latent.flatten(1), share[:, None]], dim=1)
            return self.layers(told)[:, :, None, None] + teacher(latent, time)  # starts near the teacher

    student = Student()
    nn.init.zeros_(student.layers[-1].weight)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for step in range(300):
        signs = torch.randint(2, (256, 1, 1, 1)) * 4.0 - 2.0
        clean = (signs + 0.2 * torch.randn(256, 1, 1, 1)).double()
        segment = torch.randint(2, (256,))
        time = segments.times[:, 0][segment]
        latent = schedule.add_noise(clean, noise(256, seed=step + 1), time)
        target = segments.target(latent, segments.land(teacher, latent, segment), segment)
        loss = LandingLoss()(student(latent, time), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    many = schedule.sample(teacher, noise(512), steps=32)
    with torch.no_grad():
        ours = (schedule.sample(student, noise(512), steps=2) - many).square().mean().sqrt()
    theirs = (schedule.sample(teacher, noise(512), steps=2) - many).square().mean().sqrt()
    assert ours < 0.5 * theirs


@pytest.mark.parametrize(
    ("schedule", "steps", "reason"),
    [
        (FlowSchedule(), 5, "steps"),
        (FlowSchedule(), 0, "steps"),
        (DiffusionSchedule(solver="dpm_solver"), 2, "ddim"),
        (DiffusionSchedule(eta=1.0), 2, "eta"),
    ],
)
def test_what_cannot_be_distilled_is_refused(schedule, steps, reason):
    with pytest.raises(ValueError, match=reason):
        Segments(schedule, steps=steps, substeps=4)
