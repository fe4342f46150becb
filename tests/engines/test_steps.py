"""A training step: its rates, its parts, its precision, its memory, and the loss in pixels."""

import copy
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from torch.utils.data import default_collate

from bundle.engines import (
    DenoisingLoss,
    MicroBatches,
    ParameterAverage,
    PrecisionInferer,
    PrepareDenoising,
    parameter_groups,
    start_from,
    train_only,
)
from bundle.engines.denoising_loss import clean_estimate
from bundle.keys import FILM
from bundle.sampling import DiffusionSchedule, FlowSchedule
from bundle.weights import save_weights

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HEADS = ["unet.depth_head", "unet.readings_head", "unet.covariates_head"]


def test_new_heads_learn_ten_times_as_fast_as_the_rest(small_network):
    denoiser = small_network.denoiser
    rest, new = parameter_groups(denoiser, learning_rate=1e-3, new_parts=HEADS, new_parts_factor=10.0)
    assert (rest["lr"], new["lr"]) == (1e-3, pytest.approx(1e-2))
    heads = [*denoiser.unet.depth_head.parameters(), *denoiser.unet.readings_head.parameters()]
    assert {id(p) for p in new["params"]} == {id(p) for p in heads}
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    assert len(rest["params"]) + len(new["params"]) == len(trained)
    (one,) = parameter_groups(denoiser, learning_rate=1e-3, new_parts=HEADS)
    assert [id(p) for p in one["params"]] == [id(p) for p in trained]
    with pytest.raises(ValueError, match=r"names `unet.depth_haed`, which Denoiser does not have"):
        parameter_groups(denoiser, learning_rate=1e-3, new_parts=["unet.depth_haed"])


def test_parts_that_alone_are_trained_leave_the_rest_as_it_was(small_network):
    """A step moves the depth head and nothing else."""
    before = {name: value.clone() for name, value in small_network.denoiser.state_dict().items()}
    all_parts = parameter_groups(train_only(small_network.denoiser, None), learning_rate=0.1)[0]["params"]
    assert len(all_parts) > 4
    train_only(small_network.denoiser, ["unet.depth_head"])
    (group,) = parameter_groups(small_network.denoiser, learning_rate=0.1)
    assert len(group["params"]) == len(list(small_network.denoiser.unet.depth_head.parameters()))
    for parameter in group["params"]:
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD([group]).step()
    moved = {n for n, value in small_network.denoiser.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {name for name in before if name.startswith("unet.depth_head.")}
    with pytest.raises(ValueError, match=r"`trained_parts` names `unet.mixer`, which Denoiser does not have"):
        train_only(small_network.denoiser, ["unet.mixer"])
    with pytest.raises(ValueError, match=r"`trained_parts` names `unet.mixers`, which this Denoiser was built without"):
        train_only(small_network.denoiser, ["unet.mixers"])


def test_training_of_the_mixers_alone_reaches_the_optimiser():
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.json"))
    parser["trained_parts"] = ["unet.mixers"]
    denoiser, optimizer = (parser.get_parsed_content(f"train#{name}") for name in ("denoiser", "optimizer"))
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in denoiser.unet.mixers.parameters()}


def test_a_decoder_is_trained_behind_a_frozen_encoder():
    """A step on what the configuration builds moves decoder weights and leaves every latent as it was."""
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.json"))
    parser["autoencoder_trained_parts"] = ["decoder", "post_quant_conv"]
    names = ("network", "optimizer", "trainer#loss_function")
    network, optimizer, loss = (parser.get_parsed_content(f"autoencoder#{name}") for name in names)
    image = torch.rand(2, 1, 32, 32) * 2 - 1
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss(network(image, torch.zeros(2, 4, 8, 8)), image).backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(("autoencoder.decoder.", "autoencoder.post_quant_conv.")) for name in moved)


def test_the_papers_rate_rises_for_100_steps_and_stays():
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "paper.json")])
    schedule = dict(parser["train#schedule#lr_lambda"]) | {"total_steps": 10_000}
    parser["factor"] = schedule
    factor = parser.get_parsed_content("factor")
    assert [factor(step) for step in (0, 49, 99, 5_000, 10_000)] == pytest.approx([0.01, 0.5, 1.0, 1.0, 1.0])
    assert parser.get_parsed_content("new_parts_factor") == 1
    parser["pretrained"] = "zero123.pt"
    parser = ConfigParser(parser.get())
    assert parser.get_parsed_content("new_parts_factor") == 10


def trainer(network, dataset, **options):
    """A trainer that does one step of SGD with a rate of 1, so that the step is the gradient."""
    optimizer = torch.optim.SGD([p for p in network.denoiser.parameters() if p.requires_grad], lr=1.0)
    options = {"inferer": PrecisionInferer(), "loss_function": DenoisingLoss(network)} | options
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[default_collate([dataset[index] for index in range(11)])],
        network=network.denoiser,
        optimizer=optimizer,
        prepare_batch=PrepareDenoising(network.schedule),
        decollate=False,
        **options,
    )


def step(network, dataset, **options):
    """Loss and gradients of one step from the same start."""
    network = copy.deepcopy(network)
    engine = trainer(network, dataset, **options)
    before = {name: p.detach().clone() for name, p in network.denoiser.named_parameters()}
    engine.run()
    after = dict(network.denoiser.named_parameters())
    return engine.state.output["loss"].item(), {name: before[name] - after[name].detach() for name in before}


def agree(first, second, tolerance):
    assert first[0] == pytest.approx(second[0], abs=tolerance)
    for name, gradient in first[1].items():
        torch.testing.assert_close(gradient, second[1][name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("size", [1, 4, 11, 64])
def test_parts_of_a_batch_make_the_step_of_the_whole(knees, small_network, latents, size):
    """11 items in parts of 4 are 4, 4 and 3: the last weighs less."""
    dataset = latents(knees, small_network)
    dataset.prepare()
    whole = step(small_network, dataset)
    assert max(gradient.abs().max() for gradient in whole[1].values()) > 0.01
    agree(step(small_network, dataset, iteration_update=MicroBatches(size)), whole, 1e-5)


def test_parts_are_counted_from_one():
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        MicroBatches(0)


def test_activation_checkpointing_changes_neither_loss_nor_gradient(knees, small_network, latents):
    dataset = latents(knees, small_network)
    dataset.prepare()
    plain = step(small_network, dataset)
    small_network.denoiser.unet.use_checkpoint = True
    calls = []
    small_network.denoiser.unet.middle_block.register_forward_pre_hook(lambda *_: calls.append(1))
    agree(step(small_network, dataset), plain, 1e-6)
    assert len(calls) == 2, "the block must have run again for the backward pass"


def test_a_step_in_bfloat16_is_near_the_one_in_float32(knees, small_network, latents):
    dataset = latents(knees, small_network)
    dataset.prepare()
    seen = []
    small_network.denoiser.unet.conv_in.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    loss, gradients = step(small_network, dataset)
    half_loss, half = step(small_network, dataset, inferer=PrecisionInferer("bfloat16"))
    assert seen == [torch.float32, torch.bfloat16]
    assert half_loss == pytest.approx(loss, rel=0.02)
    flat, half_flat = (torch.cat([g.flatten() for g in part.values()]) for part in (gradients, half))
    assert torch.equal(half_flat, half_flat.float())
    assert torch.nn.functional.cosine_similarity(flat, half_flat, dim=0) > 0.99
    with pytest.raises(ValueError, match="`precision` must be one of float32, bfloat16, got 'half'"):
        PrecisionInferer("half")


@pytest.mark.parametrize(
    "schedule",
    [
        FlowSchedule(),
        *(DiffusionSchedule(prediction_type=kind) for kind in ("epsilon", "v_prediction", "sample")),
        DiffusionSchedule(prediction_type="v_prediction", zero_terminal_snr=True),
    ],
    ids=["flow", "epsilon", "v", "sample", "zero_snr"],
)
def test_a_perfect_prediction_speaks_of_the_clean_latent(schedule):
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(3, 4, 2, 2, generator=generator) for _ in range(2))
    time = torch.tensor([5.0, 300.0, 900.0])
    noisy = schedule.add_noise(clean, noise, time)
    found, weight = clean_estimate(schedule, noisy, schedule.target(clean, noise, time), time)
    torch.testing.assert_close(found, clean, atol=1e-4, rtol=1e-4)
    assert weight[0] > weight[1] > weight[2] >= 0
    if isinstance(schedule, DiffusionSchedule):
        torch.testing.assert_close(weight, schedule.scheduler.alphas_cumprod[time.long()])


def test_the_pixel_term_is_off_by_default_and_by_hand_where_it_is_on(knees, small_network, latents):
    dataset = latents(knees, small_network, with_slices=True)
    dataset.prepare()
    batch = default_collate([dataset[index] for index in (0, 5)])
    noisy, target, _, conditions = PrepareDenoising(small_network.schedule)(batch)
    prediction = target["target"] + 0.1
    plain = DenoisingLoss(small_network)(prediction, target["target"])
    assert plain.item() == pytest.approx(0.01, rel=1e-4)
    loss = DenoisingLoss(small_network, pixel_weight=0.5)(prediction, target)
    share = conditions["time"] / 1000
    images = small_network.autoencoder.decode(
        (noisy + share.view(-1, 1, 1, 1) * prediction) / small_network.scale_factor
    )
    apart = (images - batch["slice"]).abs().mean(dim=(1, 2, 3))
    weight = (1 - share) ** 2 / ((1 - share) ** 2 + share**2)
    assert loss.item() == pytest.approx(0.01 + 0.5 * (weight * apart).mean().item(), rel=1e-4)
    with pytest.raises(ValueError, match="with_slices=True"):
        DenoisingLoss(small_network, pixel_weight=0.5)(prediction, target["target"])


def test_the_slice_of_an_item_is_the_one_its_latent_is_of(knees, small_network, latents):
    item = latents(knees, small_network, with_slices=True)[9]
    assert torch.equal(item["slice"], knees[2]["mri"][..., round(item["depth"].item() * 5)])


def test_a_frozen_tower_runs_once_a_film(knees, small_network, latents):
    """Its embedding stands for the film in the items; the projection still learns from it."""
    encoder = small_network.denoiser.film_encoder
    plain = latents(knees, small_network)
    first = step(small_network, plain)
    encoder.tower.requires_grad_(False)
    calls = []
    encoder.tower.register_forward_hook(lambda *_: calls.append(1))
    cached = latents(knees, small_network)
    cached.prepare()
    assert len(calls) == 3
    assert cached[0][FILM].shape == (16,)
    second = step(small_network, cached)
    assert len(calls) == 3, "the tower must not run in a step"
    kept = {name: gradient for name, gradient in second[1].items() if ".tower." not in name}
    agree((second[0], kept), first, 1e-5)
    assert kept["film_encoder.projection.weight"].abs().max() > 0
    latents(knees, small_network).prepare()
    assert len(calls) == 3, "nor when the training starts again"


def test_a_training_starts_from_weights_with_its_average(small_network, tmp_path):
    path = save_weights(small_network, tmp_path / "model.pt", trained_on="knees")
    other = copy.deepcopy(small_network)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    average = ParameterAverage(other.denoiser)
    average.update()
    start_from(other, None, average=average)
    assert average.updates == 1
    start_from(other, str(path), average=average)
    for name, parameter in small_network.named_parameters():
        assert torch.equal(dict(other.named_parameters())[name], parameter.half().float()), name
    assert average.updates == 0
    assert all(torch.equal(value, other.denoiser.state_dict()[name]) for name, value in average.shadow.items())


def test_fresh_parts_forget_what_the_weights_have_learnt(small_network, tmp_path):
    path = save_weights(small_network, tmp_path / "model.pt", trained_on="knees")
    other = copy.deepcopy(small_network)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    before = {name: parameter.clone() for name, parameter in other.named_parameters()}
    average = ParameterAverage(other.denoiser)
    start_from(other, str(path), average=average, fresh=["denoiser.unet.readings_head", "denoiser.*.norm1"])
    for name, parameter in other.named_parameters():
        fresh = name.startswith("denoiser.unet.readings_head.") or (name.startswith("denoiser.") and ".norm1." in name)
        assert torch.equal(parameter, before[name]) == fresh, name
    assert all(torch.equal(value, other.denoiser.state_dict()[name]) for name, value in average.shadow.items())
    with pytest.raises(ValueError, match=r"`fresh_parts` names `denoiser.heads.\*`, and no part"):
        start_from(other, str(path), average=average, fresh=["denoiser.heads.*"])


def test_weights_of_another_size_are_refused_by_name(small_network, tmp_path):
    state = torch.load(save_weights(small_network, tmp_path / "model.pt", trained_on="knees"))
    state["denoiser.unet.out.2.conv.weight"] = torch.zeros(4, 16, 3, 3)
    torch.save(state, tmp_path / "narrow.pt")
    with pytest.raises(ValueError, match=r"`denoiser.unet.out.2.conv.weight` has shape \(4, 16, 3, 3\)"):
        start_from(small_network, str(tmp_path / "narrow.pt"), average=ParameterAverage(small_network.denoiser))


@pytest.mark.parametrize(("capability", "warned"), [("AVX2", True), ("AVX512", False)])
def test_a_processor_without_bfloat16_is_told_once(capability, warned, monkeypatch, caplog):
    """Emulated it is several times slower than float32, and nothing else would say so."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network, inputs = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    inferer = PrecisionInferer("bfloat16")
    for _ in range(2):
        inferer(inputs, network)
    PrecisionInferer("float32")(inputs, network)
    said = [record.getMessage() for record in caplog.records if "emulates bfloat16" in record.getMessage()]
    assert len(said) == warned
    assert all("--precision float32" in message for message in said)
