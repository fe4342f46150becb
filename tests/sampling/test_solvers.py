"""Solvers: against MONAI's arithmetic, a written-out formula, and Gaussian data whose exact denoiser is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler

from bundle.sampling import DiffusionSchedule, FlowSchedule, guided, seeded_noise
from bundle.sampling.schedules import SPACINGS

MEAN, SD = 0.5, 0.3
KINDS = ("epsilon", "v_prediction", "sample")


def exact(schedule):
    """The best possible prediction for latents of N(MEAN, SD^2): the posterior mean of what is asked for."""

    def predict(latent, time):
        if schedule.prediction_type == "velocity":
            share = time[0] / schedule.num_train_timesteps
            signal, sigma = 1 - share, share
        else:
            alpha = schedule.scheduler.alphas_cumprod[int(time[0])]
            signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        variance = signal**2 * SD**2 + sigma**2
        clean = MEAN + signal * SD**2 / variance * (latent - signal * MEAN)
        noise = sigma / variance * (latent - signal * MEAN)
        given = {"epsilon": noise, "sample": clean, "v_prediction": signal * noise - sigma * clean}
        return given.get(schedule.prediction_type, clean - noise)

    return predict


def gaussian_noise(count=4096):
    """Quantiles of the normal distribution: their mean and standard deviation are 0 and 1 without chance."""
    share = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return (math.sqrt(2) * torch.erfinv(2 * share - 1)).float().view(count, 1, 1, 1)


CASES = {f"ddim-{kind}": (DiffusionSchedule(num_train_timesteps=1000, prediction_type=kind), 200) for kind in KINDS}
CASES |= {
    f"2m-{kind}": (
        DiffusionSchedule(num_train_timesteps=1000, prediction_type=kind, solver="dpm_solver", spacing="log_snr"),
        20,
    )
    for kind in KINDS
}
CASES["ddim-zero-terminal"] = (
    DiffusionSchedule(num_train_timesteps=1000, prediction_type="v_prediction", zero_terminal_snr=True),
    500,
)
CASES["ancestral"] = (DiffusionSchedule(num_train_timesteps=1000, eta=1.0), 1000)
CASES["flow"] = (FlowSchedule(), 200)


@pytest.mark.parametrize("name", CASES)
def test_the_exact_denoiser_gives_the_datas_mean_and_spread(name):
    """Within 4 %: what is left is the step's length, and the start that is not quite pure noise."""
    schedule, steps = CASES[name]
    noise = gaussian_noise()

    def fresh(number):
        return seeded_noise(tuple(noise.shape), seed=0, sample=0, draw=number + 1)

    result = schedule.sample(exact(schedule), noise, steps=steps, fresh=fresh)
    assert result.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert result.std().item() == pytest.approx(SD, rel=0.04)


def test_ten_steps_of_second_order_beat_twenty_of_ddim():
    """Distance to the exact end of the path: for Gaussian data it keeps the quantile."""
    noise = gaussian_noise()
    first = DiffusionSchedule(num_train_timesteps=1000)
    second = DiffusionSchedule(num_train_timesteps=1000, solver="dpm_solver", spacing="log_snr")
    last = first.scheduler.alphas_cumprod[-1]
    start_sd = (last * SD**2 + 1 - last).sqrt()
    end = MEAN + SD / start_sd * (noise - last.sqrt() * MEAN)

    def error(schedule, steps):
        return (schedule.sample(exact(schedule), noise, steps=steps) - end).square().mean().sqrt().item()

    assert error(second, 10) < 0.5 * error(first, 20)
    assert error(second, 10) < 0.005


def test_second_order_equals_its_algorithm_written_out():
    """Two steps of algorithm 2 by hand, with lambda = log(signal / sigma), then the last one to the clean latent."""
    schedule = DiffusionSchedule(num_train_timesteps=1000, solver="dpm_solver", prediction_type="sample")
    outputs = [torch.tensor([v]).view(1, 1, 1, 1) for v in (0.3, 0.7, -0.2)]
    given = iter(outputs)
    start = torch.tensor([1.5]).view(1, 1, 1, 1)
    result = schedule.sample(lambda x, t: next(given), start, steps=3)
    assert schedule.timesteps(3) == [999, 666, 332]
    assert result.item() == pytest.approx(-0.2), "the last step ends on the last estimate"
    # what the third call was shown shows the second step
    seen, given = [], iter(outputs)
    schedule.sample(lambda x, t: (seen.append(x.item()), next(given))[1], start, steps=3)
    alpha = [float(schedule.scheduler.alphas_cumprod[t]) for t in (999, 666, 332)]
    signal, sigma = [math.sqrt(a) for a in alpha], [math.sqrt(1 - a) for a in alpha]
    lam = [math.log(s / n) for s, n in zip(signal, sigma, strict=True)]
    h = [lam[1] - lam[0], lam[2] - lam[1]]
    x = sigma[1] / sigma[0] * 1.5 - signal[1] * (math.exp(-h[0]) - 1) * 0.3
    assert seen[1] == pytest.approx(x, rel=1e-5)
    r = h[0] / h[1]
    d = (1 + 1 / (2 * r)) * 0.7 - 1 / (2 * r) * 0.3
    x = sigma[2] / sigma[1] * x - signal[2] * (math.exp(-h[1]) - 1) * d
    assert seen[2] == pytest.approx(x, rel=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_is_numerically_monais_where_their_timesteps_agree(kind, eta):
    """1000 in 10 steps, `trailing`: MONAI's previous timestep is the next of the list."""
    ours = DiffusionSchedule(num_train_timesteps=1000, prediction_type=kind, eta=eta)
    theirs = DDIMScheduler(
        1000, schedule="scaled_linear_beta", beta_start=0.00085, beta_end=0.012, prediction_type=kind, clip_sample=False
    )
    theirs.set_timesteps(10)
    start = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    drawn = [torch.randn(start.shape, generator=torch.Generator().manual_seed(n)) for n in range(10)]
    result = ours.sample(lambda x, t: (0.3 * x).sin(), start, steps=10, fresh=lambda number: drawn[number])
    expected = start
    for number, time in enumerate(ours.timesteps(10)):
        generator = torch.Generator().manual_seed(number)
        expected = theirs.step((0.3 * expected).sin(), time, expected, eta=eta, generator=generator)[0]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_beginning():
    plain = DiffusionSchedule(num_train_timesteps=1000, prediction_type="v_prediction")
    zero = DiffusionSchedule(num_train_timesteps=1000, prediction_type="v_prediction", zero_terminal_snr=True)
    alphas, before = zero.scheduler.alphas_cumprod, plain.scheduler.alphas_cumprod
    assert alphas[-1] == 0
    assert alphas[0] == pytest.approx(before[0].item(), abs=1e-6)
    assert (alphas[1:] < alphas[:-1]).all()
    clean, noise, time = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), -2.0), torch.tensor([999.0])
    assert zero.add_noise(clean, noise, time).item() == -2.0
    assert zero.target(clean, noise, time).item() == -1.0, "in pure noise, v is minus the latent"


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 4, 7, 30, 50, 999, 1000])
def test_timesteps_fall_within_the_schedule(spacing, steps):
    times = DiffusionSchedule(num_train_timesteps=1000, spacing=spacing).timesteps(steps)
    assert all(0 <= time < 1000 for time in times)
    assert all(later < earlier for earlier, later in pairwise(times)) or steps >= 999
    assert len(times) == steps or (spacing == "log_snr" and 1 <= len(times) <= steps)


def test_leading_timesteps_are_latent_diffusions():
    """Their code gives 1, 201, ... for 5 steps; for 30 it gives 31 entries, of which the last is left out."""
    schedule = DiffusionSchedule(num_train_timesteps=1000, spacing="leading")
    assert schedule.timesteps(5) == [801, 601, 401, 201, 1]
    assert len(schedule.timesteps(30)) == 30


def test_guidance_extrapolates_and_scale_one_calls_once():
    calls = []

    def constant(value):
        return lambda x, t: (calls.append(value), torch.full_like(x, value))[1]

    x, time = torch.zeros(1, 1, 2, 2), torch.zeros(1)
    assert guided(constant(3.0), constant(1.0), scale=2.5)(x, time).unique().tolist() == [6.0]
    calls.clear()
    guided(constant(3.0), constant(1.0), scale=1)(x, time)
    assert calls == [3.0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"solver": "euler"}, "`solver` must be one of ddim, dpm_solver"),
        ({"spacing": "even"}, "`spacing` must be one of trailing"),
        ({"eta": 1.5}, "`eta` must lie"),
        ({"eta": 0.5, "solver": "dpm_solver"}, "`eta`"),
        ({"zero_terminal_snr": True}, "needs `prediction_type`"),
        ({"zero_terminal_snr": True, "prediction_type": "v_prediction", "solver": "dpm_solver"}, "with `ddim` alone"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        DiffusionSchedule(**options)


def test_noise_on_the_way_must_be_given_and_differs_from_the_start():
    schedule = DiffusionSchedule(num_train_timesteps=1000, eta=1.0)
    with pytest.raises(ValueError, match="`fresh` must give"):
        schedule.sample(lambda x, t: x, torch.zeros(1, 1, 2, 2), steps=2)
    draws = [seeded_noise((3, 3), seed=1, sample=0, draw=draw) for draw in (0, 1, 2)]
    assert torch.equal(draws[0], seeded_noise((3, 3), seed=1, sample=0))
    assert len(np.unique(torch.stack(draws).numpy())) == 27
