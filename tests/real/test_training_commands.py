"""The training command as a user types it: killed and resumed, and on two ranks."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = [
    "--autoencoder_epochs=2",
    "--mean_epochs=2",
    "--mean_repeats=2",  # an even number of items, or the second of two ranks is given one twice; so below
    "--epochs=4",
    "--patches_per_volume=4",
    "--slices_per_volume=4",
    "--window=2",
    "--batch_size=8",
    "--patch_batch_size=8",
    "--val_interval=4",
]
TRAINING = ["-m", "monai.bundle", "run", "training"]
pytestmark = pytest.mark.slow


def configs(*names):
    return "--config_file=[" + ",".join(f"'configs/{name}.json'" for name in names) + "]"


def command(prepared, output, *names):
    options = [configs("train", "smoke", *names), f"--dataset_dir={prepared}", f"--output_dir={output}"]
    return [*TRAINING, *options, *SHORT]


def losses(output):
    path = output / "losses.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return [(row["stage"], int(row["epoch"]), row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    subprocess.run([sys.executable, *command(prepared, output)], cwd=ROOT, check=True)
    return output


def test_a_run_leaves_weights_config_and_losses(uninterrupted):
    assert [row[:2] for row in losses(uninterrupted)] == [
        *(("autoencoder", epoch) for epoch in (1, 2)),
        *(("mean", epoch) for epoch in (1, 2)),
        *(("diffusion", epoch) for epoch in (1, 2, 3, 4)),
    ]
    for name in ("model.pt", "config.json", "validation.csv"):
        assert (uninterrupted / name).is_file()


@pytest.mark.parametrize("moment", [("autoencoder", 1), ("diffusion", 2)])
def test_a_killed_training_resumes_to_the_same_losses(prepared, uninterrupted, tmp_path, moment):
    process = subprocess.Popen([sys.executable, *command(prepared, tmp_path)], cwd=ROOT)
    deadline = time.monotonic() + 300
    while moment not in [row[:2] for row in losses(tmp_path)]:
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(losses(tmp_path)) < len(losses(uninterrupted))
    subprocess.run([sys.executable, *command(prepared, tmp_path)], cwd=ROOT, check=True)
    assert losses(tmp_path) == losses(uninterrupted)
    assert (tmp_path / "model.pt").read_bytes() == (uninterrupted / "model.pt").read_bytes()


def test_two_ranks_have_the_losses_of_one(prepared, uninterrupted, tmp_path):
    """The global batch is the same set of items, so the losses agree to the rounding of sums."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, *launch, *command(prepared, tmp_path, "multi_gpu")]
    subprocess.run(arguments, cwd=ROOT, check=True, env=environment)
    one, two = losses(uninterrupted), losses(tmp_path)
    assert [row[:2] for row in one] == [row[:2] for row in two]
    for (*_, first), (*_, second) in zip(one, two, strict=True):
        assert float(first) == pytest.approx(float(second), abs=1e-4)


def test_inference_and_evaluation_run_on_the_trained_weights(prepared, uninterrupted, tmp_path):
    """From the datalist to marked volumes, and from them to a scored page, by the commands of the README."""
    dataset = json.loads((prepared / "dataset.json").read_text())["test"]
    shared = [f"--dataset_dir={prepared}", f"--weights={uninterrupted / 'model.pt'}"]
    inference = ["-m", "monai.bundle", "run", configs("inference", "smoke"), f"--output_dir={tmp_path / 'volumes'}"]
    subprocess.run([sys.executable, *inference, *shared], cwd=ROOT, check=True)
    for item in dataset:
        stem = Path(item["film"]).name.removesuffix(".nii.gz")
        image = nib.load(tmp_path / "volumes" / f"{stem}_mri_synthetic.nii.gz")
        assert image.shape == (64, 64, 50)
        assert json.loads((tmp_path / "volumes" / f"{stem}_mri_synthetic.json").read_text())["synthetic"] is True
    evaluation = ["-m", "monai.bundle", "run", "evaluation", configs("inference", "smoke", "evaluate")]
    subprocess.run([sys.executable, *evaluation, f"--output_dir={tmp_path / 'eval'}", *shared], cwd=ROOT, check=True)
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert summary["knees"] == len(dataset)
    assert summary["phantom"] is True
    with (tmp_path / "eval" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= {"pred", "mean_volume"}
    page = (tmp_path / "eval" / "report.html").read_text()
    assert "phantom" in page
    assert "data:image/png;base64" in page
