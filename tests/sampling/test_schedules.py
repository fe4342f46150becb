"""Schedules: their arithmetic by hand, and samplers against cases whose answer is known."""

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler

from bundle.sampling import DiffusionSchedule, FlowSchedule, seeded_noise, slice_noise

SCHEDULES = {
    "flow": FlowSchedule(),
    "epsilon": DiffusionSchedule(num_train_timesteps=1000),
    "v": DiffusionSchedule(num_train_timesteps=1000, prediction_type="v_prediction"),
    "sample": DiffusionSchedule(num_train_timesteps=1000, prediction_type="sample"),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_exact_predictor_leads_back_to_the_one_clean_latent(name):
    """Data of a single point: the exact prediction is known in closed form, and any step count must end there."""
    schedule = SCHEDULES[name]
    clean = torch.tensor([0.7, -1.2]).view(1, 2, 1, 1)

    def predict(latent, time):
        # the noise that, mixed with the clean latent, gives `latent`
        if name == "flow":
            share = time.view(-1, 1, 1, 1) / 1000
            noise = (latent - (1 - share) * clean) / share
        else:
            alpha = schedule.scheduler.alphas_cumprod[time.long()].view(-1, 1, 1, 1)
            noise = (latent - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return schedule.target(clean.expand_as(latent), noise, time)

    noise = torch.randn(1, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    for steps in (1, 3, 6, 8):
        torch.testing.assert_close(schedule.sample(predict, noise, steps=steps), clean, atol=2e-4, rtol=0)


def test_flow_mixes_linearly_and_asks_for_the_difference():
    clean, noise, time = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -1.0), torch.tensor([250.0])
    assert SCHEDULES["flow"].add_noise(clean, noise, time).item() == pytest.approx(0.75 * 2 - 0.25)
    assert SCHEDULES["flow"].target(clean, noise, time).item() == pytest.approx(3.0)


def test_one_ddim_step_equals_monais_at_the_same_timestep():
    """MONAI's step and ours agree where its previous timestep is the next entry of our list: 1000 in 10 steps."""
    schedule = SCHEDULES["epsilon"]
    monai = DDIMScheduler(1000, schedule="scaled_linear_beta", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    monai.set_timesteps(10)
    latent = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    expected = latent
    for time in schedule.timesteps(10):
        expected = monai.step(0.3 * expected, time, expected)[0]
    result = schedule.sample(lambda x, t: 0.3 * x, latent, steps=10)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_training_times_are_logit_normal():
    rng = np.random.default_rng(0)
    times = np.array([FlowSchedule(time_mean=0.5, time_sd=0.8).draw_time(rng) for _ in range(4000)]) / 1000
    logits = np.log(times / (1 - times))
    assert logits.mean() == pytest.approx(0.5, abs=0.05)
    assert logits.std() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("steps", [0, -1, 2.0])
def test_a_step_count_that_is_not_positive_and_whole_is_refused(steps):
    with pytest.raises(ValueError, match="steps"):
        FlowSchedule().sample(lambda x, t: x, torch.zeros(1, 1, 2, 2), steps=steps)


def test_noise_is_the_seeds_and_nothing_elses():
    torch.manual_seed(5)
    first = seeded_noise((2, 3), seed=1, sample=0)
    torch.manual_seed(6)
    torch.testing.assert_close(first, seeded_noise((2, 3), seed=1, sample=0), rtol=0, atol=0)
    assert not torch.equal(first, seeded_noise((2, 3), seed=1, sample=1))
    assert not torch.equal(first, seeded_noise((2, 3), seed=2, sample=0))


def test_slice_noise_has_unit_variance_and_the_kernels_correlation():
    """At 1.5 mm and a length of 3 mm neighbours correlate by exp(-1/8) = 0.882."""
    positions = np.arange(40) * 1.5
    noise = slice_noise((4, 32, 32), positions, seed=0, correlation="correlated", length_mm=3.0).flatten(1)
    assert noise.var(dim=1).mean().item() == pytest.approx(1.0, abs=0.02)
    neighbours = (noise[1:] * noise[:-1]).mean(1) / (noise[1:].std(1) * noise[:-1].std(1))
    assert neighbours.mean().item() == pytest.approx(np.exp(-1 / 8), abs=0.01)
    shared = slice_noise((4, 8, 8), positions, seed=0)
    assert torch.equal(shared[0], shared[-1])
    independent = slice_noise((4, 32, 32), positions, seed=0, correlation="independent").flatten(1)
    assert abs((independent[1:] * independent[:-1]).mean().item()) < 0.02


@pytest.mark.parametrize("count", [30, 50, 200, 500])
def test_the_length_of_correlated_noise_is_in_millimetres_however_many_slices(count):
    """A volume of 73.5 mm: at 6 mm apart the kernel of 6 mm is exp(-1/2) = 0.607, at 12 mm exp(-2) = 0.135."""
    positions = np.linspace(0.0, 73.5, count)
    noise = slice_noise((4, 24, 24), positions, seed=0, correlation="correlated", length_mm=6.0).flatten(1)
    assert noise.isfinite().all()
    assert noise.var(dim=1).mean().item() == pytest.approx(1.0, abs=0.05)
    correlation = np.corrcoef(noise.numpy())
    for apart in (6.0, 12.0):
        steps = round(apart / (positions[1] - positions[0]))
        exact = np.exp(-0.5 * (steps * (positions[1] - positions[0]) / 6.0) ** 2)
        assert np.diagonal(correlation, steps).mean() == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("correlation", ["shared", "correlated"])
def test_noise_at_a_depth_does_not_depend_on_the_other_depths(correlation):
    few, many = (np.linspace(0, 73.5, count) for count in (50, 197))
    first, second = (slice_noise((2, 4, 4), at, seed=3, correlation=correlation) for at in (few, many))
    torch.testing.assert_close(first, second[::4], atol=1e-5, rtol=0)
    alone = slice_noise((2, 4, 4), few[7:9], seed=3, correlation=correlation)
    torch.testing.assert_close(alone, first[7:9], atol=1e-5, rtol=0)


def test_a_volumes_correlated_noise_is_given_millimetres(small_network, monkeypatch):
    """Six slices of the small grid span 5 x 12.5 mm; so do 31 of them."""
    given = []

    def record(shape, positions, **options):
        given.append((positions, options["length_mm"]))
        return slice_noise(shape, positions, **options)

    monkeypatch.setattr("bundle.networks.generator.slice_noise", record)
    small_network.noise_correlation, small_network.noise_length_mm = "correlated", 7.0
    for count in (6, 31):
        small_network(torch.zeros(1, 1, 16, 16), slices=count, steps=1)
    for (positions, length), count in zip(given, (6, 31), strict=True):
        np.testing.assert_allclose(positions, np.linspace(0.0, 62.5, count), atol=1e-9)
        assert length == 7.0
