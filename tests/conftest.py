"""Small networks and a small prepared cohort, made once a test session."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from small_network import set_zero_layers, small_generator

ROOT = Path(__file__).resolve().parents[1]


def made_once(tmp_path_factory, name, script, *options):
    """Folder `name`, made by a script once for all of pytest's processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    out, whole = folder / name, folder / f"{name}.whole"
    with FileLock(folder / f"{name}.lock"):
        if not whole.exists():
            command = [sys.executable, f"scripts/{script}", "--out", str(out), *map(str, options)]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            whole.touch()
    return out


@pytest.fixture(scope="session")
def phantom_oai(tmp_path_factory):
    """A phantom cohort of test size in OAI's layout, with its truth."""
    options = ["--participants", 12, "--seed", 0, "--size", "test", "--truth"]
    return made_once(tmp_path_factory, "phantom_oai", "make_phantom.py", *options)


@pytest.fixture(scope="session")
def prepared(phantom_oai, tmp_path_factory):
    """The same cohort, prepared at 64 x 64."""
    return made_once(tmp_path_factory, "prepared", "prepare_data.py", "--oai", phantom_oai, "--size", 64)


@pytest.fixture
def small_network():
    """Film to volume with no layer at zero: new heads and the UNet's last layer would hide every condition."""
    torch.manual_seed(0)
    network = small_generator(slice_batch=4)
    set_zero_layers(network.denoiser)
    return network.eval()
