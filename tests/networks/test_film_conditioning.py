"""The ways of telling the denoiser of the film: what each shows, and that the model's own is as it was."""

from pathlib import Path

import pytest
import torch
from small_network import set_zero_layers, small_head, small_pyramid, small_unet

import bundle
from bundle.networks import FilmToVolume
from bundle.networks.film_conditioning import FILM_CONDITIONINGS
from bundle.networks.film_edges import ChannelGates, film_edges
from bundle.weights import load_weights, save_weights

ROOT = Path(__file__).resolve().parents[2]
BASELINES = ("none", "concat", "edges", "context")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def build(small_network):
    """Name of a conditioning to the small network with it, no layer at zero."""

    def make(name, **options):
        torch.manual_seed(0)
        told = FILM_CONDITIONINGS[name]
        encoder = small_network.denoiser.film_encoder if told.token else None
        arguments = {
            "autoencoder": small_network.autoencoder,
            "unet": small_unet(4 * (1 + told.latents)),
            "film_encoder": encoder,
            "schedule": small_network.schedule,
            "image_size": 16,
            "slices": 6,
            "sampling_steps": 2,
            "film_conditioning": name,
        }
        network = FilmToVolume(**{**arguments, **options})
        set_zero_layers(network.denoiser)
        return network.eval()

    return make


@pytest.fixture
def films():
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1


def told(count=2, streams=1):
    generator = torch.Generator().manual_seed(1)
    return {
        "noisy": torch.randn(count, 4, 4, 4, generator=generator),
        "time": torch.tensor([100.0, 700.0])[:count],
        "depth": torch.tensor([0.1, 0.9])[:count],
        "readings": torch.eye(66)[:count],
        "film_latent": torch.randn(count, 4 * streams, 4, 4, generator=generator),
    }


@pytest.mark.parametrize("name", FILM_CONDITIONINGS)
def test_the_volume_depends_on_the_film_unless_it_is_kept_from_the_denoiser(build, films, name):
    network = build(name)
    with torch.no_grad():
        first, second = network(films)
    assert first.std() > 0.01
    assert torch.equal(first, second) == (name == "none")


def test_ldm_sees_neither_latent_nor_token_but_the_readings(build, films):
    network = build("none")
    denoiser, arguments = network.denoiser, told()
    assert denoiser.unet.in_channels == 4
    assert torch.equal(denoiser.token(films), torch.zeros(2, 1, 16))
    before = denoiser(**arguments, film=films)
    assert torch.equal(before, denoiser(**{**arguments, "film_latent": films[:, :, :4, :4]}, film=films.flip(-1)))
    assert not torch.equal(before, denoiser(**{**arguments, "readings": torch.eye(66)[2:4]}, film=films))


def test_ldm_film_sees_the_latent_alone(build, films):
    denoiser, arguments = build("concat").denoiser, told()
    before = denoiser(**arguments, film=films)
    assert torch.equal(before, denoiser(**arguments, film=films.flip(-1))), "a token would show the film"
    assert not torch.equal(before, denoiser(**{**arguments, "film_latent": arguments["noisy"]}, film=films))


def test_cola_diff_sees_the_latents_of_film_and_of_edges(build, films):
    network = build("edges")
    network.scale_factor.fill_(3.0)
    latent = network.encode_film(films)
    for half, image in ((latent[:, :4], films), (latent[:, 4:], film_edges(films))):
        torch.testing.assert_close(half, 3 * network.autoencoder.encode(image)[0])
    arguments = {**told(), "film_latent": latent}
    before = network.denoiser(**arguments)
    swapped = {**arguments, "film_latent": torch.cat([latent[:, :4], latent.flip(0)[:, 4:]], dim=1)}
    assert not torch.allclose(before, network.denoiser(**swapped), atol=1e-3)


def test_gates_begin_at_one_and_follow_their_formula():
    """Two channels of constant 3 and 4 on 2 x 2: l2 norms 6 and 8, over their root mean square sqrt(50)."""
    gates, image = ChannelGates(2), torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert torch.equal(gates(image), image)
    with torch.no_grad():
        gates.gain.fill_(0.5)
        gates.offset.copy_(torch.tensor([0.0, 0.1]).view(1, 2, 1, 1))
    weights = 1 + torch.tanh(0.5 * torch.tensor([6.0, 8.0]) / 50**0.5 + torch.tensor([0.0, 0.1]))
    torch.testing.assert_close(gates(image)[0, :, 0, 0], torch.tensor([3.0, 4.0]) * weights, atol=1e-5, rtol=0)


def test_gates_learn_at_once(build):
    denoiser = build("edges").denoiser
    denoiser.gates.gain.data.zero_()
    denoiser(**told(streams=2)).square().sum().backward()
    assert denoiser.gates.gain.grad.abs().max() > 0


def test_x_diffusions_context_is_one_token_of_film_and_slice(build, films):
    """And the down path is not told the depth."""
    denoiser, arguments, given = build("context").denoiser, told(), []
    denoiser.unet.register_forward_pre_hook(
        lambda _, inputs, options: given.append((inputs[2], options["depth"])), with_kwargs=True
    )
    before = denoiser(**arguments, film=films)
    code = denoiser.unet.depth_code(arguments["depth"])
    expected = denoiser.film_encoder(films)[:, 0] + code @ denoiser.slice_projection.weight.T
    context, depth = given[0]
    assert context.shape == (2, 1, 16)
    torch.testing.assert_close(context[:, 0], expected)
    assert depth is None
    assert not any(parameter.requires_grad for parameter in denoiser.unet.depth_head.parameters())
    deeper = denoiser(**{**arguments, "depth": torch.tensor([0.12, 0.9])}, film=films)
    assert not torch.allclose(before[0], deeper[0], atol=1e-4)
    torch.testing.assert_close(before[1], deeper[1])


def test_a_withheld_film_leaves_x_diffusion_the_slice(build, films):
    denoiser, arguments = build("context").denoiser, {**told(), "withheld": torch.tensor([True, True])}
    before = denoiser(**arguments, film=films)
    assert torch.equal(before, denoiser(**arguments, film=films.flip(-1)))
    assert not torch.equal(before, denoiser(**{**arguments, "depth": torch.tensor([0.5, 0.6])}, film=films))


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_have_more_or_fewer_parameters_as_stated(build, name):
    """The first convolution is 3 x 3 to 32 channels; gates are 3 numbers a channel; the index has a 32-wide code."""
    encoder = count(build("paper").denoiser.film_encoder)
    stated = {"none": -encoder - 4 * 32 * 9, "concat": -encoder, "edges": 4 * 32 * 9 + 3 * 8 - encoder, "context": 512}
    assert count(build(name)) - count(build("paper")) == stated[name]


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_trained_gets_a_gradient(build, films, name):
    """Distributed training stops on parameters without one."""
    denoiser = build(name).denoiser
    denoiser(**told(streams=max(1, FILM_CONDITIONINGS[name].latents)), film=films).square().sum().backward()
    without = [n for n, p in denoiser.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_the_models_own_conditioning_is_what_it_was(small_network, films):
    """Latent beside latent, the film's token, depth and readings: bit for bit, in weights without a new name."""
    denoiser, arguments = small_network.denoiser, told()
    told_unet = {"depth": arguments["depth"], "readings": arguments["readings"]}
    both = torch.cat([arguments["noisy"], arguments["film_latent"]], dim=1)
    expected = denoiser.unet(both, arguments["time"], denoiser.film_encoder(films), **told_unet)
    assert torch.equal(denoiser(**arguments, film=films), expected)
    assert not [name for name in small_network.state_dict() if "gates" in name or "slice_projection" in name]
    assert "film_conditioning" not in small_network.state_dict()


def test_the_shipped_weights_load_as_the_models_own():
    network = bundle.load(ROOT)
    assert network.denoiser.gates is None
    assert network.denoiser.film_encoder is not None


@pytest.mark.parametrize("name", BASELINES)
def test_weights_say_how_the_film_was_told(build, tmp_path, name):
    network = build(name)
    save_weights(network, tmp_path / "model.pt", trained_on="nothing")
    loaded = load_weights(build(name), tmp_path / "model.pt")
    assert loaded.film_conditioning.tolist() == network.film_conditioning.tolist()
    with pytest.raises(ValueError, match=r"model\.pt"):
        load_weights(build("paper"), tmp_path / "model.pt")


def test_weights_of_another_conditioning_are_refused_by_its_name(build):
    one, other = build("concat"), build("concat")
    other.film_conditioning.copy_(build("none").film_conditioning)
    with pytest.raises(ValueError, match="`film_conditioning` of the weights is none, of the network concat"):
        one.load_state_dict(other.state_dict())


def test_parts_that_do_not_go_with_it_are_refused(build, small_network):
    encoder = small_network.denoiser.film_encoder
    with pytest.raises(ValueError, match="`film_conditioning` must be one of paper, none"):
        build("paper", film_conditioning="latent")
    with pytest.raises(ValueError, match="`film_encoder` must be None"):
        build("concat", film_encoder=encoder)
    with pytest.raises(ValueError, match="`film_encoder` must be there"):
        build("context", film_encoder=None)
    for part in ({"mean_head": small_head()}, {"film_pyramid": small_pyramid()}):
        with pytest.raises(ValueError, match="'none' keeps the film"):
            build("none", **part)
    with pytest.raises(
        ValueError, match="`in_channels` of the UNet must be 12, 4 for each of the noised latent, the f"
    ):
        build("edges", unet=small_unet(8))
