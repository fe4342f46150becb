"""The CAE generator: the published blocks, and a network that is called as the model is."""

import pytest
import torch
from torch import nn

from bundle.inferers import VolumeInferer
from bundle.networks import CAEGenerator
from bundle.networks.cae_generator import CAE
from bundle.weights import load_weights, save_weights


def blocks(module, kind):
    return [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0])
        for layer in module.modules()
        if type(layer) is kind
    ]


def test_at_128_pixels_it_has_the_published_blocks():
    with torch.device("meta"):
        network = CAE(image_size=128).eval()
        film, volume = network(torch.zeros(2, 1, 128, 128))
    assert (film.shape, volume.shape) == ((2, 1, 128, 128), (2, 1, 128, 128, 20))
    down, up = [32, 64, 128, 256, 512, 1024], [1024, 512, 256, 128, 64, 32, 1]
    assert blocks(network.encoder, nn.Conv2d) == [(i, o, 3) for i, o in zip([1, *down[:-1]], down, strict=True)]
    transposed = [(i, o, 4) for i, o in zip([1024, *up[:-1]], up, strict=True)]
    assert blocks(network.decoder, nn.ConvTranspose2d) == transposed
    assert blocks(network.generator, nn.ConvTranspose3d) == transposed
    assert blocks(network.generator, nn.Conv3d) == [(1, 8, 1)]
    assert blocks(network.generator, nn.Conv2d) == [(8 * 128, 128, 1), (128, 20, 1)]
    assert [layer.negative_slope for layer in network.encoder.modules() if isinstance(layer, nn.LeakyReLU)] == [0.2] * 6
    assert sum(parameter.numel() for parameter in network.parameters()) == 146_195_624


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CAEGenerator(image_size=16, slices=7, generated_slices=4, width=4).eval()


@pytest.fixture
def films():
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_tail_mixes_a_pixels_depths_and_no_neighbours():
    """Folding keeps rows and columns; channel c of depth k becomes channel c * D + k."""
    folded = CAE(image_size=16, width=4).generator[-4]
    cube = torch.arange(2 * 3 * 4 * 5.0).view(1, 2, 3, 4, 5)
    assert torch.equal(folded(cube)[0, 1 * 5 + 3], cube[0, 1, :, :, 3])


def test_generated_slices_lie_over_the_window_and_the_others_between_them(network, films):
    with torch.no_grad():
        volumes, four = network(films), network.cae(films)[1].clamp(-1, 1)
    assert volumes.shape == (2, 1, 16, 16, 7)
    torch.testing.assert_close(volumes[..., ::2], four)
    torch.testing.assert_close(volumes[..., 1], (four[..., 0] + four[..., 1]) / 2)


def test_films_give_volumes_of_their_own(network, films):
    """With the batch's own statistics: an untrained network's running ones would drown the film."""
    with torch.no_grad():
        first, second = network.train()(films)
    assert not torch.allclose(first, second, atol=1e-3)


def test_it_is_called_as_the_model_is(network, films):
    done = []
    with torch.no_grad():
        given = {"covariates": torch.zeros(2, 4), "steps": 3, "seed": 1, "sample": 2, "progress": done.append}
        volumes = network(films, torch.eye(66)[:2], slices=4, **given)
        assert torch.equal(VolumeInferer()(films, network), network(films))
    assert done == [4]
    torch.testing.assert_close(volumes, network(films, depths=torch.linspace(0, 1, 4)))
    with pytest.raises(ValueError, match="`mean`"):
        network(films, mean=True)
    with pytest.raises(ValueError, match="`film` must have shape"):
        network(films[..., :8])
    with pytest.raises(ValueError, match="`readings` must have shape"):
        network(films, torch.zeros(2, 5))


def test_its_weights_are_files_like_the_models(network, films, tmp_path):
    save_weights(network, tmp_path / "model.pt", trained_on="made-up; run x")
    other = CAEGenerator(image_size=16, slices=7, generated_slices=4, width=4)
    loaded = load_weights(other, tmp_path / "model.pt")
    assert loaded.provenance() == "made-up; run x"
    torch.testing.assert_close(loaded(films), network(films), atol=1e-2, rtol=0)
    with pytest.raises(ValueError, match="`grid_description` of the weights"):
        load_weights(CAEGenerator(image_size=16, slices=8, generated_slices=4, width=4), tmp_path / "model.pt")


def test_edges_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="`image_size` must be a power of two"):
        CAE(image_size=48)
    with pytest.raises(ValueError, match="`image_size` must be a power of two"):
        CAE(image_size=4)
