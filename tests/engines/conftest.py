"""Made-up knees on the small network's grid, and what training makes of them."""

import pytest
import torch

from bundle.engines import LatentDataset
from bundle.keys import FILM, MRI, READINGS


@pytest.fixture
def knees():
    """Three made-up knees on the small network's grid."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            FILM: torch.rand(1, 16, 16, generator=generator) * 2 - 1,
            MRI: torch.rand(1, 16, 16, 6, generator=generator) * 2 - 1,
            READINGS: torch.eye(66)[knee],
        }
        for knee in range(3)
    ]


@pytest.fixture
def latents(tmp_path):
    """Knees and a network to a `LatentDataset` in a temporary folder."""

    def build(knees, network, *, folder=tmp_path, **options):
        data = [{MRI: f"{knee}.nii.gz"} for knee in range(len(knees))]
        options = {"slices_per_volume": 4, "seed": 7, **options}
        return LatentDataset(knees, network, data=data, folder=str(folder), **options)

    return build
