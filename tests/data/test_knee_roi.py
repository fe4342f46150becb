"""The knee finder and the cut in millimetres, on drawn knees."""

import fabricate_oai as oai
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.data import CropKnee, CropKneed, find_knee
from bundle.geometry import FILM_MAGNIFICATION, Grid, ila_affine
from bundle.networks.knee_finder import KneeFinder

JOINTS = {"R": (150.0, 105.0), "L": (160.0, 300.0)}


def film(pixels, edge=0.4, **meta):
    affine = ila_affine((*pixels.shape, 1), (edge, edge, 1.0), np.zeros(3))
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).float()[None, :, :, None]
    return MetaTensor(tensor, affine=torch.from_numpy(affine), meta={"filename_or_obj": "drawn.dcm"} | meta)


@pytest.fixture(scope="module")
def both():
    return oai.knee_picture(768, 1024, 0.4, [(*JOINTS[side], side) for side in "RL"])


@pytest.mark.parametrize("side", ["R", "L"])
@pytest.mark.parametrize("hint", [{"bilateral": True}, {}])
def test_right_knee_is_the_left_half_of_a_film_of_both(both, side, hint):
    knee = find_knee(film(both, **hint), side)
    assert abs(knee.row_mm - JOINTS[side][0]) < 2
    assert abs(knee.column_mm - JOINTS[side][1]) < 2


def test_one_knee_film_uses_its_whole_width(both):
    """The right half of the film alone, whichever side is asked for: halving it would cut the leg."""
    one = both[:, 512:]
    for side in "RL":
        knee = find_knee(film(one), side)
        assert abs(knee.column_mm - (300 - 512 * 0.4)) < 2


@pytest.mark.parametrize("side", ["R", "L"])
@pytest.mark.parametrize(
    "change",
    [
        lambda p: p * 900 - 17,
        lambda p: p**2,
        lambda p: np.sqrt(p),
        lambda p: p + np.random.default_rng(0).normal(0, 0.05, p.shape),
        lambda p: np.pad(p[60:-60, 60:-60], 60),
        lambda p: np.pad(p[60:-60, 60:-60], 60, constant_values=1.0),
    ],
    ids=["gain", "dark", "bright", "noise", "black collimator", "white collimator"],
)
def test_exposure_and_collimation_do_not_move_the_joint(both, side, change):
    knee = find_knee(film(change(both), bilateral=True), side)
    assert np.hypot(knee.row_mm - JOINTS[side][0], knee.column_mm - JOINTS[side][1]) < 3


@pytest.mark.parametrize(("edge", "covers"), [(25.0, "1500 x 2500 mm"), (0.2, "12 x 20 mm")])
def test_film_of_an_impossible_size_is_refused_before_the_network_looks(edge, covers):
    """At 2.5 mm a film of metres, from a wrong spacing, would fill the memory; one of 12 mm has no pixel left."""
    with pytest.raises(ValueError, match=rf"film drawn\.dcm: covers {covers}; expected 60 to 2000 mm"):
        find_knee(film(np.random.default_rng(0).random((60, 100)), edge=edge), "R", KneeFinder())


@pytest.mark.parametrize(
    "pixels",
    [
        np.random.default_rng(1).normal(0, 1, (600, 600)),
        np.linspace(0, 1, 600)[:, None] * np.ones(600),
        (np.indices((600, 600)) // 30).sum(0) % 2.0,
    ],
    ids=["noise", "ramp", "checkers"],
)
def test_no_knee_is_refused_by_name(pixels):
    with pytest.raises(ValueError, match=r"drawn\.dcm: no knee joint found"):
        find_knee(film(pixels), "R")


def test_a_film_too_small_for_a_knee_is_refused(both):
    with pytest.raises(ValueError, match="pixel spacing"):
        find_knee(film(both, edge=0.05), "R")


@pytest.mark.parametrize(("side", "lateral_is_left"), [("R", True), ("L", False)])
def test_crop_is_160_mm_of_the_knee_about_the_joint(both, side, lateral_is_left):
    cut = CropKnee(256)(film(both, bilateral=True), side)
    assert cut.shape == (1, 256, 256, 1)
    np.testing.assert_allclose(cut.affine, Grid.of(image_size=256, slices=50).film_affine())
    picture = cut.numpy()[0, :, :, 0]
    # the drawing's plateau is 76 mm wide at the detector: its margins, in the knee, 76 / 1.037 mm apart
    row = picture[round(128 + 8 / 0.625)]
    inside = np.flatnonzero(row > (row[128] + row[20]) / 2)
    assert np.ptp(inside) * 0.625 == pytest.approx(76 / FILM_MAGNIFICATION, abs=1.5)
    assert abs(inside.mean() - 127.5) * 0.625 < 2
    # the joint space is at the middle row
    gap = np.flatnonzero(picture[118:138, 100] < 0.6 * picture[140, 100]) + 118
    assert abs(gap.mean() - 127.5) * 0.625 < 2
    # the fibula is on the image's left on a right knee only: files hold true anatomy
    shin = picture[round(128 + 50 / 0.625)]
    offset = round(36 / 0.625)
    assert (shin[128 - offset] > shin[128 + offset]) == lateral_is_left


def test_crop_that_leaves_the_film_is_filled_with_its_darkest(both):
    near_top = film(both[250:] + 0.1, bilateral=True)
    cut = CropKnee(64)(near_top, "R").numpy()[0, :, :, 0]
    assert (cut[:8] == np.float32(both.min() + 0.1)).all()


def test_prepared_film_is_taken_as_it_is():
    grid = Grid.of(image_size=128, slices=50)
    pixels = torch.rand(1, 128, 128, 1)
    prepared = MetaTensor(pixels, affine=torch.tensor(grid.film_affine()), meta={"filename_or_obj": "x"})
    torch.testing.assert_close(CropKnee(128)(prepared, "L").as_tensor(), pixels)
    half = CropKnee(64)(prepared, "L").as_tensor()[0, :, :, 0]
    torch.testing.assert_close(half, pixels[0, :, :, 0].unfold(0, 2, 2).unfold(1, 2, 2).mean((-1, -2)))


def test_side_has_no_default(both):
    with pytest.raises(ValueError, match="--side"):
        CropKneed("image", image_size=64)({"image": film(both)})
