"""Mean and residual by the commands that a user types: trained in three stages, killed and resumed, and sampled."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from made_up_set import write_set

from bundle.weights import read_weights

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "_desc_": "Overlay: the smallest networks that have every part.",
    "image_size": 32,
    "slices": 6,
    "patch_size": 16,
    "patches_per_volume": 4,
    "patch_batch_size": 8,
    "autoencoder_epochs": 2,
    "mean_epochs": 3,
    "mean_batch_size": 2,
    "joint_band_weight": 0.1,
    "joint_band_slices": 1,
    "joint_band_from": 3,
    "epochs": 3,
    "slices_per_volume": 2,
    "window": 2,
    "depth_mixing": {"num_head_channels": 8, "reach_mm": 15.0, "pitch_mm": 15.0},
    "batch_size": 4,
    "val_interval": 3,
    "validation_volumes": 1,
    "sampling_steps": 2,
    "network_def#autoencoder#channels": [8, 8, 8],
    "network_def#autoencoder#norm_num_groups": 4,
    "network_def#unet#channels": [16, 16],
    "network_def#unet#num_res_blocks": [1, 1],
    "network_def#unet#attention_levels": [False, True],
    "network_def#unet#num_head_channels": 8,
    "network_def#unet#norm_num_groups": 4,
    "network_def#mean_head#channels": [8, 8, 16, 16],
    "network_def#mean_head#knots": 6,
    "network_def#film_pyramid#widths": [8, 8, 8, 16],
    "network_def#film_pyramid#unet_channels": [16, 16],
}
STAGES = [("autoencoder", 1), ("autoencoder", 2)] + [(stage, n) for stage in ("mean", "diffusion") for n in (1, 2, 3)]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Made-up knees, and the command's first options."""
    folder = tmp_path_factory.mktemp("mean")
    write_set(folder / "set", image_size=32, slices=6)
    (folder / "tiny.json").write_text(json.dumps(TINY))
    return folder


def command(setting, first, *, run, output, more=()):
    files = [f"configs/{name}.json" for name in (first, "film_pyramid")] + [str(setting / "tiny.json")]
    options = [f"--config_file={files}", f"--dataset_dir={setting / 'set'}", f"--output_dir={output}"]
    return [sys.executable, "-m", "monai.bundle", "run", run, *options, *more]


def losses(output):
    path = output / "losses.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return [(row["stage"], int(row["epoch"]), row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(setting):
    output = setting / "whole"
    subprocess.run(command(setting, "train", run="training", output=output), cwd=ROOT, check=True)
    return output


def test_three_stages_leave_their_losses_and_one_file(trained):
    assert [row[:2] for row in losses(trained)] == STAGES
    mean = [float(row[2]) for row in losses(trained) if row[0] == "mean"]
    assert mean[1] < mean[0]
    assert mean[2] > mean[1], "the joint band's term comes last"
    state = read_weights(trained / "model.pt")
    assert state["residual_scale"] > 0
    assert state["residual_scale"] != 1
    assert state["mean_head.base"].abs().max() > 0
    assert any(name.startswith("denoiser.film_pyramid.into") and value.abs().max() > 0 for name, value in state.items())
    assert (trained / "validation.csv").is_file()


@pytest.mark.parametrize("moment", [("mean", 1), ("mean", 3), ("diffusion", 1)])
def test_a_killed_training_resumes_to_the_same_weights(setting, trained, tmp_path, moment):
    arguments = command(setting, "train", run="training", output=tmp_path)
    process = subprocess.Popen(arguments, cwd=ROOT)
    deadline = time.monotonic() + 300
    while moment not in [row[:2] for row in losses(tmp_path)]:
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "model.pt").exists()
    subprocess.run(arguments, cwd=ROOT, check=True)
    assert losses(tmp_path) == losses(trained)
    assert (tmp_path / "model.pt").read_bytes() == (trained / "model.pt").read_bytes()


@pytest.mark.parametrize("mean", [False, True])
def test_inference_gives_samples_and_the_mean(setting, trained, tmp_path, mean):
    weights = [f"--weights={trained / 'model.pt'}", f"--inferer#mean={mean}"]
    subprocess.run(command(setting, "inference", run="run", output=tmp_path, more=weights), cwd=ROOT, check=True)
    volumes = sorted(tmp_path.glob("*_mri_synthetic.nii.gz"))
    assert len(volumes) == 2
    assert all(nib.load(path).shape == (32, 32, 6) for path in volumes)


def test_twins_teach_the_mean_head_what_a_reading_changes(setting, trained, tmp_path):
    """Twins have a bright corner, and a cyst is read: what is told of readings learns it, the other parts stay."""
    twins = tmp_path / "twins"
    shutil.copytree(setting / "set", twins)
    content = json.loads((twins / "dataset.json").read_text())
    for item in content["training"]:
        item["readings"]["XRCYTM"] = 1
        image = nib.load(twins / item["mri"])
        values = np.asarray(image.dataobj)
        values[:8, :8] = 1.0
        nib.save(nib.Nifti1Image(values, image.affine), twins / item["mri"])
    (twins / "dataset.json").write_text(json.dumps(content))
    # the last layer, too, which the tiny training has hardly moved from zero
    parts = "['told','*.modulation','last']"
    options = [f"--twins_dir={twins}", f"--pretrained={trained / 'model.pt'}", "--stages=['mean','diffusion']"]
    options += ["--mean_epochs=40", "--mean_warm_up_steps=5", "--mean_learning_rate=0.01", "--twin_weight=100"]
    options += [f"--mean_trained_parts={parts}", "--fresh_parts=['mean_head.told','mean_head.*.modulation']"]
    subprocess.run(
        command(setting, "train", run="training", output=tmp_path / "run", more=options), cwd=ROOT, check=True
    )
    before, after = (read_weights(path / "model.pt") for path in (trained, tmp_path / "run"))
    for name, value in before.items():
        told = name.startswith(("mean_head.told", "mean_head.last")) or ".modulation." in name
        if name.startswith("mean_head."):
            assert torch.equal(after[name], value) != told, name
    assert json.loads((tmp_path / "run" / "config.json").read_text())["twin_weight"] == 100
    mean = [float(row[2]) for row in losses(tmp_path / "run") if row[0] == "mean"]
    assert mean[-1] < 0.7 * mean[0], "nearly all of it is the error of the twins' difference"
