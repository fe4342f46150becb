"""The knee finder's training, as a user runs it, in small."""

import subprocess
import sys
from pathlib import Path

import torch

from bundle.networks.knee_finder import MAPS, KneeFinder

ROOT = Path(__file__).resolve().parents[2]


def test_training_ends_in_a_file_that_the_finder_loads(tmp_path):
    """Two films, one step; the file holds half-precision tensors alone."""
    small = ["--films", "2", "--epochs", "1", "--batch_size", "2", "--output_dir", str(tmp_path)]
    command = [sys.executable, "-m", "monai.bundle", "run", "training"]
    command += ["--config_file", "configs/train_knee_finder.json", *small]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    path = tmp_path / "knee_finder.pt"
    assert done.stdout.strip().endswith(str(path))
    assert all(value.dtype == torch.float16 for value in torch.load(path, weights_only=True).values())
    assert KneeFinder.load(path)(torch.zeros(1, 1, 32, 32)).shape[1] == len(MAPS)
    assert (tmp_path / "losses.csv").read_text().count("knee finder") == 1
