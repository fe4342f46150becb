"""The mean stage and the residual's targets: what is learned, from what, and that an interruption changes nothing."""

import csv

import pytest
import torch
from monai.engines import SupervisedTrainer
from small_network import network_like, set_zero_layers
from torch.utils.data import DataLoader, DistributedSampler

from bundle.engines import (
    EpochCheckpoints,
    EpochToDataset,
    LatentDataset,
    LossLog,
    MeanDataset,
    MeanLoss,
    MeanPrediction,
    ParameterAverage,
    PrepareDenoising,
    PrepareMean,
    PrepareResidual,
    Residual,
    WindowDataset,
    stack_windows,
)
from bundle.engines.mean_stage import joint_band
from bundle.keys import COVARIATES, FILM, MRI, READINGS


@pytest.fixture
def knees():
    """Four made-up knees on the small network's grid, each the film's pixels times a profile over depth, and noise."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for knee in range(4):
        film = torch.rand(1, 16, 16, generator=generator) * 2 - 1
        profile = torch.linspace(-1, 1, 6)
        noise = 0.1 * torch.randn(1, 16, 16, 6, generator=generator)
        items.append({FILM: film, MRI: film[..., None] * profile + noise, READINGS: torch.eye(66)[knee]})
    return items


@pytest.fixture
def network(small_network):
    return network_like(small_network, mean=True)


def latents_of(knees, network, folder):
    data = [{MRI: f"{knee}.nii.gz"} for knee in range(len(knees))]
    return LatentDataset(knees, network, data=data, folder=str(folder), slices_per_volume=4, seed=7)


def train(network, knees, folder, epochs, **options):
    dataset = MeanDataset(latents_of(knees, network, folder), repeats=2, **options)
    optimizer = torch.optim.AdamW(network.mean_head.parameters(), lr=1e-3)
    average = ParameterAverage(network.mean_head, decay=0.9)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(dataset, batch_size=4, sampler=DistributedSampler(dataset, 1, 0, seed=0)),
        network=MeanPrediction(network),
        optimizer=optimizer,
        loss_function=MeanLoss(band_weight=0.5),
        prepare_batch=PrepareMean(),
        train_handlers=[EpochToDataset(dataset), LossLog(str(folder / "losses.csv"), "mean")],
        decollate=False,
    )
    average.attach(trainer)
    objects = {"trainer": trainer, "network": network.mean_head, "optimizer": optimizer, "average": average}
    EpochCheckpoints(str(folder / "checkpoints"), objects).attach(trainer)
    trainer.run()
    return average


def losses(folder):
    with (folder / "losses.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_an_item_is_all_slices_and_depends_on_seed_epoch_and_index_alone(knees, network, tmp_path):
    dataset = MeanDataset(latents_of(knees, network, tmp_path), repeats=2, band_slices=3, band_from=2)
    assert len(dataset) == 8
    dataset.set_epoch(2)
    item = dataset[5]
    torch.manual_seed(1)
    _ = dataset[1]
    assert all(torch.equal(item[key], value) for key, value in dataset[5].items())
    with torch.no_grad():
        mean, _ = network.autoencoder.encode(knees[2][MRI].permute(3, 0, 1, 2))
    torch.testing.assert_close(item["latent"], mean * network.scale_factor, atol=5e-3, rtol=1e-3)
    torch.testing.assert_close(item["depth"], torch.linspace(0, 1, 6))
    assert item["band"].shape == (3, 1, 6, 16)
    assert torch.equal(item["band"][1], knees[2][MRI][:, 5:11, :, item["positions"][1]])
    dataset.set_epoch(1)
    assert "band" not in dataset[5], "the band comes late"


def test_the_head_starts_at_the_mean_of_the_training_latents(knees, network, tmp_path):
    dataset = MeanDataset(latents_of(knees, network, tmp_path))
    dataset.prepare()
    volumes = torch.stack([knee[MRI].permute(3, 0, 1, 2) for knee in knees])
    with torch.no_grad():
        mean = network.autoencoder.encode(volumes.flatten(0, 1))[0].unflatten(0, (4, 6)).mean(0)
        depth = torch.linspace(0, 1, 6)
        ours = network.mean_latents(knees[0][FILM][None], torch.zeros(1, 66), depth)[0]
    torch.testing.assert_close(ours, mean * network.scale_factor, atol=5e-3, rtol=1e-2)


def test_a_resumed_mean_stage_has_the_losses_of_an_uninterrupted_one(knees, network, tmp_path):
    start = {name: value.clone() for name, value in network.state_dict().items()}
    band = {"band_slices": 2, "band_from": 3}
    torch.manual_seed(1)
    whole = train(network, knees, tmp_path / "whole", 4, **band)
    weights = {name: value.clone() for name, value in network.mean_head.state_dict().items()}
    network.load_state_dict(start)
    torch.manual_seed(2)
    train(network, knees, tmp_path / "parts", 2, **band)
    network.load_state_dict(start)
    resumed = train(network, knees, tmp_path / "parts", 4, **band)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 4
    for name, value in network.mean_head.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert all(torch.equal(resumed.shadow[name], value) for name, value in whole.shadow.items())


def test_the_mean_stage_trains_the_head_and_nothing_else(knees, network, tmp_path):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    train(network, knees, tmp_path, 2, band_slices=2)
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"mean_head", "scale_factor"}
    assert all(parameter.grad is None for parameter in network.autoencoder.parameters())


def test_the_trained_head_beats_the_mean_volume(knees, network, tmp_path):
    """On the knees it was trained on: the head starts at their mean volume, and the first epoch is near it."""
    train(network, knees, tmp_path, 60)
    first, *_, last = map(float, losses(tmp_path))
    assert last < 0.5 * first


def test_the_bands_loss_by_hand_reaches_the_head_through_the_decoder(knees, network, tmp_path):
    """Latents off by 0.5, band off by 2: 0.25 + 0.1 * 2."""
    output = (torch.full((1, 2, 4, 4, 4), 0.5), torch.full((1, 1, 1, 6, 16), 2.0))
    target = (torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 1, 1, 6, 16))
    assert MeanLoss(band_weight=0.1)(output, target).item() == pytest.approx(0.45)
    assert MeanLoss(band_weight=0.1)((output[0], None), (target[0], None)).item() == pytest.approx(0.25)
    with pytest.raises(ValueError, match="`band_weight` must not be negative"):
        MeanLoss(band_weight=-1.0)
    assert [joint_band(torch.zeros(rows, 2)).shape[0] for rows in (16, 64, 128, 256)] == [6, 22, 44, 86]
    dataset = MeanDataset(latents_of(knees, network, tmp_path), band_slices=2)
    dataset.prepare()
    dataset.set_epoch(1)
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    film, (_, band), _, conditions = PrepareMean()(batch)
    set_zero_layers(network.mean_head)
    latents, images = MeanPrediction(network)(film, **conditions)
    chosen = latents[1, conditions["positions"][1, 0]]
    torch.testing.assert_close(
        images[1, 0], joint_band(network.autoencoder.decode(chosen[None] / network.scale_factor))[0]
    )
    (images - band).abs().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.mean_head.parameters())


def test_the_residual_has_unit_variance_and_the_denoiser_is_told_the_mean(knees, network, tmp_path):
    train(network, knees, tmp_path, 2)
    latents = latents_of(knees, network, tmp_path)
    latents.readings_dropout = 0.0
    latents.prepare()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(latents, batch_size=16, shuffle=False),
        network=network.denoiser,
        optimizer=torch.optim.SGD([p for p in network.denoiser.parameters() if p.requires_grad], lr=0.0),
        loss_function=torch.nn.MSELoss(),
        prepare_batch=PrepareDenoising(network.schedule),
        decollate=False,
    )
    Residual(network, latents).attach(trainer)
    trainer.run()
    latents.set_epoch(1)
    batch = next(iter(DataLoader(latents, batch_size=16)))
    noisy, target, _, conditions = trainer.prepare_batch(batch)
    residual = target + batch["noise"]  # the flow's target is clean minus noise
    mean = network.mean_head(batch[FILM], batch[READINGS], batch["depth"][:, None])[:, 0]
    torch.testing.assert_close(conditions["mean"], mean)
    assert not conditions["mean"].requires_grad
    torch.testing.assert_close(residual / network.residual_scale + mean, batch["latent"], atol=1e-4, rtol=0)
    assert noisy.shape == residual.shape
    assert residual.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.1)


def test_a_given_residual_scale_is_kept_and_a_network_without_a_head_is_refused(
    knees, network, small_network, tmp_path
):
    residual = Residual(network, latents_of(knees, network, tmp_path), residual_scale=2.5)
    residual.prepare()
    assert network.residual_scale == 2.5
    with pytest.raises(ValueError, match="mean head"):
        Residual(small_network, latents_of(knees, small_network, tmp_path))
    with pytest.raises(ValueError, match="mean head"):
        MeanDataset(latents_of(knees, small_network, tmp_path))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_windows_means_are_the_heads_with_and_without_readings(knees, network, tmp_path, share):
    """From the cache, and for all slices of a window at once, what the head itself says of film, readings and depth."""
    set_zero_layers(network.mean_head)
    data = [{MRI: f"{knee}.nii.gz"} for knee in range(len(knees))]
    windows = WindowDataset(
        knees, network, data=data, folder=str(tmp_path), window=3, windows_per_volume=2, readings_dropout=share, seed=7
    )
    windows.prepare()
    residual = Residual(network, windows)
    residual.prepare()
    batch = next(iter(DataLoader(windows, batch_size=4, collate_fn=stack_windows)))
    prepare = PrepareResidual(residual, PrepareDenoising(network.schedule))
    mean = prepare(batch)[3]["mean"]
    assert bool(batch[READINGS].any()) == (share == 0)
    expected = network.mean_head(batch[FILM], batch[READINGS], batch["depth"].reshape(-1, 1))[:, 0]
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=0)
    other = network.mean_head(
        batch[FILM], torch.eye(66)[:12] if share else 0 * batch[READINGS], batch["depth"].reshape(-1, 1)
    )
    assert not torch.allclose(mean, other[:, 0], atol=1e-2)


def test_a_stage_that_is_left_out_keeps_what_it_learned(knees, network, tmp_path):
    """Its network and averages come from its newest checkpoint; without one, nothing changes."""
    start = {name: value.clone() for name, value in network.state_dict().items()}
    learned = train(network, knees, tmp_path, 2)
    learned.settle()
    expected = {name: value.clone() for name, value in network.mean_head.state_dict().items()}
    for folder, found in ((tmp_path / "checkpoints", True), (tmp_path / "none", False)):
        network.load_state_dict(start)
        average = ParameterAverage(network.mean_head, decay=0.9)
        EpochCheckpoints(str(folder), {"network": network.mean_head, "average": average}).restore()
        average.settle()
        for name, value in network.mean_head.state_dict().items():
            assert torch.equal(value, (expected if found else start)[name if found else f"mean_head.{name}"]), name


def test_covariates_reach_the_head_in_its_stage_and_in_the_residuals(knees, small_network, tmp_path):
    """Two knees of one film and no readings differ in the mean stage and in the denoiser's targets by covariates."""
    network = network_like(small_network, mean=True, covariates=6)
    set_zero_layers(network.mean_head)
    known = [torch.rand(6, generator=torch.Generator().manual_seed(knee)) for knee in range(2)]
    knees = [knees[0] | {READINGS: torch.zeros(66), COVARIATES: vector} for vector in known]
    dataset = MeanDataset(latents_of(knees, network, tmp_path))
    film, _, _, conditions = PrepareMean()(next(iter(DataLoader(dataset, batch_size=2))))
    assert torch.equal(conditions["covariates"], torch.stack(known))
    means, _ = MeanPrediction(network)(film, **conditions)
    assert not torch.allclose(means[0], means[1], atol=1e-3)
    latents = latents_of(knees, network, tmp_path)
    latents.prepare()
    residual = Residual(network, latents)
    residual.prepare()
    told = residual.means(torch.tensor([0, 1]), torch.tensor([True, True]), conditions["depth"])
    torch.testing.assert_close(told, means, atol=1e-5, rtol=0)
