"""The band's source: masks, else the knee finder, else the middle third."""

import numpy as np
import torch

from bundle.data import JointBandd
from bundle.data.landmarks import JOINT
from bundle.networks.knee_finder import MAPS, KneeFinder

SIZE = 64


class SeesAJoint(KneeFinder):
    """A finder that is sure of the right knee's joint at one row of its 64 x 64 view."""

    def __init__(self, row):
        super().__init__()
        self.row = row

    def look(self, film):
        scores = torch.full((1, len(MAPS), *film.shape[2:]), -30.0)
        for name, column in zip(JOINT, (32, 44, 20), strict=True):
            scores[0, MAPS.index(("R", name)), self.row, column] = 30.0
        return scores


def item():
    film = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, SIZE, SIZE))).float()
    return {"image": film, "mri": torch.zeros(1, SIZE, SIZE, 4)}


def test_masks_come_first():
    labels = torch.zeros(1, SIZE, SIZE, 4, dtype=torch.uint8)
    labels[:, :30], labels[:, 34:] = 1, 2
    found = JointBandd(SeesAJoint(20))(item() | {"labels": labels})
    assert (found["band"].tolist(), found["band_source"]) == ([20, 44], "masks")


def test_then_the_knee_finder():
    """The finder's pixel 20 is row 20.5 from the top of 64: bands from 13.67 and to 35."""
    found = JointBandd(SeesAJoint(20))(item())
    assert (found["band"].tolist(), found["band_source"]) == ([13, 35], "knee finder")


def test_then_the_middle_third():
    unsure = KneeFinder()
    unsure.look = lambda film: torch.full((1, len(MAPS), *film.shape[2:]), -30.0)
    for finder in (unsure, None):
        found = JointBandd(finder)(item())
        assert (found["band"].tolist(), found["band_source"]) == ([21, 43], "middle third")
