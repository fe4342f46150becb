"""Training and evaluation under torchrun, on made-up knees: two processes give what one gives."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.geometry import Grid

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
SIZE, SLICES = 32, 4
SHORT = {
    **{
        "image_size": SIZE,
        "slices": SLICES,
        "sampling_steps": 2,
        "autoencoder_epochs": 1,
        "mean_epochs": 1,
        "epochs": 2,
    },
    **{"patch_size": 16, "patches_per_volume": 4, "patch_batch_size": 8, "slices_per_volume": 4, "batch_size": 8},
    **{"window": 2},
    **{"val_interval": 2, "validation_volumes": 1, "covariates": "mask", "condition_dropout": 0.2},
    **{"network_def#unet#channels": [32, 32, 32], "network_def#autoencoder#channels": [16, 16, 16]},
}


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    """Eleven made-up knees as `prepare_data` leaves them, and an overlay that makes everything small."""
    root = tmp_path_factory.mktemp("knees")
    grid, rng, splits = Grid.of(image_size=SIZE, slices=SLICES), np.random.default_rng(0), {}
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    for split, count in (("training", 6), ("validation", 1), ("test", 5)):
        splits[split] = []
        for number in range(count):
            name, side = f"{split}{number}", "RL"[number % 2]
            film = np.exp(-4 * (rows**2 + (columns - rng.uniform(-0.3, 0.3)) ** 2))
            volume = film[..., None] * np.linspace(0.5, 1, SLICES) + 0.02 * rng.random((SIZE, SIZE, SLICES))
            nib.save(nib.Nifti1Image(film[..., None].astype("f4"), grid.film_affine()), root / f"{name}_film.nii.gz")
            nib.save(nib.Nifti1Image(volume.astype("f4"), grid.affine()), root / f"{name}_mri.nii.gz")
            splits[split].append(
                {
                    **{"film": f"{name}_film.nii.gz", "mri": f"{name}_mri.nii.gz", "participant": name, "side": side},
                    **{"visit": "00m", "readings": {"XRKL": number % 5}, "age": 50 + number, "sex": None, "bmi": 30},
                }
            )
    (root / "dataset.json").write_text(json.dumps({**splits, "source": "synthetic-phantom"}))
    (root / "small.json").write_text(json.dumps(SHORT))
    return root


def run(knees, what, names, output, *options, ranks=1):
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    files = [str(ROOT / "configs" / f"{name}.json") for name in names] + [str(knees / "small.json")]
    config = "--config_file=[" + ",".join(f"'{file}'" for file in files) + "]"
    command = [sys.executable, *launch, "-m", "monai.bundle", "run", what, config]
    shared = [f"--dataset_dir={knees}", f"--output_dir={output}", *options]
    subprocess.run([*command, *shared], cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def one(knees, tmp_path_factory):
    output = tmp_path_factory.mktemp("one")
    run(knees, "training", ["train"], output)
    return output


def test_two_ranks_train_with_the_losses_of_one(knees, one, tmp_path):
    """The global batch holds the same items; micro-batches and the shared latents change nothing either."""
    run(knees, "training", ["train", "multi_gpu"], tmp_path, "--micro_batch_size=3", ranks=2)
    first, second = table(one / "losses.csv"), table(tmp_path / "losses.csv")
    assert [row["stage"] for row in first] == ["autoencoder", "mean", "diffusion", "diffusion"]
    for mine, theirs in zip(first, second, strict=True):
        assert mine["stage"] == theirs["stage"]
        assert float(mine["loss"]) == pytest.approx(float(theirs["loss"]), abs=1e-5)


def test_two_ranks_write_the_table_of_one(knees, one, tmp_path):
    options = [f"--weights={one / 'model.pt'}"]
    run(knees, "evaluation", ["inference", "evaluate"], tmp_path / "one", *options)
    run(knees, "evaluation", ["inference", "evaluate", "multi_gpu_evaluate"], tmp_path / "two", *options, ranks=2)
    first, second = table(tmp_path / "one" / "metrics.csv"), table(tmp_path / "two" / "metrics.csv")
    assert len(first) >= 10
    for mine, theirs in zip(first, second, strict=True):
        for name, value in mine.items():
            try:
                assert float(theirs[name]) == pytest.approx(float(value), abs=1e-6, nan_ok=True), name
            except ValueError:
                assert theirs[name] == value, name
