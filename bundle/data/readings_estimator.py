"""Grades from a trained Siamese-GAP network: readings of a film that nobody has read, and a probe of volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bundle.networks.grade_blocks import log_probabilities, table_blocks
from bundle.networks.siamese_gap import load_siamese
from bundle.transforms.joint_patches import JointPatches
from bundle.transforms.project_volume import project_volume

COMMAND = "python -m monai.bundle run training --config_file"
READINGS_REMEDY = (
    f"train it with `{COMMAND} \"['configs/siamese_gap.json','configs/readings.json']\"` and copy "
    "runs/readings/readings.pt there, or give readings."
)
PROBE_REMEDY = f"train it with `{COMMAND} \"['configs/siamese_gap.json','configs/volume_probe.json']\"`."


class Grader:
    """A network with the patches it was trained on.

    Args:
        path: file that a training of configs/siamese_gap.json, or an overlay of it, wrote.
        reads: what the network must have been trained on, `film` or `volume`.
        remedy: what to do where the file is absent.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or was trained on the other kind of picture.

    Attributes:
        trained_on: the data and the run, as the file says it; state it with every number made so.
    """

    def __init__(self, path: str | Path, *, reads: str, remedy: str) -> None:
        self.network, about = load_siamese(path, remedy=remedy)
        if about["reads"] != reads:
            raise ValueError(f"{path}: was trained on a {about['reads']}, not on a {reads}; {remedy}")
        self.blocks: dict[str, int] = about["blocks"]
        self.cut, self.trained_on = JointPatches(**about["patches"]), str(about["trained_on"])

    @torch.no_grad()
    def chances(self, picture: Tensor) -> dict[str, np.ndarray]:
        """Probability of every grade.

        Args:
            picture: (1, H, W) in [-1, 1], the canonical knee in its field of view.

        Returns:
            variable to (grades,) float64, summing to 1.
        """
        logs = log_probabilities(self.network(self.cut(picture)[None].float().cpu()), self.blocks)
        return {name: log[0].double().exp().numpy() for name, log in logs.items()}


class ReadingsEstimator(Grader):
    """Readings of a film, each at its most likely grade.

    Args:
        path: file of the network.
        table: grade table of the readings.

    Raises:
        FileNotFoundError: if there is no such file; the error names the command that trains it.
        ValueError: if it grades something else.
    """

    def __init__(self, path: str | Path, *, table: str = "oai") -> None:
        super().__init__(path, reads="film", remedy=READINGS_REMEDY)
        if self.blocks != table_blocks(table):
            raise ValueError(f"{path}: grades {', '.join(self.blocks)}; expected the readings of the table `{table}`.")

    def __call__(self, film: Tensor) -> dict[str, float]:
        """The most likely grade of each reading; a fractional one is never given."""
        return {name: float(chance.argmax()) for name, chance in self.chances(film).items()}


class VolumeProbe(Grader):
    """Grades of volumes by a network that was trained on real ones, projected along depth.

    Where generated volumes of knees are graded as their films were read, they carry the grade in a way that real
    volumes do. A low agreement may also mean that they look unlike the training volumes.

    Args:
        path: file that configs/volume_probe.json wrote.

    Raises:
        FileNotFoundError: if there is no such file; the error names the command that trains it.
        ValueError: if it was trained on films.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, reads="volume", remedy=PROBE_REMEDY)

    def __call__(self, volume: Tensor) -> dict[str, np.ndarray]:
        """(1, H, W, S), a canonical knee on the model's grid, to the probability of every grade of each variable."""
        return self.chances(project_volume(volume))
