"""Weights with a mean head, through configs, library and command: what they build, give, and refuse."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from made_up_set import write_set
from monai.bundle import ConfigParser
from small_network import set_zero_layers

import bundle
from bundle.api import Synthesiser
from bundle.inferers import VolumeInferer
from bundle.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
OVERLAYS = ("plain", "film_pyramid")


def built(base, *overlays, image_size=32):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in (base, *overlays)])
    parser["image_size"] = image_size
    torch.manual_seed(0)
    return parser.get_parsed_content("network_def")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    network = built("inference", "film_pyramid")
    set_zero_layers(network.denoiser)
    set_zero_layers(network.mean_head)
    return save_weights(network, tmp_path_factory.mktemp("weights") / "model.pt", trained_on="made-up")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = write_set(tmp_path_factory.mktemp("set"), image_size=32, slices=6, counts=(1, 1, 1))
    return next((folder / "films").glob("*.nii.gz"))


@pytest.mark.parametrize("base", ["train", "inference"])
@pytest.mark.parametrize("overlays", [(), OVERLAYS[:1], OVERLAYS[1:], OVERLAYS], ids="+".join)
def test_the_overlays_lie_over_both_alone_and_together(base, overlays):
    network = built(base, *overlays)
    assert (network.mean_head is not None) == ("plain" not in overlays)
    assert (network.denoiser.film_pyramid is not None) == ("film_pyramid" in overlays)
    assert sum(parameter.numel() for parameter in network.parameters()) < 12e6
    if network.mean_head is not None:
        assert sum(parameter.numel() for parameter in network.mean_head.parameters()) < 3e6


def test_weights_without_a_mean_head_build_the_plain_network(tmp_path):
    path = save_weights(built("inference", "plain"), tmp_path / "model.pt", trained_on="made-up")
    network = bundle.load(ROOT, weights=path)
    assert network.mean_head is None
    assert not [name for name in network.state_dict() if "mean" in name or "pyramid" in name or "residual" in name]


def test_weights_say_whether_slices_see_each_other(tmp_path):
    for overlays, together in (((), True), (("slices",), False)):
        path = save_weights(built("inference", *overlays), tmp_path / "model.pt", trained_on="made-up")
        network = bundle.load(ROOT, weights=path)
        assert (network.denoiser.unet.mixers is not None) == together
        assert network.noise_length_mm == (1.2 if together else 6.0)


def test_weights_build_the_network_that_they_are_of(weights):
    network = bundle.load(ROOT, weights=weights)
    assert network.mean_head is not None
    assert network.denoiser.film_pyramid is not None


def test_the_mean_is_drawn_in_one_step_and_recorded(weights, film):
    synthesiser = Synthesiser(ROOT, weights=weights)
    calls = []
    synthesiser.network.denoiser.register_forward_pre_hook(lambda *_: calls.append(1))
    mean = synthesiser(film, side="R", slices=4, mean=True)
    assert not calls
    assert mean.record["posterior_mean"] is True
    assert mean.record["steps"] == 1
    assert torch.equal(mean.volume, synthesiser(film, side="R", slices=4, mean=True, seed=9).volume)
    sample = synthesiser(film, side="R", slices=4, steps=1)
    assert calls
    assert sample.record["posterior_mean"] is False
    assert not torch.allclose(sample.volume.as_tensor(), mean.volume.as_tensor(), atol=1e-3)
    with pytest.raises(ValueError, match="`samples` must be 1 with `mean`"):
        synthesiser(film, side="R", mean=True, samples=2)


def test_samples_give_their_mean_and_spread(weights, film):
    """Three samples by hand: mean, and the standard deviation with n - 1."""
    synthesiser = Synthesiser(ROOT, weights=weights)
    options = {"slices": 2, "steps": 1, "seed": 4}
    result = synthesiser(film, side="R", samples=3, **options)
    batch = result.film.as_tensor()[None] * 2 - 1
    with torch.no_grad():
        drawn = [(synthesiser.network(batch, sample=k, **options)[0] + 1) / 2 for k in range(3)]
    torch.testing.assert_close(result.volume.as_tensor(), torch.stack(drawn).mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.spread.as_tensor(), torch.stack(drawn).std(0), atol=1e-5, rtol=0)
    assert result.spread.max() > 1e-3


def test_an_inferer_gives_the_mean_too(weights):
    network = bundle.load(ROOT, weights=weights)
    network.grid = type(network.grid)(32, 32, 3, network.grid.spacing_mm, network.grid.slice_spacing_mm)
    film = torch.zeros(1, 1, 32, 32)
    assert torch.equal(VolumeInferer(mean=True)(film, network), network(film, mean=True))
    with pytest.raises(ValueError, match="`samples`"):
        VolumeInferer(mean=True, samples=2)


def synthesise(*arguments):
    command = [sys.executable, "scripts/synthesise.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_writes_the_mean_and_the_samples_spread(weights, film, tmp_path):
    given = [film, "--weights", weights, "--slices", 3, "--device", "cpu", "--side", "R"]
    done = synthesise(*given, "--mean", "--out", tmp_path / "mean")
    assert done.returncode == 0, done.stderr
    sidecar = next((tmp_path / "mean").glob("*.json"))
    assert json.loads(sidecar.read_text())["posterior_mean"] is True
    done = synthesise(*given, "--samples", 2, "--steps", 1, "--out", tmp_path / "samples")
    assert done.returncode == 0, done.stderr
    spread = nib.load(next((tmp_path / "samples").glob("*_spread_synthetic.nii.gz")))
    assert np.asarray(spread.dataobj).max() > 0


def test_the_command_refuses_the_mean_of_weights_without_one(film, tmp_path):
    plain = save_weights(built("inference", "plain"), tmp_path / "plain.pt", trained_on="made-up")
    done = synthesise(film, "--mean", "--side", "R", "--weights", plain, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: `mean` needs weights with a mean head")
    assert not (tmp_path / "out").exists()
    assert synthesise(film, "--mean", "--samples", 2, "--out", tmp_path / "out").returncode == 2
