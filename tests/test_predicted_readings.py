"""Readings `predict`: what a network grades on the film reaches the volume and its record, and errors name the way."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_up_set import write_set
from monai.data import MetaTensor

from bundle.api import PREDICT, Synthesiser
from bundle.engines import finish_siamese
from bundle.networks.grade_blocks import table_blocks
from bundle.networks.siamese_gap import SiameseGAP

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), image_size=64, slices=2, counts=(1, 1, 1))


@pytest.fixture(scope="module")
def readings_weights(tmp_path_factory, knees):
    """An untrained network of 19 readings."""
    torch.manual_seed(0)
    path, network = tmp_path_factory.mktemp("readings") / "readings.pt", SiameseGAP(outputs=66, channels=(4, 4))
    patches = {"patch_mm": 48.0, "centre_mm": 22.0, "patch_size": 16}
    options = {"dataset_dir": str(knees), "run_name": "test", "blocks": table_blocks(), "patches": patches}
    finish_siamese(network, path=str(path), **options)
    return path


class Known(torch.nn.Module):
    """A stand-in of the generator that gives back the readings it was called with."""

    def __init__(self, network):
        super().__init__()
        self.grid, self.schedule, self.sampling_steps = network.grid, network.schedule, network.sampling_steps
        self.provenance = network.provenance
        self.seen = None

    def forward(self, film, readings, **_):
        self.seen = readings
        return torch.zeros(1, 1, *self.grid.shape)


def test_predicted_readings_are_those_of_the_film_and_are_recorded(readings_weights, knees):
    synthesiser = Synthesiser(ROOT, readings_weights=readings_weights)
    synthesiser.network = Known(synthesiser.network)
    film = knees / "films" / "0000000_R_00m.nii.gz"
    result = synthesiser(film, PREDICT, side="R", accept_phantom_weights=True)
    assert set(result.record["readings"]) == set(table_blocks())
    assert result.record["readings_from"].startswith("predicted; network trained on")
    estimator = synthesiser.estimator()
    assert estimator(MetaTensor(result.film * 2 - 1)) == result.record["readings"]
    assert synthesiser.network.seen.sum() == 19, "every reading is given"
    given = synthesiser(film, result.record["readings"], side="R", accept_phantom_weights=True)
    assert given.record["readings_from"] == "given"
    torch.testing.assert_close(synthesiser.network.seen.sum(), torch.tensor(19.0))
    with pytest.raises(ValueError, match="predict"):
        synthesiser(film, "guess", side="R", accept_phantom_weights=True)


def test_without_the_network_the_error_names_the_command(knees, tmp_path):
    film = knees / "films" / "0000000_R_00m.nii.gz"
    synthesiser = Synthesiser(ROOT, readings_weights=tmp_path / "readings.pt")
    with pytest.raises(FileNotFoundError, match=r"configs/siamese_gap.json.*configs/readings.json"):
        synthesiser(film, PREDICT, side="R", accept_phantom_weights=True)


def test_command_without_the_network_makes_nothing(knees, tmp_path):
    """`models/readings.pt` is not shipped."""
    if (ROOT / "models" / "readings.pt").exists():
        pytest.skip("models/readings.pt is there")
    film = knees / "films" / "0000000_R_00m.nii.gz"
    command = [sys.executable, "scripts/synthesise.py", str(film), "--side", "R", "--readings", "predict"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "models/readings.pt: no such file; train it with" in done.stderr
    assert not (tmp_path / "out").exists()
