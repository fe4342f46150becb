"""The commands beside a plain training, on made-up volumes: slices alone, then together, and a student of two steps."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.geometry import Grid

ROOT = Path(__file__).resolve().parents[2]
SHORT = [
    "--autoencoder_epochs=1",
    "--mean_epochs=2",
    "--epochs=2",
    "--patches_per_volume=2",
    "--slices_per_volume=4",
    "--window=4",
    "--batch_size=8",
    "--patch_batch_size=8",
    "--patch_size=16",
    "--image_size=32",
    "--slices=12",
    "--val_interval=2",
    "--knee_finder=None",
]
FILMS = {
    "_desc_": "Made-up films lie on the grid already.",
    "film_preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "image_only": True, "ensure_channel_first": True},
            {"_target_": "bundle.transforms.EncodeReadingsd", "keys": "readings"},
        ],
    },
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """Four blurred random volumes as training set, one of them as validation and test set too."""
    root, grid, rng = tmp_path_factory.mktemp("made_up"), Grid.of(image_size=32, slices=12), np.random.default_rng(0)
    items = []
    for knee in range(4):
        volume = np.kron(rng.random((8, 8, 3)), np.ones((4, 4, 4))).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, grid.affine()), root / f"{knee}_mri.nii.gz")
        nib.save(nib.Nifti1Image(2 * volume.mean(-1) - 1, np.eye(4)), root / f"{knee}_film.nii.gz")
        names = {"film": f"{knee}_film.nii.gz", "mri": f"{knee}_mri.nii.gz"}
        items.append({**names, "participant": str(knee), "visit": "V00", "side": "R", "readings": {}})
    content = {"source": "made up", "training": items, "validation": items[:1], "test": items[:1]}
    (root / "dataset.json").write_text(json.dumps(content))
    (root / "films.json").write_text(json.dumps(FILMS))
    return root


def run(made_up, output, *names, base="train", options=()):
    files = [f"configs/{name}.json" for name in (base, *names)] + [str(made_up / "films.json")]
    command = [sys.executable, "-m", "monai.bundle", "run", *(["training"] if base == "train" else [])]
    command += ["--config_file", str(files), f"--dataset_dir={made_up}", f"--output_dir={output}"]
    return subprocess.run([*command, *SHORT, *options], cwd=ROOT, capture_output=True, text=True)


def losses(output):
    with (output / "losses.csv").open() as file:
        return [(row["stage"], int(row["epoch"]), float(row["loss"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def alone(made_up, tmp_path_factory):
    """Weights of slices on their own."""
    output = tmp_path_factory.mktemp("alone")
    done = run(made_up, output, "slices", options=["--window=None"])
    assert done.returncode == 0, done.stderr
    return output / "model.pt"


@pytest.fixture(scope="module")
def teacher(made_up, tmp_path_factory):
    output = tmp_path_factory.mktemp("teacher")
    done = run(made_up, output)
    assert done.returncode == 0, done.stderr
    return output / "model.pt"


def test_attention_goes_on_from_weights_of_slices_alone_and_infers(made_up, alone, tmp_path):
    """Trained alone, the mixers move and the rest is the start's: average and file must show it."""
    options = [f"--pretrained={alone}", "--stages=['diffusion']", "--trained_parts=['unet.mixers']"]
    done = run(made_up, tmp_path, options=options)
    assert done.returncode == 0, done.stderr
    old, new = (torch.load(path, weights_only=True) for path in (alone, tmp_path / "model.pt"))
    assert {name for name in new if name not in old} == {name for name in new if ".mixers." in name} != set()
    for name in old:
        if name.startswith("denoiser"):
            torch.testing.assert_close(new[name], old[name], atol=1e-3, rtol=1e-3)
    assert new["denoiser.unet.mixers.0.out.weight"].abs().max() > 0
    weights = f"--weights={tmp_path / 'model.pt'}"
    done = run(made_up, tmp_path / "volumes", base="inference", options=[weights, "--sampling_steps=2"])
    assert done.returncode == 0, done.stderr
    assert nib.load(tmp_path / "volumes" / "0_film_mri_synthetic.nii.gz").shape == (32, 32, 12)


def test_a_student_trains_resumes_and_infers(made_up, teacher, tmp_path):
    options = [f"--teacher={teacher}", "--sampling_steps=2", "--teacher_steps=4"]
    for folder, runs in (("whole", (3,)), ("parts", (1, 3))):
        for epochs in runs:
            done = run(made_up, tmp_path / folder, "distil", options=[*options, f"--epochs={epochs}"])
            assert done.returncode == 0, done.stderr
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert [row[:2] for row in whole] == [("diffusion", epoch) for epoch in (1, 2, 3)]
    assert [row[:2] for row in parts] == [row[:2] for row in whole]
    assert parts[0][2] == pytest.approx(whole[0][2], rel=0.5)
    weights = f"--weights={tmp_path / 'whole' / 'model.pt'}"
    done = run(made_up, tmp_path / "volumes", base="inference", options=[weights, "--sampling_steps=2"])
    assert done.returncode == 0, done.stderr
    assert nib.load(tmp_path / "volumes" / "0_film_mri_synthetic.nii.gz").shape == (32, 32, 12)


def test_a_missing_teacher_ends_the_command_with_one_line(made_up, tmp_path):
    done = run(made_up, tmp_path / "none", "distil", options=[f"--teacher={tmp_path / 'absent.pt'}"])
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("error: weights")
    assert not (tmp_path / "none").exists()
