"""Conditions in training: covariates reach the denoiser, and what is withheld is what guidance withholds."""

import math
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from small_network import network_like, set_zero_layers
from torch.utils.data import default_collate

from bundle import covariates
from bundle.engines import PrepareDenoising, PrepareFilm
from bundle.inferers import VolumeInferer
from bundle.keys import COVARIATES, FILM, READINGS
from bundle.networks.extra_tokens import ExtraTokenAttention
from bundle.networks.one_token import replace_cross_attention
from bundle.transforms import EncodeCovariatesd

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_missing_covariates_are_whatever_a_data_list_says_it_with():
    """`pairs` gives NaN and the empty text; a request gives no entry or None."""
    encode = EncodeCovariatesd("mask")
    knee = {"age": math.nan, "sex": "", "bmi": 26.0, "side": "L", "participant": "9"}
    assert encode(knee)[COVARIATES].tolist() == [0, 0, 0, -0.5, 0, 1, 0, 0, 1, 1]
    assert torch.equal(encode({"bmi": 26.0, "side": "L", "age": None})[COVARIATES], encode(knee)[COVARIATES])
    with pytest.raises(ValueError, match=r"participant 9: `age` must be a number"):
        encode(knee | {"age": 7.0})
    with pytest.raises(ValueError, match="`policy`"):
        EncodeCovariatesd("grade0")


@pytest.mark.parametrize("policy", [None, "zeros", "mask"])
@pytest.mark.parametrize("base", ["train", "inference"])
def test_one_option_turns_covariates_on_in_network_and_preprocessing(base, policy):
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / f"{base}.json"))
    parser["bundle_root"], parser["covariates"] = str(CONFIGS.parent), policy
    head = parser.get_parsed_content("network_def").denoiser.unet.covariates_head
    steps = parser.get_parsed_content("film_preprocessing").transforms
    encoders = [step for step in steps if isinstance(step, EncodeCovariatesd)]
    if policy is None:
        assert head is None
        assert not encoders
    else:
        assert head[0].in_features == covariates.width(policy)
        assert [step.policy for step in encoders] == [policy]


@pytest.fixture
def told(small_network):
    """The small network with a head for covariates, not at zero."""
    torch.manual_seed(3)
    unet = small_network.denoiser.unet
    unet.covariates_head = torch.nn.Sequential(
        torch.nn.Linear(covariates.width(), 128), torch.nn.SiLU(), torch.nn.Linear(128, 128)
    )
    return small_network


def test_covariates_reach_the_denoiser_in_training_and_the_volume_in_inference(knees, told, latents):
    knees = [knee | EncodeCovariatesd()({"age": 50.0 + 9 * n, "sex": "M"}) for n, knee in enumerate(knees)]
    dataset = latents(knees, told)
    noisy, _, _, conditions = PrepareDenoising(told.schedule)(default_collate([dataset[n] for n in range(12)]))
    assert torch.equal(conditions["covariates"][::4], torch.stack([knee[COVARIATES] for knee in knees]))
    with torch.no_grad():
        prediction = told.denoiser(noisy, **conditions)
        other = told.denoiser(noisy, **conditions | {"covariates": conditions["covariates"].flip(0)})
        assert not torch.allclose(prediction, other)
        film, _, _, given = PrepareFilm()(default_collate(knees[:1]))
        volume = VolumeInferer()(film, told, **given)
        unknown = VolumeInferer()(film, told, readings=given["readings"])
        zeros = VolumeInferer()(film, told, readings=given["readings"], covariates=torch.zeros(1, 6))
    assert not torch.allclose(volume, unknown)
    assert torch.equal(unknown, zeros), "unknown is in inference what it was in training"


def test_without_covariates_and_dropout_an_item_has_neither(knees, small_network, latents):
    assert set(latents(knees, small_network)[0]) == {
        *("latent", "noise", "time", "depth", "film_latent", "knee"),
        *(FILM, READINGS),
    }


def test_dropout_withholds_the_named_share_and_leaves_every_other_draw(knees, small_network, latents):
    plain = latents(knees, small_network, slices_per_volume=200)
    dropped = latents(knees, small_network, slices_per_volume=200, condition_dropout=0.2)
    withheld = [bool(dropped[index]["withheld"]) for index in range(600)]
    assert 90 <= sum(withheld) <= 150  # 120, and three standard deviations of 9.8
    first, second = plain[5], dropped[5]
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ValueError, match=r"`condition_dropout` must lie in \[0, 1\], got 1.5"):
        latents(knees, small_network, condition_dropout=1.5)


def test_what_training_withholds_is_the_unconditional_branch_of_guidance(knees, small_network, latents):
    """At guidance scale 0 a volume is the unconditional branch's alone: it must not know film and readings."""
    items = [latents(knees, small_network, condition_dropout=1.0)[index] for index in (0, 5, 10)]
    noisy, _, _, conditions = PrepareDenoising(small_network.schedule)(default_collate(items))
    assert conditions["withheld"].all()
    with torch.no_grad():
        prediction = small_network.denoiser(noisy, **conditions)
        nothing = {name: torch.zeros_like(conditions[name]) for name in ("film_latent", "readings")}
        by_hand = small_network.denoiser(
            noisy, **{name: conditions[name] for name in ("time", "depth")}, **nothing, context=torch.zeros(3, 1, 16)
        )
        torch.testing.assert_close(prediction, by_hand, rtol=0, atol=0)
        small_network.guidance_scale = 0.0
        first, second = (small_network(knee[FILM][None], knee[READINGS][None]) for knee in knees[:2])
    assert torch.equal(first, second)


def test_further_tokens_reach_the_denoiser_in_training_and_the_volume_in_inference(knees, small_network, latents):
    replace_cross_attention(small_network.denoiser.unet, ExtraTokenAttention)
    small_network.denoiser.unet.extra_tokens = True
    set_zero_layers(small_network.denoiser)
    generator = torch.Generator().manual_seed(0)
    knees = [knee | {"tokens": torch.randn(2, 16, generator=generator)} for knee in knees]
    dataset = latents(knees, small_network, condition_dropout=0.5)
    batch = default_collate([dataset[n] for n in range(12)])
    noisy, _, _, conditions = PrepareDenoising(small_network.schedule)(batch)
    withheld = conditions["withheld"]
    assert 0 < withheld.sum() < 12
    with torch.no_grad():
        prediction = small_network.denoiser(noisy, **conditions)
        other = small_network.denoiser(noisy, **conditions | {"tokens": conditions["tokens"] + 1})
        changed = (prediction - other).abs().flatten(1).amax(1) > 1e-4
        assert torch.equal(changed, ~withheld)
        film, _, _, given = PrepareFilm()(default_collate(knees[:1]))
        told, untold = VolumeInferer()(film, small_network, **given), VolumeInferer()(film, small_network)
    assert given["tokens"].shape == (1, 2, 16)
    assert not torch.allclose(told, untold)


def test_guidance_leaves_the_mean_and_works_on_what_it_leaves_over(small_network):
    """At scale 0 the residual is the unconditional branch's, the same for every film; at 2 it is twice as far."""
    network = network_like(small_network, mean=True)
    set_zero_layers(network.mean_head)
    films, readings = torch.rand(2, 1, 16, 16), torch.eye(66)[:2]
    means = network.mean_latents(films, readings, torch.linspace(0, 1, 6))
    residuals = {}
    for scale in (0.0, 1.0, 2.0):
        network.guidance_scale, found = scale, []
        network._decode = lambda latent, *_, found=found: found.append(latent) or torch.zeros(1, 16, 16, 6)
        with torch.no_grad():
            network(films, readings, steps=1)
        residuals[scale] = torch.stack(found) - means
    torch.testing.assert_close(residuals[0.0][0], residuals[0.0][1], atol=1e-5, rtol=0)
    assert not torch.allclose(residuals[1.0][0], residuals[1.0][1], atol=1e-3)
    torch.testing.assert_close(residuals[2.0], 2 * residuals[1.0] - residuals[0.0], atol=1e-4, rtol=0)
