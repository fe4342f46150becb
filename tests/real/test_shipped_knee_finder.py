"""The shipped knee finder on phantom films that it has never seen: exact where it answers, else silent."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AdjustContrast, Affine, Rotate

from bundle.data import find_knee
from bundle.data.joint_line import pixel_edges
from bundle.geometry import SIDES
from bundle.networks.knee_finder import KneeFinder
from bundle.phantom.landmark_films import LandmarkFilms

ROOT = Path(__file__).resolve().parents[2]
UNSEEN = 1_000_004
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finder():
    return KneeFinder.load(ROOT / "models/knee_finder.pt")


@pytest.fixture(scope="module")
def films():
    """Two hundred films as people have them, half of them with distractors."""
    return [LandmarkFilms(UNSEEN, 200, clutter=0.5, enrich=False)[item] for item in range(200)]


def error_mm(image, side, point, finder):
    """Distance of the answer from a true joint centre in RAS mm, detector; None for a refusal."""
    try:
        knee = find_knee(image, side, finder)
    except ValueError:
        return None
    row, column = (torch.linalg.inv(image.affine.double()) @ torch.cat([point, torch.ones(1)]).double())[:2].tolist()
    edges = pixel_edges(image)
    return float(np.hypot(knee.row_mm - row * edges[0], knee.column_mm - column * edges[1]))


def test_joint_centres_lie_within_2_mm_and_no_other_side_is_taken(finder, films):
    errors, false_answers, knees = [], 0, 0
    for film in films:
        for side, (centre, _) in zip(SIDES, film["points"], strict=True):
            error = error_mm(film["image"], side, centre, finder)
            if centre.isfinite().all():
                knees += 1
                errors += [error] if error is not None else []
            else:
                false_answers += error is not None
    print(f"{knees} knees, {len(errors)} found; error mm: median {np.median(errors):.2f}, max {max(errors):.2f}")
    assert knees > 300
    assert len(errors) >= 0.98 * knees
    assert np.mean(np.array(errors) <= 2) >= 0.99
    assert max(errors) < 10
    assert false_answers == 0


def turned(degrees):
    return lambda image, _: Rotate(np.radians(degrees), keep_size=True, padding_mode="zeros")(image)


def scaled(factor):
    return lambda image, _: Affine(scale_params=[1 / factor] * 2, padding_mode="zeros", image_only=True)(image)


def contrast(gamma):
    return lambda image, _: AdjustContrast(gamma)(image)


def noise(share):
    def add(image, rng):
        return image + torch.from_numpy(rng.normal(0, share, tuple(image.shape)).astype("float32")) * image.max()

    return add


def blocks(count, edge):
    def cover(image, rng):
        image = image.clone()
        for _ in range(count):
            row, column = (int(rng.integers(extent - edge)) for extent in image.shape[1:3])
            image[:, row : row + edge, column : column + edge] = image.max()
        return image

    return cover


def upside_down(image, _):
    return image.flip(1)


BEYOND = {
    "turned by 25 degrees": turned(25),
    "turned by 50 degrees": turned(50),
    "turned by 90 degrees": turned(90),
    "upside down": upside_down,
    "at 0.5 times its size": scaled(0.5),
    "at 1.6 times its size": scaled(1.6),
    "gamma 0.25": contrast(0.25),
    "gamma 5": contrast(5.0),
    "noise of a fifth of the range": noise(0.2),
    "noise of half the range": noise(0.5),
    "metal over much of it": blocks(12, 30),
}


@pytest.mark.parametrize("kind", BEYOND)
def test_beyond_its_training_it_refuses_rather_than_misplaces(finder, films, kind):
    """Both sides of 40 films: the truth is moved by the affine that MONAI's transforms keep."""
    rng = np.random.default_rng(5)
    wrong, refused, knees = [], 0, 0
    for film in films[:40]:
        flat = MetaTensor(film["image"][..., 0], affine=film["image"].affine)
        changed = BEYOND[kind](flat, rng)
        affine = changed.affine if isinstance(changed, MetaTensor) else flat.affine
        if kind == "upside down":
            affine = flat.affine.clone()
            affine[:3, 3] += affine[:3, 0] * (flat.shape[1] - 1)
            affine[:3, 0] *= -1
        image = MetaTensor(torch.as_tensor(changed)[..., None], affine=affine)
        for side, (centre, _) in zip(SIDES, film["points"], strict=True):
            if not centre.isfinite().all():
                continue
            knees += 1
            error = error_mm(image, side, centre, finder)
            refused += error is None
            wrong += [error] if error is not None and error > 5 else []
    print(f"{kind}: {knees} knees, {refused} refused, misplaced by mm: {np.round(wrong, 1).tolist()}")
    assert not wrong
