"""Small networks and a small prepared cohort, made once a test session."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from monai.networks.nets import AutoencoderKL

from bundle.networks import FilmEncoder, FilmToVolume, TwoPathUNet
from bundle.sampling import FlowSchedule

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
    """A network of the compact one's shape, a hundredth of its size, on a 16 x 16 x 6 grid, with no layer at zero."""
    torch.manual_seed(0)
    network = FilmToVolume(
        autoencoder=AutoencoderKL(
            2,
            1,
            1,
            num_res_blocks=(1, 1, 1),
            channels=(8, 8, 8),
            attention_levels=(False, False, False),
            latent_channels=4,
            norm_num_groups=4,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        ),
        unet=TwoPathUNet(
            readings_width=66,
            spatial_dims=2,
            in_channels=8,
            out_channels=4,
            num_res_blocks=(1, 1),
            channels=(32, 32),
            attention_levels=(False, True),
            norm_num_groups=8,
            num_head_channels=16,
            with_conditioning=True,
            cross_attention_dim=16,
            use_flash_attention=True,
        ),
        film_encoder=FilmEncoder(
            image_size=16, patch_size=8, width=16, layers=1, heads=2, output_dim=16, context_dim=16
        ),
        schedule=FlowSchedule(),
        image_size=16,
        slices=6,
        sampling_steps=2,
        slice_batch=4,
    )
    # New heads and the UNet's last layer start at zero and would hide every condition.
    for parameter in network.denoiser.parameters():
        if not parameter.abs().max():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()
