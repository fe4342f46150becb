"""Each baseline by the commands that a table's runner types: trained for a step where there is one, and scored."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_set import write_set

from bundle.weights import read_weights

ROOT = Path(__file__).resolve().parents[2]
DENOISERS = ("ldm", "ldm_film", "cola_diff", "x_diffusion")
GRID = {"image_size": 32, "slices": 6, "epochs": 1, "batch_size": 4, "val_interval": 1, "validation_volumes": 1}
TINY = {
    **GRID,
    "patch_size": 16,
    "patches_per_volume": 1,
    "patch_batch_size": 6,
    "autoencoder_epochs": 1,
    "slices_per_volume": 1,
    "sampling_steps": 2,
    "network_def#autoencoder#channels": [8, 8, 8],
    "network_def#autoencoder#norm_num_groups": 4,
    "network_def#unet#channels": [16, 16],
    "network_def#unet#num_res_blocks": [1, 1],
    "network_def#unet#attention_levels": [False, True],
    "network_def#unet#num_head_channels": 8,
    "network_def#unet#norm_num_groups": 4,
}
CAE = {**GRID, "cae_width": 4, "generated_slices": 4}
NAMES = {name: TINY for name in DENOISERS} | {"cae_generator": CAE}
STAGES = {name: ["autoencoder", "diffusion"] for name in DENOISERS} | {"cae_generator": ["cae"]}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("baselines")
    write_set(root / "set", image_size=32, slices=6)
    for name, changes in NAMES.items():
        (root / f"{name}.json").write_text(json.dumps({"_desc_": "The smallest sizes.", **changes}))
    return root


def run(folder, what, *files, output, more=()):
    names = [file if file.startswith("/") else f"configs/{file}.json" for file in files]
    options = [f"--config_file={names}", f"--dataset_dir={folder / 'set'}", f"--output_dir={output}", *more]
    subprocess.run([sys.executable, "-m", "monai.bundle", "run", what, *options], cwd=ROOT, check=True)


def check_scores(output, name):
    summary = json.loads((output / "summary.json").read_text())
    assert summary["knees"] == 2
    with (output / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "pred"]
    assert len(rows) == 2
    assert all(float(row["psnr"]) > 0 for row in rows)
    title = json.loads((ROOT / "configs" / "baselines" / f"{name}.json").read_text())["+methods"]["pred"]
    assert title in (output / "report.html").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_baseline_leaves_weights_that_its_evaluation_scores(folder, tmp_path, name):
    overlays, tiny = f"baselines/{name}", str(folder / f"{name}.json")
    run(folder, "training", "train", overlays, tiny, output=tmp_path / "run")
    with (tmp_path / "run" / "losses.csv").open() as file:
        assert [row["stage"] for row in csv.DictReader(file)] == STAGES[name]
    state = read_weights(tmp_path / "run" / "model.pt")
    assert any(key.startswith("cae.") for key in state) == (name == "cae_generator")
    assert ("film_conditioning" in state) == (name in DENOISERS)
    weights = [f"--weights={tmp_path / 'run' / 'model.pt'}"]
    run(folder, "evaluation", "inference", "evaluate", overlays, tiny, output=tmp_path / "eval", more=weights)
    check_scores(tmp_path / "eval", name)


@pytest.mark.parametrize("name", ["mean_volume", "kl_mean", "nearest_film"])
def test_a_weightless_baseline_is_scored_without_training(folder, tmp_path, name):
    sizes = ["--image_size=32", "--slices=6"]
    run(folder, "evaluation", "inference", "evaluate", f"baselines/{name}", output=tmp_path, more=sizes)
    check_scores(tmp_path, name)
    if name == "mean_volume":
        with (tmp_path / "metrics.csv").open() as file:
            scores = {(row["method"], row["participant"]): row["psnr"] for row in csv.DictReader(file)}
        for (method, participant), psnr in scores.items():
            if method == "pred":
                assert psnr == scores["mean_volume", participant], "the model of this run is the mean volume"


def test_a_cae_training_goes_on_where_it_stopped(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for output, runs in ((whole, (3,)), (parts, (1, 3))):
        for epochs in runs:
            files = ("train", "baselines/cae_generator", str(folder / "cae_generator.json"))
            run(folder, "training", *files, output=output, more=[f"--epochs={epochs}", "--val_interval=9"])
    assert (whole / "losses.csv").read_text() == (parts / "losses.csv").read_text()
    assert (whole / "model.pt").read_bytes() == (parts / "model.pt").read_bytes()
