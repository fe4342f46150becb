"""Parts of training: what is drawn is a function of (seed, epoch, item), and an interruption changes nothing."""

import csv
from pathlib import Path

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch.utils.data import DataLoader, DistributedSampler

from bundle.engines import (
    AutoencoderLoss,
    EpochCheckpoints,
    EpochToDataset,
    LatentDataset,
    LossLog,
    ParameterAverage,
    PrepareDenoising,
    SliceDataset,
    finish,
    warm_up_then_cosine,
)
from bundle.engines.checkpoints import newest_checkpoint
from bundle.keys import FILM, MRI
from bundle.networks.identity import text_of
from bundle.weights import load_start, read_weights, save_weights


def latent_dataset(knees, network, folder, **options):
    data = [{MRI: f"{knee}.nii.gz"} for knee in range(len(knees))]
    return LatentDataset(knees, network, data=data, folder=str(folder), slices_per_volume=4, seed=7, **options)


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_an_item_depends_on_seed_epoch_and_index_alone(knees, small_network, tmp_path):
    dataset = latent_dataset(knees, small_network, tmp_path)
    dataset.set_epoch(1)
    first = dataset[5]
    torch.manual_seed(1)
    _ = dataset[2]
    assert same(first, dataset[5])
    dataset.set_epoch(2)
    assert not torch.equal(first["noise"], dataset[5]["noise"])


def test_latents_have_unit_variance_and_are_encoded_once(knees, small_network, tmp_path):
    dataset = latent_dataset(knees, small_network, tmp_path)
    dataset.prepare()
    means = torch.from_numpy(dataset.moments[:, :, :4].astype("float32")) * small_network.scale_factor
    assert means.std().item() == pytest.approx(1.0, abs=1e-3)
    files = list(tmp_path.glob("latents-*.npy"))
    assert len(files) == 1
    stamp = files[0].stat().st_mtime_ns
    latent_dataset(knees, small_network, tmp_path).prepare()
    assert files[0].stat().st_mtime_ns == stamp
    small_network.autoencoder.encoder.blocks[0].conv.bias.data += 1
    latent_dataset(knees, small_network, tmp_path).prepare()
    assert len(list(tmp_path.glob("latents-*.npy"))) == 2, "another autoencoder must not find the old latents"


def test_the_latent_of_an_item_is_the_autoencoders_of_that_slice(knees, small_network, tmp_path):
    dataset = latent_dataset(knees, small_network, tmp_path)
    dataset.set_epoch(3)
    item = dataset[9]
    knee, position = 2, round(item["depth"].item() * 5)
    with torch.no_grad():
        mean, sd = small_network.autoencoder.encode(knees[knee][MRI][..., position][None])
    deviation = (item["latent"] / small_network.scale_factor - mean[0]) / sd[0]
    assert abs(deviation.std().item() - 1) < 0.4
    assert torch.equal(item[FILM], knees[knee][FILM])


def test_patches_come_from_slices_and_films_and_stay_inside(knees):
    dataset = SliceDataset(
        knees, patch_size=8, latent_channels=4, downsampling=4, patches_per_volume=30, film_share=0.5
    )
    assert len(dataset) == 90
    films = 0
    for index in range(0, 90, 3):
        patch = dataset[index]["image"]
        assert patch.shape == (1, 8, 8)
        film = knees[index // 30][FILM][0]
        windows = film.unfold(0, 8, 1).unfold(1, 8, 1)
        films += bool((windows == patch[0]).all(-1).all(-1).any())
    assert 8 <= films <= 22


def train(network, knees, folder, epochs):
    dataset = latent_dataset(knees, network, folder)
    sampler = DistributedSampler(dataset, num_replicas=1, rank=0, seed=0)
    optimizer = torch.optim.AdamW([p for p in network.denoiser.parameters() if p.requires_grad], lr=1e-3)
    average = ParameterAverage(network.denoiser, decay=0.9)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(dataset, batch_size=4, sampler=sampler),
        network=network.denoiser,
        optimizer=optimizer,
        loss_function=torch.nn.MSELoss(),
        prepare_batch=PrepareDenoising(network.schedule),
        train_handlers=[EpochToDataset(dataset), average, LossLog(str(folder / "losses.csv"), "diffusion")],
        decollate=False,
    )
    objects = {"trainer": trainer, "network": network.denoiser, "optimizer": optimizer, "average": average}
    EpochCheckpoints(str(folder / "checkpoints"), objects).attach(trainer)
    trainer.run()
    return average


def losses(folder):
    with (folder / "losses.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_a_resumed_training_has_the_losses_of_an_uninterrupted_one(knees, small_network, tmp_path):
    start = {name: value.clone() for name, value in small_network.state_dict().items()}
    torch.manual_seed(1)
    whole = train(small_network, knees, tmp_path / "whole", 4)
    weights = {name: value.clone() for name, value in small_network.state_dict().items()}
    small_network.load_state_dict(start)
    torch.manual_seed(2)
    train(small_network, knees, tmp_path / "parts", 2)
    small_network.load_state_dict(start)  # a new process starts from the configuration's random weights
    resumed = train(small_network, knees, tmp_path / "parts", 4)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 4
    for name, value in small_network.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert all(torch.equal(resumed.shadow[name], value) for name, value in whole.shadow.items())
    assert newest_checkpoint(tmp_path / "parts" / "checkpoints").name.endswith("epoch=4.pt")


def test_the_average_is_the_average():
    """Two updates by hand: the decay is 2/11, then 3/12."""
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    average = ParameterAverage(layer, decay=0.99)
    layer.weight.data.fill_(2.0)
    average.update()
    first = 2 / 11 * 1 + 9 / 11 * 2
    assert average.shadow["weight"].item() == pytest.approx(first)
    layer.weight.data.fill_(5.0)
    average.update()
    assert average.shadow["weight"].item() == pytest.approx(3 / 12 * first + 9 / 12 * 5)
    average.swap_in()
    assert layer.weight.item() == pytest.approx(average.shadow["weight"].item())
    average.swap_out()
    assert layer.weight.item() == 5.0


def test_autoencoder_loss_by_hand():
    """Reconstruction off by 0.5 everywhere; mean 1, sd 1 over 4 elements: KL is 4 * 0.5 = 2."""
    loss = AutoencoderLoss(kl_weight=0.1, pixel_loss="l1")
    output = (torch.full((2, 1, 4, 4), 0.5), torch.ones(2, 4, 1, 1), torch.ones(2, 4, 1, 1))
    assert loss(output, torch.zeros(2, 1, 4, 4)).item() == pytest.approx(0.5 + 0.2)
    with pytest.raises(ValueError, match="pixel_loss"):
        AutoencoderLoss(pixel_loss="huber")


def test_learning_rate_rises_then_falls():
    factor = warm_up_then_cosine(10, 100, final=0.1)
    assert factor(0) == pytest.approx(0.1, abs=0.01)
    assert factor(9) > 0.95
    assert factor(100) == pytest.approx(0.1)
    assert warm_up_then_cosine(10, 100, final=1.0)(70) == 1.0


def test_a_checkpoint_appears_whole_or_not_at_all(knees, small_network, tmp_path, monkeypatch):
    """A training that dies while it saves must leave nothing that a resumed one would load."""
    train(small_network, knees, tmp_path, 1)
    folder = tmp_path / "checkpoints"

    def die(state, file, *_, **__):
        Path(file if isinstance(file, Path) else file.name).write_bytes(b"half a checkpoint")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", die)
        with pytest.raises(KeyboardInterrupt):
            train(small_network, knees, tmp_path, 2)
    assert newest_checkpoint(folder).name == "epoch=1.pt"
    train(small_network, knees, tmp_path, 4)
    assert sorted(path.name for path in folder.glob("*.pt")) == ["epoch=3.pt", "epoch=4.pt"]


def test_weights_say_what_they_were_started_from(small_network, tmp_path):
    """Last training first, so that a phantom's start does not make a network of people's knees a phantom's."""
    (tmp_path / "dataset.json").write_text('{"source": "clinic", "training": [], "validation": [], "test": []}')
    first = save_weights(small_network, tmp_path / "first.pt", trained_on="synthetic-phantom; run one")
    load_start(small_network, first)
    path = tmp_path / "second.pt"
    finish(small_network, None, dataset_dir=str(tmp_path), path=str(path), run_name="two " + "é" * 600)
    assert text_of(read_weights(path)["trained_on"]).startswith("clinic; run two é")
    finish(small_network, None, dataset_dir=str(tmp_path), path=str(path), run_name="two")
    said = text_of(read_weights(path)["trained_on"])
    assert said == "clinic; run two; started from weights of: synthetic-phantom; run one"


def test_an_average_begins_where_a_stage_does(small_network):
    """Weights loaded after the average was built are its start: one step later it is near them, not near the old."""
    average = ParameterAverage(small_network.denoiser, decay=0.99)
    trainer = SupervisedTrainer("cpu", 1, [0], small_network, None, None, iteration_update=lambda *_: {})
    average.attach(trainer)
    for parameter in small_network.denoiser.parameters():
        torch.nn.init.constant_(parameter, 3.0)
    trainer.run()
    assert average.updates == 1
    assert all((value == 3).all() for value in average.shadow.values())
