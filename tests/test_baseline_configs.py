"""The overlays of the baselines: what they say they follow, what they lie over, what they build."""

import json
from pathlib import Path

import pytest
import torch
from made_up_set import write_set
from monai.bundle import ConfigParser

from bundle.api import BASELINES, load
from bundle.networks import CAEGenerator
from bundle.networks.film_conditioning import FILM_CONDITIONINGS
from bundle.networks.kl_mean import KLMean
from bundle.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
DENOISERS = dict(sorted(BASELINES.items()))
TRAINED = (*DENOISERS.values(), "cae_generator")
WEIGHTLESS = ("mean_volume", "kl_mean", "nearest_film")
SMALL = {
    "image_size": 32,
    "slices": 6,
    "network_def#autoencoder#channels": [8, 8, 8],
    "network_def#autoencoder#norm_num_groups": 4,
    "network_def#unet#channels": [16, 16],
    "network_def#unet#num_res_blocks": [1, 1],
    "network_def#unet#attention_levels": [False, True],
    "network_def#unet#num_head_channels": 8,
    "network_def#unet#norm_num_groups": 4,
}


def read(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


def parser(*names, changes=None):
    result = ConfigParser()
    result.read_config([str(CONFIGS / f"{name}.json") for name in names])
    for name, value in {"bundle_root": str(ROOT), **(changes or {})}.items():
        result[name] = value
    return result


def test_every_baseline_of_the_issue_has_its_overlay_and_every_choice_its_baseline():
    assert sorted(path.stem for path in (CONFIGS / "baselines").glob("*.json")) == sorted([*TRAINED, *WEIGHTLESS])
    assert set(DENOISERS) == set(FILM_CONDITIONINGS) - {"paper"}


@pytest.mark.parametrize("name", TRAINED)
def test_they_say_what_they_follow_and_are_called_re_implementations(name):
    overlay = read(f"baselines/{name}")
    assert overlay["run_name"] == name
    assert "et al." in overlay["_desc_"] or "Wang, Chetouani, Jennane" in overlay["_desc_"]
    assert "Not followed" in overlay["_desc_"] or "Decided here" in overlay["_desc_"]
    assert overlay["+methods"]["pred"].endswith("(re-implementation)")


@pytest.mark.parametrize("base", ["train", "inference"])
@pytest.mark.parametrize("sizes", [(), ("paper",)], ids=["compact", "paper"])
@pytest.mark.parametrize("name", DENOISERS.values())
def test_denoisers_lie_over_both_configs_and_both_sizes(base, sizes, name):
    config = parser(base, *sizes, f"baselines/{name}")
    with torch.device("meta"):
        network = config.get_parsed_content("network_def")
    told = FILM_CONDITIONINGS[next(key for key, value in DENOISERS.items() if value == name)]
    assert network.denoiser.unet.in_channels == 4 * (1 + told.latents)
    assert (network.denoiser.film_encoder is not None) == told.token
    assert config["weights"] == "$@bundle_root + '/runs/' + @run_name + '/model.pt'"


@pytest.mark.parametrize("name", [*TRAINED, *WEIGHTLESS])
def test_the_evaluations_table_has_the_baselines_name_and_keeps_its_other_rows(name):
    methods = parser("inference", "evaluate", f"baselines/{name}")["methods"]
    assert methods["pred"] == read(f"baselines/{name}")["+methods"]["pred"]
    assert {key: value for key, value in methods.items() if key != "pred"} == {
        key: value for key, value in read("evaluate")["methods"].items() if key != "pred"
    }


@pytest.mark.parametrize("base", ["train", "inference"])
def test_the_cae_generator_lies_over_both(base):
    config = parser(base, "baselines/cae_generator")
    with torch.device("meta"):
        network = config.get_parsed_content("network_def")
    assert network.grid.shape == (128, 128, 50)
    assert network.cae.generator[-1].out_channels == 20


def test_the_cae_generators_trainer_can_be_built(tmp_path):
    write_set(tmp_path / "set", image_size=32, slices=6, counts=(3, 1, 1))
    changes = {"dataset_dir": str(tmp_path / "set"), "output_dir": str(tmp_path / "out"), "image_size": 32}
    changes |= {"slices": 6, "cae_width": 4, "batch_size": 2, "device": "cpu"}
    config = parser("train", "baselines/cae_generator", changes=changes)
    trainer = config.get_parsed_content("cae::trainer")
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    assert rates == [pytest.approx(1e-3), pytest.approx(1e-4)]
    generator = set(map(id, trainer.network.generator.parameters()))
    assert {id(p) for p in trainer.optimizer.param_groups[1]["params"]} == generator
    assert len(trainer.data_loader) == 1, "three knees in batches of two, the last of one dropped"
    assert not (tmp_path / "out").exists(), "building must not write"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("made") / "set", image_size=32, slices=6)


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_weightless_ones_are_the_evaluations_model_fitted_on_the_training_split(made_up, name):
    changes = {"dataset_dir": str(made_up), "image_size": 32, "slices": 6, "device": "cpu"}
    config = parser("inference", "evaluate", f"baselines/{name}", changes=changes)
    assert config.get_parsed_content("weights") is None
    network = config.get_parsed_content("load")
    assert network is config.get_parsed_content("network")
    assert network is config.get_parsed_content("evaluator").network
    assert int(network.count) == 6
    if isinstance(network, KLMean):
        assert network.counts.tolist() == [2, 1, 1, 1, 1]
    item = config.get_parsed_content("dataset")[0]
    volume = network(item["image"][None].as_tensor(), item["readings"][None])
    assert volume.shape == (1, 1, 32, 32, 6)
    assert (volume - item["mri"][None]).square().mean() < 0.3


@pytest.mark.parametrize("kind", [*DENOISERS, "cae"])
def test_weights_bring_their_own_overlay(tmp_path, kind):
    """`bundle.load` builds a baseline's network from what its weights say; here all on a small compact model."""
    name = DENOISERS.get(kind, "cae_generator")
    changes = SMALL if kind != "cae" else {"image_size": 16, "slices": 6}
    network = parser("inference", f"baselines/{name}", changes=changes).get_parsed_content("network_def")
    save_weights(network, tmp_path / "model.pt", trained_on="made-up")
    root = tmp_path / "root"
    (root / "configs" / "baselines").mkdir(parents=True)
    (root / "configs" / "inference.json").write_text(json.dumps(parser("inference", changes=changes).get()))
    for overlay in ("slices", "plain", f"baselines/{name}"):
        (root / "configs" / f"{overlay}.json").write_text(json.dumps(read(overlay)))
    loaded = load(root, weights=tmp_path / "model.pt")
    assert type(loaded) is type(network)
    assert isinstance(loaded, CAEGenerator) == (kind == "cae")
    assert loaded.state_dict().keys() == network.state_dict().keys()
