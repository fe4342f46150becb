"""Configs: they parse, agree with one another and with the metadata, and pass MONAI's own checks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

import bundle
from bundle.geometry import Grid

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
STANDALONE = ("train", "inference")
SHARED = (
    "image_size",
    "slices",
    "grade_table",
    "missing_readings",
    "covariates",
    "sampling_steps",
    "noise_correlation",
    "noise_length_mm",
    "depth_mixing",
    "noise_schedule",
    "network_def",
    "network",
    "film_spacing_mm",
    "film_preprocessing",
)
OVERLAYS_OF_BOTH = ("smoke",)


def read(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


def parser(*names):
    result = ConfigParser()
    result.read_config([str(CONFIGS / f"{name}.json") for name in names])
    result["bundle_root"] = str(ROOT)
    return result


@pytest.mark.parametrize("entry", SHARED)
def test_what_training_and_inference_share_is_the_same(entry):
    assert read("train")[entry] == read("inference")[entry]


def test_both_prepare_real_volumes_alike():
    assert read("train")["mri_preprocessing"] == read("evaluate")["mri_preprocessing"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_configs_say_what_they_are_and_import_the_bundle_alone(path):
    config = json.loads(path.read_text())
    if path.stem == "metadata":
        return
    assert config["_desc_"]
    for line in config.get("imports", []):
        assert line in ("$import bundle", "$import torch", "$import os")


@pytest.mark.parametrize("base", STANDALONE)
@pytest.mark.parametrize("overlay", OVERLAYS_OF_BOTH)
def test_overlays_lie_over_both(base, overlay):
    config = parser(base, overlay)
    assert config["image_size"] == read(overlay)["image_size"]
    network = config.get_parsed_content("network_def")
    assert network.grid == Grid.of(image_size=config["image_size"], slices=config["slices"])


def test_the_plan_of_slices_compares_noise_and_attention_at_equal_cost():
    """Two switches in all four ways, trained on as many slices."""
    plan = json.loads((CONFIGS / "tables" / "slices.json").read_text())
    found = {}
    for row in plan["rows"]:
        for base in STANDALONE:
            config = parser(base, *row.get("overlays", []), *plan["sizes"])
            network = config.get_parsed_content("network_def")
            found[row["key"]] = (network.noise_correlation, network.denoiser.unet.mixers is not None)
    assert found == {
        "off": ("shared", False),
        "noise": ("correlated", False),
        "attention": ("shared", True),
        "both": ("correlated", True),
    }
    assert plan["options"]["slices_per_volume"] % read("train")["window"] == 0
    assert not any("slices_per_volume" in row.get("options", {}) for row in plan["rows"])


def test_edge_spread_joins_the_measures_of_an_evaluation():
    config = parser("inference", "evaluate", "evaluate_edges")
    assert set(config["method_metrics"]) == {*read("evaluate")["method_metrics"], "edge_spread"}
    assert set(config["real_metrics"]) == {*read("evaluate")["real_metrics"], "edge_spread"}


@pytest.mark.parametrize("base", STANDALONE)
@pytest.mark.parametrize("sizes", [(), ("smoke",)])
def test_slices_see_each_other_unless_the_overlay_says_not(base, sizes):
    network = parser(base, *sizes).get_parsed_content("network_def")
    assert list(network.denoiser.unet.mixers) == ["0", "1", "2"]
    config = parser(base, *sizes, "slices")
    assert config.get_parsed_content("network_def").denoiser.unet.mixers is None
    assert config["window"] is None


@pytest.mark.parametrize("base", STANDALONE)
def test_the_papers_slices_are_on_their_own_and_can_be_made_to_see_each_other(base):
    config = parser(base, "paper")
    with torch.device("meta"):
        assert config.get_parsed_content("network_def").denoiser.unet.mixers is None
    assert config["window"] is None
    changed = parser(base, "paper")
    changed["depth_mixing"] = read("train")["depth_mixing"]
    with torch.device("meta"):
        assert list(changed.get_parsed_content("network_def").denoiser.unet.mixers) == ["0", "1", "2"]


def test_a_slice_attends_no_further_than_a_window_shows():
    """And a knee gives whole windows."""
    config = read("train")
    seen_mm = (config["window"] - 1) * Grid.of(
        image_size=config["image_size"], slices=config["slices"]
    ).slice_spacing_mm
    assert config["depth_mixing"]["reach_mm"] <= seen_mm
    assert config["slices_per_volume"] % config["window"] == 0


def test_the_compact_network_is_small_and_gives_the_metadatas_volume():
    network = parser("inference").get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) < 12e6
    formats = read("metadata")["network_data_format"]
    assert [1, *formats["inputs"]["image"]["spatial_shape"]] == [1, network.grid.rows, network.grid.columns]
    assert tuple(formats["outputs"]["pred"]["spatial_shape"]) == network.grid.shape


@pytest.mark.parametrize(("name", "kind"), [("train", "train"), ("inference", "infer")])
def test_every_property_can_be_built_with_no_checkpoint_present(prepared, tmp_path, name, kind):
    workflow = ConfigWorkflow(
        workflow_type=kind,
        config_file=str(CONFIGS / f"{name}.json"),
        meta_file=str(CONFIGS / "metadata.json"),
        bundle_root=str(ROOT),
        dataset_dir=str(prepared),
        output_dir=str(tmp_path / "nothing"),
        weights=str(tmp_path / "none.pt"),
    )
    workflow.initialize()
    assert not workflow.check_properties()
    assert not (tmp_path / "nothing").exists(), "building must not write"


def test_monai_verifies_the_networks_input_and_output():
    """The zoo's own check, on the smoke overlay so that it takes seconds."""
    files = [f"configs/{name}.json" for name in ("inference", "smoke")]
    command = [
        *("-m", "monai.bundle", "verify_net_in_out", "network_def"),
        *("--meta_file", "configs/metadata.json", "--config_file", str(files), "--image_size=128"),
    ]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "verified with no error" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("names", "what", "reason"), [(("train",), "training", "make data"), (("inference",), None, "make data")]
)
def test_a_command_without_data_ends_with_one_line(tmp_path, names, what, reason):
    command = ["-m", "monai.bundle", "run", *([what] if what else [])]
    command += ["--config_file", f"configs/{names[0]}.json", "--dataset_dir", str(tmp_path / "absent")]
    done = subprocess.run(
        [sys.executable, *command, "--output_dir", str(tmp_path / "out")], cwd=ROOT, capture_output=True
    )
    assert done.returncode != 0
    last = done.stderr.decode().strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert reason in last
    assert b"Traceback" not in done.stderr
    assert not (tmp_path / "out" / "model.pt").exists()


def test_no_config_expression_reads_what_a_request_may_set():
    """MONAI Label writes a request's parameters into the config: `displayable_configs` must stay unreferenced."""
    text = (CONFIGS / "inference.json").read_text()
    assert "@displayable_configs" not in text


def test_the_version_is_the_same_everywhere():
    assert read("metadata")["version"] == bundle.__version__
