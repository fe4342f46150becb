"""Films for the knee finder, against the truth that the cohort's command writes."""

import json

import numpy as np
import pytest
import torch

from bundle.geometry import SIDES
from bundle.networks.knee_finder import LANDMARKS
from bundle.phantom.anatomy import sample_person
from bundle.phantom.landmark_films import LandmarkFilms


def test_points_are_the_truth_s_film_pixels(phantom_oai):
    """Participant 1 of the cohort: world points through the inverse affine give the row and column of the truth."""
    item = LandmarkFilms(0, 1, LANDMARKS, first=1, enrich=False)[0]
    identity = sample_person(0, 1).covariates.participant
    for side, points in zip(SIDES, item["points"], strict=True):
        truth = json.loads((phantom_oai / f"truth/{identity}_{side}.json").read_text())["film_pixels"]
        world = torch.cat([points[:-1], torch.ones(len(LANDMARKS), 1)], dim=1).double()
        pixels = (world @ torch.linalg.inv(item["image"].affine).T)[:, :2]
        np.testing.assert_allclose(pixels, [truth[name] for name in LANDMARKS], atol=0.01)
        assert points[-1].isnan().all()


def test_item_past_the_end_is_refused():
    with pytest.raises(IndexError, match="from 0 to 2, got 3"):
        LandmarkFilms(0, 3)[3]
