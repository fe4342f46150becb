"""The mean head: its spline, what changes its output, and how the network samples what it leaves over."""

import pytest
import torch
from scipy.interpolate import BSpline
from small_network import network_like, set_zero_layers, small_head, small_unet

from bundle.networks import FilmToVolume, MeanHead
from bundle.networks.spline import fit_spline, spline_basis
from bundle.weights import load_start, load_weights, save_weights


@pytest.mark.parametrize("knots", [4, 7, 24])
def test_the_basis_is_scipys_uniform_cubic(knots):
    depth = torch.linspace(0, 1, 101)
    interval = 1 / (knots - 3)
    edges = [(number - 3) * interval for number in range(knots + 4)]
    expected = BSpline.design_matrix(depth[:-1].double().numpy(), edges, 3).toarray()
    basis = spline_basis(depth, knots)
    torch.testing.assert_close(basis[:-1].double(), torch.from_numpy(expected), atol=2e-6, rtol=0)
    torch.testing.assert_close(basis.sum(-1), torch.ones(101))
    assert (basis > 0).sum(-1).max() <= 4


def test_a_fitted_spline_gives_cubics_back_between_the_depths_too():
    """A cubic is its own nearest spline: fitted at 50 depths, exact at 333 others."""
    depth, between = torch.linspace(0, 1, 50), torch.linspace(0, 1, 333)

    def cubic(d):
        return torch.stack([1 - 2 * d + 3 * d**3, d**2], dim=1)

    coefficients = fit_spline(cubic(depth), depth, 24)
    assert coefficients.shape == (24, 2)
    torch.testing.assert_close(spline_basis(between, 24) @ coefficients, cubic(between), atol=1e-5, rtol=0)
    few = fit_spline(cubic(depth[:6] / depth[5]), depth[:6] / depth[5], 24)
    assert few.isfinite().all(), "fewer depths than coefficients"


def inputs(batch=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 1, 16, 16, generator=generator), torch.eye(66)[:batch]


def test_a_new_head_gives_the_mean_volume_it_was_given():
    torch.manual_seed(0)
    head, (film, readings) = small_head(), inputs()
    depth = torch.linspace(0, 1, 6)
    mean = torch.randn(6, 4, 4, 4)
    head.set_base(mean, depth)
    torch.testing.assert_close(head(film, readings, depth.expand(2, 6)), mean.expand(2, 6, 4, 4, 4), atol=1e-4, rtol=0)


def test_depth_is_continuous_and_each_film_has_its_own():
    torch.manual_seed(0)
    head, (film, readings) = small_head(), inputs()
    set_zero_layers(head)
    depth = torch.tensor([[0.2, 0.7], [0.5, 0.5]])
    latents = head(film, readings, depth)
    assert latents.shape == (2, 2, 4, 4, 4)
    near = head(film, readings, depth + 1e-4)
    assert 0 < (latents - near).abs().max() < 1e-2
    torch.testing.assert_close(latents[1, 0], latents[1, 1])
    coefficients = head.coefficients(film, readings)
    torch.testing.assert_close(head.at(coefficients, depth[0])[0], latents[0], msg="one list of depths for all")


def test_readings_modulate_and_zeros_say_nothing():
    """With weights in every layer, a vector of zeros leaves each block as if it were told nothing at all."""
    torch.manual_seed(0)
    head, (film, readings) = small_head(), inputs()
    set_zero_layers(head)
    depth = torch.tensor([[0.3], [0.9]])
    unknown = head(film, torch.zeros(2, 66), depth)
    assert not torch.allclose(unknown, head(film, readings, depth), atol=1e-3)
    for block in [*head.down, head.middle, *head.up]:
        for parameter in block.modulation.parameters():
            torch.nn.init.zeros_(parameter)
    assert torch.equal(unknown, head(film, torch.zeros(2, 66), depth))


def test_the_film_is_seen_at_full_resolution():
    """A checkerboard of single pixels has the same 2 x 2 means as grey: only the first level can tell them apart."""
    torch.manual_seed(0)
    head = small_head()
    set_zero_layers(head)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    films = torch.stack([board, torch.zeros(16, 16)])[:, None]
    latents = head(films, torch.zeros(2, 66), torch.full((2, 1), 0.5))
    assert not torch.allclose(latents[0], latents[1], atol=1e-3)


def test_the_default_head_has_at_most_three_million_parameters():
    for size in (128, 256):
        head = MeanHead(image_size=size, readings_width=66)
        assert sum(parameter.numel() for parameter in head.parameters()) < 3e6
        assert head.base.shape == (24, 4, size // 4, size // 4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"downsampling": 6}, "`channels` must have more levels"),
        ({"channels": (8, 8)}, "`channels` must have more levels"),
        ({"image_size": 20}, "`image_size` must be a multiple of 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        small_head(**options)
    with pytest.raises(ValueError, match="`knots` must be at least 4"):
        spline_basis(torch.zeros(1), 3)


def test_every_parameter_of_the_head_gets_a_gradient():
    head, (film, readings) = small_head(), inputs()
    set_zero_layers(head)
    head(film, readings, torch.rand(2, 3)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in head.parameters())


def test_a_sample_is_the_mean_and_the_scaled_residual(small_network):
    """A denoiser that moves nothing leaves the noise as residual: mean + noise / scale, decoded."""
    network = network_like(small_network, mean=True)
    set_zero_layers(network.mean_head)
    network.residual_scale.fill_(8.0)
    film, readings = inputs()
    depths = torch.linspace(0, 1, 6)
    network._predict = lambda conditions, batches, latent, time: torch.zeros_like(latent)
    seen = []
    network.schedule.sample = lambda predict, noise, **_: (seen.append(noise), noise)[1]
    volume = network(film, readings)
    means = network.mean_latents(film, readings, depths)
    expected = network.decode(means[1] + seen[1] / 8.0)
    torch.testing.assert_close(volume[1, 0], expected[:, 0].permute(1, 2, 0))


def test_the_denoiser_is_told_the_mean_of_its_slices(small_network):
    network = network_like(small_network, mean=True)
    set_zero_layers(network.mean_head)
    network.slice_batch = 4
    told, plain = [], network.denoiser.forward

    def forward(*args, **conditions):
        told.append(conditions["mean"])
        return plain(*args, **conditions)

    network.denoiser.forward = forward
    film, readings = inputs(1)
    network(film, readings, steps=1)
    means = network.mean_latents(film, readings, torch.linspace(0, 1, 6))[0]
    torch.testing.assert_close(torch.cat(told), means)
    assert not torch.allclose(means[0], means[5])


def test_the_mean_is_one_step_and_needs_no_denoiser(small_network):
    network = network_like(small_network, mean=True)
    set_zero_layers(network.mean_head)
    film, readings = inputs()
    network.denoiser = None
    volume = network(film, readings, mean=True, slices=9)
    assert volume.shape == (2, 1, 16, 16, 9)
    latents = network.mean_latents(film, readings, torch.linspace(0, 1, 9))
    torch.testing.assert_close(volume[0, 0, ..., 4], network.decode(latents[0])[4, 0])
    assert torch.equal(volume, network(film, readings, mean=True, slices=9, seed=5))


def test_without_a_mean_head_the_mean_is_refused(small_network):
    with pytest.raises(ValueError, match=r"`mean` needs weights with a mean head.*train.json"):
        small_network(torch.zeros(1, 1, 16, 16), mean=True)


def test_weights_hold_the_head_and_its_scale(small_network, tmp_path):
    network = network_like(small_network, mean=True, pyramid=True)
    set_zero_layers(network.mean_head)
    network.residual_scale.fill_(3.0)
    path = save_weights(network, tmp_path / "model.pt", trained_on="test")
    other = load_weights(network_like(small_network, mean=True, pyramid=True), path)
    film, readings = inputs()
    assert other.residual_scale == 3.0
    torch.testing.assert_close(
        other(film, readings, mean=True), network(film, readings, mean=True), atol=1e-2, rtol=0, msg="half precision"
    )
    with pytest.raises(
        ValueError,
        match=r"`denoiser.unet.conv_in.conv.weight` has shape \(32, 12, 3, 3\), the network's has \(32, 8, 3, 3\)",
    ):
        load_weights(network_like(small_network), path)


def test_withheld_conditions_hide_the_mean(small_network):
    network = network_like(small_network, mean=True)
    noisy, one, two = (torch.randn(2, 4, 4, 4) for _ in range(3))
    conditions = {"depth": torch.rand(2), "readings": torch.ones(2, 66), "film": torch.zeros(2, 1, 16, 16)}
    conditions |= {"film_latent": noisy, "withheld": torch.tensor([True, False])}
    time = torch.tensor([100.0, 100.0])
    first, second = (network.denoiser(noisy, time, mean=mean, **conditions) for mean in (one, two))
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1])
    with pytest.raises(ValueError, match="`mean` must be given"):
        network.denoiser(noisy, time, **conditions)


def test_covariates_modulate_begin_at_nothing_and_unknown_ones_say_nothing():
    torch.manual_seed(0)
    head, (film, readings) = small_head(covariates_width=6), inputs()
    depth, known = torch.tensor([[0.3], [0.9]]), torch.rand(2, 6)
    for parameter in (head.last.weight, *(block.modulation.weight for block in head.down)):
        torch.nn.init.normal_(parameter, std=0.1)
    unknown = head(film, readings, depth)
    assert torch.equal(head(film, readings, depth, covariates=known), unknown), "a new head is the one without"
    set_zero_layers(head)
    told = head(film, readings, depth, covariates=known)
    assert not torch.allclose(told, head(film, readings, depth, covariates=known.flip(0)), atol=1e-3)
    assert torch.equal(head(film, readings, depth), head(film, readings, depth, covariates=torch.zeros(2, 6)))
    told.square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in head.parameters())
    with pytest.raises(ValueError, match="`covariates_width`"):
        small_head()(film, readings, depth, covariates=known)


def test_a_network_with_covariates_takes_the_weights_of_one_without(small_network, tmp_path):
    """Everything that it has more begins at zero: the same mean and the same sample, whatever it is told."""
    plain = network_like(small_network, mean=True)
    set_zero_layers(plain.mean_head)
    path = save_weights(plain, tmp_path / "model.pt", trained_on="test")
    told = network_like(small_network, mean=True, covariates=6)
    for layer in (module for block in [*told.mean_head.down, *told.mean_head.up] for module in block.more):
        torch.nn.init.zeros_(layer.weight)
    load_start(told, path)
    torch.nn.init.zeros_(told.denoiser.unet.covariates_head[2].weight)
    torch.nn.init.zeros_(told.denoiser.unet.covariates_head[2].bias)
    load_weights(plain, path)
    film, readings = inputs()
    known = torch.rand(2, 6)
    with torch.no_grad():
        assert torch.equal(told(film, readings, covariates=known), plain(film, readings))
        set_zero_layers(told.mean_head)
        set_zero_layers(told.denoiser)
        for mean in (True, False):
            one, other = (told(film, readings, covariates=value, mean=mean) for value in (known, known.flip(0)))
            assert not torch.allclose(one, other, atol=1e-3)
            nothing = told(film, readings, covariates=0 * known, mean=mean)
            assert torch.equal(told(film, readings, mean=mean), nothing)


def test_covariates_that_do_not_fit_are_refused(small_network):
    film, readings = inputs()
    with pytest.raises(ValueError, match=r"--covariates zeros"):
        network_like(small_network, mean=True)(film, readings, covariates=torch.zeros(2, 6), mean=True)
    with pytest.raises(ValueError, match=r"`covariates` must have shape \(2, 6\), got \(2, 10\)"):
        network_like(small_network, mean=True, covariates=6)(film, readings, covariates=torch.zeros(2, 10))
    with pytest.raises(ValueError, match="the same in `unet` and `mean_head`"):
        FilmToVolume(
            autoencoder=small_network.autoencoder,
            unet=small_unet(12, covariates=6),
            film_encoder=small_network.denoiser.film_encoder,
            schedule=small_network.schedule,
            image_size=16,
            slices=6,
            mean_head=small_head(),
        )
