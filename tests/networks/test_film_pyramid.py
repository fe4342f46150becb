"""The film pyramid: nothing at first, then the film's own pixels at every level of the denoiser."""

import pytest
import torch
from small_network import network_like, set_zero_layers, small_pyramid, small_unet

from bundle.networks import FilmPyramid, FilmToVolume


def call(denoiser, film, **conditions):
    generator = torch.Generator().manual_seed(1)
    noisy, film_latent = (torch.randn(2, 4, 4, 4, generator=generator) for _ in range(2))
    told = {"depth": torch.tensor([0.1, 0.9]), "readings": torch.eye(66)[:2], "film_latent": film_latent}
    return denoiser(noisy, torch.tensor([100.0, 700.0]), film=film, **told, **conditions)


@pytest.fixture
def films():
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(2))


def test_at_initialisation_the_denoiser_equals_the_one_without_it(small_network, films):
    with_pyramid, without = network_like(small_network, pyramid=True), network_like(small_network)
    without.denoiser.unet.load_state_dict(with_pyramid.denoiser.unet.state_dict())
    output = call(with_pyramid.denoiser, films)
    assert output.abs().max() > 0
    assert torch.equal(output, call(without.denoiser, films))


def test_gradients_reach_the_injections_at_once_and_all_of_it_after_a_step(small_network, films):
    network = network_like(small_network, pyramid=True)
    pyramid = network.denoiser.film_pyramid
    call(network.denoiser, films).square().sum().backward()
    assert all(into.weight.grad.abs().max() > 0 for into in pyramid.into)
    torch.optim.SGD(pyramid.parameters(), lr=1e-3).step()
    network.zero_grad()
    call(network.denoiser, films).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in pyramid.parameters())


@pytest.mark.parametrize("level", [0, 1])
def test_each_level_alone_changes_the_output(small_network, films, level):
    network = network_like(small_network, pyramid=True)
    before = call(network.denoiser, films)
    torch.nn.init.normal_(network.denoiser.film_pyramid.into[level].weight)
    assert not torch.allclose(before, call(network.denoiser, films), atol=1e-3)


def test_features_encoded_once_a_volume_are_those_of_the_film(small_network, films):
    network = network_like(small_network, pyramid=True)
    set_zero_layers(network.denoiser)
    features = network.denoiser.film_pyramid(films)
    assert [tuple(level.shape) for level in features] == [(2, 32, 4, 4), (2, 32, 2, 2)]
    torch.testing.assert_close(call(network.denoiser, films, features=features), call(network.denoiser, films))
    both, second = network(films), network(films[1:])
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=0)


def test_withheld_films_have_no_features(small_network, films):
    denoiser = network_like(small_network, pyramid=True).denoiser
    set_zero_layers(denoiser)
    features = [[torch.randn(2, 32, edge, edge) for edge in (4, 2)] for _ in range(2)]
    withheld = torch.tensor([True, False])
    first, second = (call(denoiser, films, features=given, withheld=withheld) for given in features)
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1])


def test_it_can_stand_in_place_of_the_films_latent(small_network, films):
    network = network_like(small_network, pyramid=True, film_latent=False)
    assert network.denoiser.unet.in_channels == 4
    context = network.denoiser.film_encoder(films)
    before = call(network.denoiser, films, context=context)
    assert torch.equal(before, call(network.denoiser, films.flip(-1), context=context)), "nothing else shows the film"
    set_zero_layers(network.denoiser)
    assert not torch.allclose(call(network.denoiser, films), call(network.denoiser, films.flip(-1)), atol=1e-3)
    assert network(films).shape == (2, 1, 16, 16, 6)


def test_channels_that_do_not_fit_are_refused(small_network):
    with pytest.raises(ValueError, match="`widths` must have at least the 2 levels"):
        FilmPyramid(widths=(8,), unet_channels=(32, 32))
    with pytest.raises(ValueError, match=r"`in_channels` of the UNet must be 4, 4 for each of the noised latent; got"):
        FilmToVolume(
            autoencoder=small_network.autoencoder,
            unet=small_unet(8),
            film_encoder=small_network.denoiser.film_encoder,
            schedule=small_network.schedule,
            image_size=16,
            slices=6,
            film_pyramid=small_pyramid(),
            film_latent=False,
        )
