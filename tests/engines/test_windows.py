"""Windows of neighbouring slices: what is drawn, how it is batched, and a start from slice-wise weights."""

import copy

import pytest
import torch
from monai.engines import SupervisedTrainer
from small_network import small_generator

from bundle.engines import (
    LatentDataset,
    MicroBatches,
    PrepareDenoising,
    WindowDataset,
    denoiser_dataset,
    items_of_a_batch,
    stack_windows,
)
from bundle.keys import MRI, READINGS
from bundle.weights import load_start, load_weights, save_weights


def network(*, seed=0, mixing=True, **options):
    """A 16 x 16 x 6 network whose slices see each other."""
    torch.manual_seed(seed)
    result = small_generator(depth_mixing={"num_head_channels": 16} if mixing else None, **options)
    for name, parameter in result.denoiser.named_parameters():
        if not parameter.abs().max() and "mixers" not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return result.eval()


def windows(knees, model, folder, **options):
    data = [{MRI: f"{knee}.nii.gz"} for knee in range(len(knees))]
    options = {"window": 4, "windows_per_volume": 2, "seed": 5, "readings_dropout": 0.0, **options}
    return WindowDataset(knees, model, data=data, folder=str(folder), **options)


def test_a_window_depends_on_seed_epoch_and_index_alone(knees, tmp_path):
    dataset = windows(knees, network(), tmp_path)
    dataset.set_epoch(1)
    first = dataset[3]
    torch.manual_seed(9)
    _ = dataset[0]
    assert all(torch.equal(value, dataset[3][key]) for key, value in first.items())
    dataset.set_epoch(2)
    assert not torch.equal(first["noise"], dataset[3]["noise"])
    assert len(dataset) == 6


def test_a_window_is_neighbouring_slices_of_one_knee_at_one_time(knees, tmp_path):
    model = network()
    dataset = windows(knees, model, tmp_path)
    starts = set()
    for epoch in range(12):
        dataset.set_epoch(epoch)
        item = dataset[5]
        torch.testing.assert_close(item["depth"].diff(), torch.full((3,), 0.2))
        start = round(item["depth"][0].item() * 5)
        starts.add(start)
        with torch.no_grad():
            mean, sd = model.autoencoder.encode(knees[2][MRI][0].permute(2, 0, 1)[:, None][start : start + 4])
        deviation = (item["latent"] / model.scale_factor - mean) / sd
        assert abs(deviation.std().item() - 1) < 0.3
        assert item["time"].ndim == 0
        assert torch.equal(item[READINGS], knees[2][READINGS])
    assert starts == {0, 1, 2}


@pytest.mark.parametrize(
    ("correlation", "low", "high"), [("shared", 1, 1), ("independent", -0.2, 0.2), ("correlated", 0.5, 0.99)]
)
def test_noise_over_a_window_is_what_the_sampler_draws(knees, tmp_path, correlation, low, high):
    """Slices are 12.5 mm apart on this grid; a length of 15 mm gives neighbours a correlation of exp(-0.35) = 0.71."""
    dataset = windows(knees, network(noise_correlation=correlation, noise_length_mm=15.0), tmp_path)
    noise = torch.stack([dataset[index]["noise"] for index in range(6)])
    first, second = noise[:, :-1].flatten(), noise[:, 1:].flatten()
    found = torch.corrcoef(torch.stack([first, second]))[0, 1].item()
    assert low - 1e-6 <= found <= high + 1e-6
    assert noise.std().item() == pytest.approx(1, abs=0.1)
    assert not torch.equal(noise[0], noise[1])


def test_a_batch_goes_through_prepare_and_network_and_reaches_the_mixers(knees, tmp_path):
    model = network()
    batch = stack_windows([windows(knees, model, tmp_path)[index] for index in (0, 2)])
    assert batch["latent"].shape == (8, 4, 4, 4)
    assert batch["depth"].shape == (2, 4)
    assert batch["time"].shape == (8,)
    assert len(set(batch["time"].tolist())) == 2
    noisy, target, _, conditions = PrepareDenoising(model.schedule)(batch)
    model.denoiser(noisy, **conditions).sub(target).square().mean().backward()
    assert model.denoiser.unet.mixers["1"].out.weight.grad.abs().max() > 0


def test_a_window_brings_its_real_slices_for_a_loss_in_pixels(knees, tmp_path):
    """The slices of the window, in its order: each brings back the latent's mean when it is encoded again."""
    model = network()
    dataset = windows(knees, model, tmp_path, with_slices=True)
    batch = stack_windows([dataset[index] for index in (1, 4)])
    assert batch["slice"].shape == (8, 1, 16, 16)
    for index, depths, slices in zip((1, 4), batch["depth"], batch["slice"].split(4), strict=True):
        first = round(depths[0].item() * 5)
        real = knees[index // 2][MRI][..., first : first + 4]
        assert torch.equal(slices, real.movedim(-1, 0))


def test_windows_and_single_slices_show_as_many_slices(knees, tmp_path):
    data = [{MRI: f"{knee}.nii.gz"} for knee in range(3)]
    shared = {"data": data, "folder": str(tmp_path)}
    model = network()
    single = denoiser_dataset(knees, model, slices_per_volume=4, window=None, **shared)
    double = denoiser_dataset(knees, model, slices_per_volume=4, window=2, **shared)
    assert type(single) is LatentDataset
    assert isinstance(double, WindowDataset)
    assert len(single) == 2 * len(double) == 12
    assert [items_of_a_batch(64, window, 2) for window in (None, 8, 50)] == [32, 4, 1]
    for slices in (3, 1):
        with pytest.raises(ValueError, match="`slices_per_volume` must be a multiple of `window`"):
            denoiser_dataset(knees, model, slices_per_volume=slices, window=2, **shared)


@pytest.mark.parametrize("size", [1, 5, 8, 64])
def test_parts_of_a_batch_are_whole_windows_and_make_its_step(knees, tmp_path, size):
    """Three windows of four slices: parts of one window, one, two and one, and three."""
    model = network()
    torch.nn.init.normal_(model.denoiser.unet.mixers["1"].out.weight, std=0.1)
    dataset = windows(knees, model, tmp_path)
    batch = stack_windows([dataset[index] for index in (0, 2, 5)])
    steps, seen = [], []
    for update in (None, MicroBatches(size)):
        denoiser = copy.deepcopy(model.denoiser)
        denoiser.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
        trained = [p for p in denoiser.parameters() if p.requires_grad]
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=[batch],
            network=denoiser,
            optimizer=torch.optim.SGD(trained, lr=1.0),
            loss_function=torch.nn.MSELoss(),
            prepare_batch=PrepareDenoising(model.schedule),
            iteration_update=update,
            decollate=False,
        )
        trainer.run()
        steps.append([p.detach() for p in trained])
    assert seen == [12, *{1: [4, 4, 4], 5: [4, 4, 4], 8: [8, 4], 64: [12]}[size]]
    for whole, parts in zip(*steps, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)


def test_a_window_longer_than_the_grid_is_refused(knees, tmp_path):
    with pytest.raises(ValueError, match="window"):
        windows(knees, network(), tmp_path, window=7)


def test_slicewise_weights_start_a_network_that_gives_their_volumes(tmp_path):
    """Half precision in the file, so both networks read it; what differs is the mixers alone."""
    alone = network(mixing=False)
    path = save_weights(alone, tmp_path / "model.pt", trained_on="nothing")
    load_weights(alone, path)
    film = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        expected = alone(film)
        torch.testing.assert_close(load_start(network(seed=3), path)(film), expected, rtol=0, atol=1e-6)
        assert (network(seed=3)(film) - expected).abs().max() > 1e-3
    with pytest.raises(ValueError, match="mixers"):
        load_weights(network(), path)


def test_a_start_that_lacks_more_than_mixers_or_has_more_is_refused(tmp_path):
    path = save_weights(network(), tmp_path / "model.pt", trained_on="nothing")
    with pytest.raises(ValueError, match=r"mixers.* is missing in the network"):
        load_start(network(mixing=False), path)
    state = torch.load(path, weights_only=True)
    del state["denoiser.unet.conv_in.conv.weight"]
    torch.save(state, path)
    with pytest.raises(ValueError, match="conv_in"):
        load_start(network(), path)
