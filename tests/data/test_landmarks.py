"""From a film through the finder's view and back to the film's millimetres."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from bundle.data import CropKnee, FinderView, LandmarkMaps, RandNoKneed, RandOneKneed, find_knee
from bundle.data.finder_view import VIEW_MM
from bundle.data.joint_line import Knee
from bundle.geometry import SIDES, ila_affine
from bundle.networks.knee_finder import IMPLANT, LANDMARKS, MAPS

KNEE = {
    "joint_centre": (0.0, 0.0),
    "plateau_medial_rim": (2.0, 36.0),
    "plateau_lateral_rim": (2.0, -37.0),
    "femur_shaft": (-75.0, 3.0),
    "tibia_shaft": (75.0, -3.0),
}
"""A right knee's landmarks round its joint centre, row and column in mm."""


def film_of(shape=(192, 256), spacing=1.6, pixels=None):
    affine = torch.from_numpy(ila_affine((*shape, 1), (spacing, spacing, 1.0), np.zeros(3)))
    return MetaTensor(torch.zeros(1, *shape, 1) if pixels is None else pixels, affine=affine)


class Answer(nn.Module):
    """A finder that answers with given places, in view pixels; what is not named is not there."""

    def __init__(self, places):
        super().__init__()
        self.places = places

    def look(self, film):
        rows, columns = torch.arange(film.shape[2])[:, None], torch.arange(film.shape[3])[None]
        scores = torch.full((1, len(MAPS), *film.shape[2:]), -30.0)
        for key, (row, column) in self.places.items():
            distance = (rows - row).square() + (columns - column).square()
            scores[0, MAPS.index(key)] = 20 - distance / (2 * 1.5**2)
        return scores


def answer(film, centres, *, turn=0.0, flip=False):
    """The answer for knees whose joint centres are at given film millimetres (row, column), by side."""
    view = FinderView()(film)
    to_view = np.linalg.inv(view.affine.numpy()) @ film.affine.numpy()
    spacing = float(np.linalg.norm(film.affine[:3, 0]))
    places = {}
    for side, (row, column) in centres.items():
        sign = (1 if side == "R" else -1) * (-1 if flip else 1)
        for name, (down, across) in KNEE.items():
            r = down * np.cos(turn) + sign * across * np.sin(turn)
            c = -down * np.sin(turn) + sign * across * np.cos(turn)
            pixel = to_view @ [(row + r) / spacing, (column + c) / spacing, 0, 1]
            places[side, name] = tuple(pixel[:2])
    return Answer(places)


@pytest.mark.parametrize(("shape", "spacing"), [((192, 256), 1.6), ((500, 333), 0.7), ((61, 90), 3.7)])
def test_view_keeps_every_point_where_it_is(shape, spacing):
    """The middle of mass of a small square, in RAS mm, is the same on the film and in the view."""
    pixels = torch.zeros(1, *shape, 1)
    pixels[0, 20 : 20 + round(12 / spacing), 40 : 40 + round(12 / spacing)] = 1
    film = film_of(shape, spacing, pixels)
    view = FinderView()(film)
    assert all(edge % 16 == 0 for edge in view.shape[1:])

    def middle(image, affine):
        weight = image / image.sum()
        r, c = np.indices(image.shape)
        return (affine @ [(weight * r).sum(), (weight * c).sum(), 0, 1])[:3]

    before = middle(film.numpy()[0, :, :, 0], film.affine.numpy())
    after = middle(view.numpy()[0], view.affine.numpy())
    np.testing.assert_allclose(after, before, atol=0.05)


@pytest.mark.parametrize(("shape", "spacing"), [((192, 256), 1.6), ((700, 1001), 0.4)])
def test_landmarks_come_back_in_the_film_s_own_millimetres(shape, spacing):
    film = film_of(shape, spacing)
    maps = LandmarkMaps.of(film, answer(film, {"R": (140.0, 95.0), "L": (150.0, 300.0)}))
    for side, centre in (("R", (140.0, 95.0)), ("L", (150.0, 300.0))):
        knee = maps.knee(side)
        assert (knee.row_mm, knee.column_mm) == pytest.approx(centre, abs=0.3)
        seen = maps.near(replace(knee, row_mm=knee.row_mm + 9), side)
        assert (seen.row_mm, seen.column_mm) == (knee.row_mm, knee.column_mm)
        assert maps.near(replace(knee, row_mm=knee.row_mm + 11), side) is None


def test_rotation_of_the_leg_is_told_and_too_much_of_it_is_no_knee():
    film = film_of()
    maps = LandmarkMaps.of(film, answer(film, {"R": (150.0, 150.0)}, turn=np.radians(10)))
    upright = LandmarkMaps.of(film, answer(film, {"R": (150.0, 150.0)})).rotation_deg("R")
    assert maps.rotation_deg("R") - upright == pytest.approx(10, abs=0.5)
    assert maps.knee("R") is not None
    assert LandmarkMaps.of(film, answer(film, {"R": (150.0, 150.0)}, turn=np.radians(30))).knee("R") is None


def test_left_knee_in_the_right_one_s_maps_is_refused():
    """The medial end lies towards the other leg: a knee whose ends are swapped is not the side it is called."""
    film = film_of()
    assert LandmarkMaps.of(film, answer(film, {"R": (150.0, 150.0)}, flip=True)).knee("R") is None


def test_film_without_the_asked_side_is_refused_and_the_shown_one_named():
    film = film_of()
    with pytest.raises(ValueError, match="no knee joint found for side L; it shows a knee of side R"):
        find_knee(film, "L", answer(film, {"R": (150.0, 150.0)}))


def test_knee_replacement_is_refused_as_such():
    film = film_of()
    finder = answer(film, {"R": (150.0, 150.0)})
    finder.places["R", IMPLANT] = finder.places["R", "joint_centre"]
    with pytest.raises(ValueError, match="side R is replaced by an implant"):
        find_knee(film, "R", finder)


def test_image_analysis_may_not_name_a_place_that_the_network_rules_out(monkeypatch):
    film = film_of()
    monkeypatch.setattr("bundle.data.knee_roi.find_joint", lambda *_: type("Knee", (), {"row_mm": 9, "column_mm": 9})())
    with pytest.raises(ValueError, match="no knee joint found"):
        find_knee(film, "R", Answer({}))


def test_the_knee_of_one_side_is_not_taken_for_the_other_s(monkeypatch):
    """The network sees a left knee, and something of a right one in the same place; so does image analysis."""
    film = film_of()
    finder = answer(film, {"L": (150.0, 150.0)})
    finder.places["R", "joint_centre"] = finder.places["L", "joint_centre"]
    monkeypatch.setattr("bundle.data.knee_roi.find_joint", lambda *_: Knee(150.0, 150.0, 2.0))
    assert find_knee(film, "L", finder).row_mm == pytest.approx(150, abs=0.3)
    with pytest.raises(ValueError, match="no knee joint found for side R; it shows a knee of side L"):
        find_knee(film, "R", finder)
    del finder.places["L", "femur_shaft"], finder.places["L", "tibia_shaft"]
    assert find_knee(film, "R", finder).row_mm == pytest.approx(150, abs=0.3)


def test_crop_has_the_joint_that_the_finder_names_in_its_middle():
    """A bright square at the joint centre lands in the middle of the crop."""
    pixels = torch.zeros(1, 192, 256, 1)
    pixels[0, 90:95, 60:65] = 1
    film = film_of(pixels=pixels)
    crop = CropKnee(64, answer(film, {"R": (92 * 1.6, 62 * 1.6)}))
    cut = crop(film, "R").numpy()[0, :, :, 0]
    rows, columns = np.indices(cut.shape)
    assert (cut * rows).sum() / cut.sum() == pytest.approx(31.5, abs=0.15)
    assert (cut * columns).sum() / cut.sum() == pytest.approx(31.5, abs=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_one_knee_is_left_where_its_points_say(seed):
    """A bright pixel on each knee's point: after the other is blackened, the one that is left still lies on it."""
    image = torch.zeros(1, 64, 96)
    view = torch.from_numpy(ila_affine((64, 96, 1), (VIEW_MM, VIEW_MM, 1), np.zeros(3)))
    image[0, 30, 20] = image[0, 40, 70] = 1
    points = torch.stack(
        [view @ torch.tensor([30.0, 20, 0, 1]).double(), view @ torch.tensor([40.0, 70, 0, 1]).double()]
    )
    data = {"image": MetaTensor(image, affine=view), "points": points[:, None, :3]}
    out = RandOneKneed(prob=1.0).set_random_state(seed)(data)
    left = [k for k in range(len(SIDES)) if out["points"][k].isfinite().all()]
    assert len(left) == 1
    assert out["image"].sum() == 1
    at = torch.linalg.inv(out["image"].affine) @ torch.cat([out["points"][left[0], 0], torch.ones(1)]).double()
    assert out["image"][0, round(float(at[0])), round(float(at[1]))] == 1


def test_film_without_a_knee_has_no_points_and_another_picture():
    image = MetaTensor(torch.rand(1, 64, 96))
    for seed in range(6):
        out = RandNoKneed(prob=1.0).set_random_state(seed)(
            {"image": image, "points": torch.zeros(2, len(LANDMARKS), 3)}
        )
        assert out["points"].isnan().all()
        assert (out["image"] - image).abs().mean() > 0.05
