"""What else is on a film, and where a turned or cut film shows what."""

import numpy as np
import pytest

from bundle.geometry import SIDES
from bundle.phantom.anatomy import sample_person
from bundle.phantom.film import Clutter, draw_clutter, film_geometry, film_pixels, render_film
from bundle.phantom.oai_writer import _film_dataset, plan_series
from bundle.phantom.pose import solve_pose
from bundle.phantom.truth import landmarks

PIXEL = 1.6


@pytest.fixture(scope="module")
def person():
    return sample_person(3, 1)


def _film(person, clutter=None):
    return render_film(person, spacing_mm=PIXEL, clutter=clutter)[0].astype(float)


def test_share_decides_how_many_films_have_clutter_and_never_what_is_on_them():
    drawn = [draw_clutter(5, i, 0.3) for i in range(400)]
    assert 0.23 < np.mean([one is not None for one in drawn]) < 0.37
    everything = [draw_clutter(5, i, 1.0) for i in range(400)]
    assert all(more == some for some, more in zip(drawn, everything, strict=True) if some is not None)
    assert draw_clutter(5, 0, 0.0) is None
    kinds = {
        "border": [any(one.collimation_mm) for one in everything],
        "turned": [bool(one.turn_deg) for one in everything],
        "cut": [any(one.cut_mm) for one in everything],
        "letters": [bool(one.markers) for one in everything],
        "beads": [one.beads_mm is not None for one in everything],
        "label": [bool(one.label) for one in everything],
        "implant": [bool(one.implant) for one in everything],
        "lateral": [one.view == "LL" for one in everything],
        "single": [len(one.sides) == 1 for one in everything],
    }
    assert all(0.02 < np.mean(found) < 0.9 for found in kinds.values()), kinds
    assert all(letter[0] in one.sides for one in everything for letter in one.markers)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        draw_clutter(0, 0, share)


def test_lateral_film_of_both_knees_is_refused():
    with pytest.raises(ValueError, match="LL"):
        Clutter(view="LL")


def test_truth_follows_a_turned_and_cut_film(person):
    """Steel balls are found where `film_pixels` says: brighter by far than what lies 4 pixels beside them."""
    clutter = Clutter(turn_deg=7.0, cut_mm=(24.0, 0.0, 16.0, 0.0), beads_mm=(0.0, -60.0))
    film = render_film(person, spacing_mm=0.8, clutter=clutter)[0].astype(float)
    geometry = film_geometry(person, 0.8, clutter)
    assert film.shape == (geometry.shape[0] - 30, geometry.shape[1] - 20)
    balls = np.array([[-geometry.separation_mm, -45.0, -60 + 12.5 * k] for k in range(12)])
    places = film_pixels(person, balls, "R", spacing_mm=0.8, clutter=clutter)
    assert abs(places[0, 1] - places[-1, 1]) > 15
    for row, column in np.round(places).astype(int):
        beside = film[row, [column - 4, column + 4]].max()
        assert film[row - 1 : row + 2, column - 1 : column + 2].max() > beside + 1000


def test_border_is_unexposed_or_blackened(person):
    inside = Clutter(collimation_mm=(32.0, 0.0, 16.0, 0.0))
    film, clean = _film(person, inside), _film(person)
    assert film[:15, 20:-20].mean() > 3500
    assert film[40:-5, :8].mean() > 3500
    shut = _film(person, Clutter(collimation_mm=(32.0, 0.0, 16.0, 0.0), shutter=True))
    assert shut[:18].max() == 0
    assert shut[:, :8].max() == 0
    # What is left is displayed as it was: neither exposure nor window regards the border.
    assert np.abs(shut[60:-20, 30:-20] - clean[60:-20, 30:-20]).mean() < 0.05 * 4095


@pytest.mark.parametrize("side", SIDES)
def test_letter_is_white_beside_its_knee(person, side):
    marked = render_film(person, spacing_mm=0.8, clutter=Clutter(markers=((side, 120.0, 24.0, 0.0),)))[0].astype(float)
    changed = np.argwhere(marked - render_film(person, spacing_mm=0.8)[0] > 1500)
    assert len(changed) > 20
    assert np.abs(changed[:, 0].mean() - 150) < 12
    column = changed[:, 1].mean()
    assert np.abs(column - (30 if side == "R" else 511 - 30)) < 8


def test_label_lies_in_its_corner_and_nowhere_else(person):
    clean, labelled = _film(person), _film(person, Clutter(label="bottom right"))
    changed = np.argwhere(clean != labelled)
    assert len(changed) > 30
    assert changed[:, 0].min() > 0.85 * clean.shape[0]
    assert changed[:, 1].min() > 0.7 * clean.shape[1]


def test_implant_is_white_in_its_knee_alone(person):
    clean, film = _film(person), _film(person, Clutter(implant="R"))
    middle = film.shape[1] // 2
    for side, metal in (("R", True), ("L", False)):
        points = landmarks(solve_pose(person.knees[side], "film"))
        for name in ("condyle_medial", "condyle_lateral"):
            at = points[name] + np.array([0.0, 0.0, 5.0])
            row, column = np.round(film_pixels(person, at, side, spacing_mm=PIXEL)).astype(int)
            assert (film[row, column] > 3300) == metal
    assert np.abs(film - clean)[:, middle:].mean() < 0.02 * 4095


@pytest.mark.parametrize("side", SIDES)
def test_lateral_film_shows_one_knee_from_the_side(person, side):
    """The patella lies in front of the femur: to the right of a right knee, to the left of a left one."""
    clutter = Clutter(sides=(side,), view="LL")
    film = _film(person, clutter)
    assert film.shape == (192, 128)
    points = landmarks(solve_pose(person.knees[side], "film"))
    cap, femur = (
        film_pixels(person, points[name], side, spacing_mm=PIXEL, clutter=clutter)
        for name in ("patella_centre", "femur_shaft")
    )
    assert (cap[1] - femur[1]) * (1 if side == "R" else -1) > 15
    for row, column in np.round([cap, femur]).astype(int):
        assert film[row, column] > 1000
    ahead = round(cap[1] + (14 if side == "R" else -14))
    assert film[round(cap[0]), ahead] < 500
    other = "L" if side == "R" else "R"
    with pytest.raises(ValueError, match="side"):
        film_pixels(person, points["patella_centre"], other, spacing_mm=PIXEL, clutter=clutter)


def test_film_of_one_knee_is_half_as_wide_and_in_its_middle(person):
    clutter = Clutter(sides=("L",))
    film = _film(person, clutter)
    points = landmarks(solve_pose(person.knees["L"], "film"))
    row, column = film_pixels(person, points["tibia_shaft"], "L", spacing_mm=PIXEL, clutter=clutter)
    assert film.shape == (192, 128)
    assert abs(column - 64) < 15
    assert film[round(row), round(column)] > 1000


@pytest.mark.parametrize(
    ("clutter", "view", "orientation", "laterality"),
    [
        (None, "PA", ["L", "F"], ("B", "")),
        (Clutter(label="top left"), "PA", ["L", "F"], ("B", "")),
        (Clutter(sides=("L",)), "PA", ["L", "F"], ("L", "L")),
        (Clutter(sides=("R",), view="LL"), "LL", ["A", "F"], ("R", "R")),
        (Clutter(sides=("L",), view="LL"), "LL", ["P", "F"], ("L", "L")),
    ],
)
def test_header_says_what_the_film_shows(clutter, view, orientation, laterality):
    """DX has Image Laterality, CR Laterality; no text identifies anybody, so Burned In Annotation is NO."""
    kinds = set()
    for index in range(6):
        person = sample_person(5, index)
        header = _film_dataset(person, plan_series(person)[0], np.zeros((8, 8), np.uint16), 1.6, clutter)
        kinds.add(header.Modality)
        assert header.ViewPosition == view
        assert list(header.PatientOrientation) == orientation
        assert header.BurnedInAnnotation == "NO"
        assert header.KVP == 70
        if header.Modality == "DX":
            assert header.ImageLaterality == laterality[0]
            assert header.ViewCodeSequence[0].CodeMeaning == ("lateral" if view == "LL" else "postero-anterior")
        else:
            assert header.Laterality == laterality[1]
    assert kinds == {"DX", "CR"}
