"""What film and MRI show."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from bundle.phantom.anatomy import sample_person
from bundle.phantom.composition import LABELS
from bundle.phantom.film import film_geometry, render_film
from bundle.phantom.lattice import occupancy
from bundle.phantom.mri import render_labels, render_mri
from bundle.phantom.pose import solve_pose
from bundle.phantom.tissues import SIGNAL, spoiled_gradient_echo
from bundle.phantom.truth import landmarks
from bundle.readings import VARIABLES

NONE = dict.fromkeys(VARIABLES[1:], 0)


@pytest.fixture(scope="module")
def volume():
    """A healthy right knee at 256 x 256, and its labels (S, H, W)."""
    person = sample_person(0, 5, readings={"R": NONE})
    posed = solve_pose(person.knees["R"], "mri")
    labels, _ = render_labels(posed, size=256)
    return render_mri(person, "R", size=256, posed=posed)[0], labels.transpose(2, 0, 1)


def test_ernst_equation_by_hand():
    """Long T1 against TR: S is near PD sin(a) TR/T1 / (1 - cos(a)) for T1 >> TR / (1 - cos a); here the exact value."""
    e1 = np.exp(-20 / 1016)
    expected = 0.8 * np.sin(np.radians(12)) * (1 - e1) / (1 - np.cos(np.radians(12)) * e1) * np.exp(-7.57 / 26)
    assert spoiled_gradient_echo(0.8, 1016, 26) == pytest.approx(expected)
    assert SIGNAL["cartilage"] == pytest.approx(0.0592, abs=1e-4)


def test_water_excitation_orders_the_tissues():
    order = ["cartilage", "fluid", "muscle", "meniscus", "subcutaneous_fat", "marrow", "cortex"]
    values = [SIGNAL[tissue] for tissue in order]
    assert values == sorted(values, reverse=True)
    assert 0.2 < SIGNAL["subcutaneous_fat"] / SIGNAL["muscle"] < 0.35


def test_mri_shows_cartilage_bright_and_marrow_dark(volume):
    image, labels = volume
    middle = (slice(20, 60), slice(60, 200), slice(60, 200))
    cartilage = image[middle][labels[middle] == LABELS["femoral_cartilage"]].mean()
    femur = labels[middle] == LABELS["femur"]
    inner = femur.copy()
    for axis in (0, 1, 2):
        for shift in (-4, 4):
            inner &= np.roll(femur, shift, axis=axis)
    marrow = image[middle][inner].mean()
    assert cartilage == pytest.approx(SIGNAL["cartilage"], rel=0.15)
    assert marrow == pytest.approx(SIGNAL["marrow"], rel=0.2)


def test_slices_correlate_and_their_mean_falls_as_a_posterior_first_knee_s(volume):
    """Adjacent slices 13 to 62 correlate by 0.78 to 0.87; muscle comes first, dark bone after."""
    image, _ = volume
    window = image[13:63].reshape(50, -1)
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairwise(window)])
    assert 0.78 < correlation < 0.87
    profile = image.mean(axis=(1, 2))
    peak = int(profile.argmax())
    assert 0.10 <= peak / 79 <= 0.25
    assert profile[round(0.4 * 79)] < 0.65 * profile[peak]


def test_noise_outside_the_limb_is_rician(volume):
    """Air far from the limb: the mean of a Rayleigh magnitude is 1.2533 sigma, its SD 0.655 sigma."""
    corner = volume[0][30:50, :6, :6]
    assert corner.mean() == pytest.approx(1.2533 * 0.0022, rel=0.05)
    assert corner.std() == pytest.approx(0.6551 * 0.0022, rel=0.08)


def test_right_knee_is_on_the_left_of_the_film_with_its_fibula_outside():
    person = sample_person(0, 5, readings={"R": NONE, "L": NONE})
    geometry = film_geometry(person, 0.4)
    columns = {}
    for side in ("R", "L"):
        posed = solve_pose(person.knees[side], "film")
        points = landmarks(posed)
        columns[side] = [
            geometry.project(points[name], side)[1] for name in ("plateau_lateral_rim", "plateau_medial_rim")
        ]
    middle = (geometry.shape[1] - 1) / 2
    assert columns["R"][0] < columns["R"][1] < middle < columns["L"][1] < columns["L"][0]
    # And the picture agrees with the landmarks: bone at the plateaus' centres, air between the legs and beside them.
    film, _ = render_film(person, spacing_mm=0.4)
    for side in ("R", "L"):
        points = landmarks(solve_pose(person.knees[side], "film"))
        shaft = np.round(geometry.project(points["tibia_shaft"], side)).astype(int)
        assert film[shaft[0] - 3 : shaft[0] + 4, shaft[1] - 3 : shaft[1] + 4].mean() > 1200
    assert film[300:400, :8].mean() < 250
    assert film[:, 500:524].mean(axis=1).min() < 250


@pytest.mark.parametrize("compartment", ["medial", "lateral"])
def test_narrowing_closes_the_gap_on_the_film(compartment):
    """Between the dip and the bone below it, measured at a third of the tibia's brightness rise."""
    widths = []
    for grade in range(4):
        readings = NONE | {f"XRJS{compartment[0].upper()}": grade}
        person = sample_person(5, 2, readings={"R": readings})
        posed = solve_pose(person.knees["R"], "film")
        film, _ = render_film(person, spacing_mm=0.4)
        row, column = np.round(
            film_geometry(person, 0.4).project(landmarks(posed)[f"plateau_{compartment}_centre"], "R")
        ).astype(int)
        profile = film[row - 45 : row + 25, column - 12 : column + 13].mean(axis=1)
        slope = np.diff(np.convolve(profile, np.ones(3) / 3, mode="same"))[3:-3]
        tibia = 27 + int(np.argmax(slope[27:57]))
        femur = tibia - 30 + int(np.argmin(slope[tibia - 30 : tibia]))
        widths.append((tibia - femur) * 0.4)
    assert np.all(np.diff(widths) < 0)
    assert widths[0] - widths[3] > 1.5


def test_same_seed_gives_the_same_bits_at_any_thread_count():
    person = sample_person(3, 1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = render_mri(person, "R", size=64)[0], render_film(person, spacing_mm=1.6)[0]
        torch.set_num_threads(2)
        two = render_mri(person, "R", size=64)[0], render_film(person, spacing_mm=1.6)[0]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_cyst_is_plain_in_the_mri_and_nearly_invisible_on_the_film():
    readings = {"R": NONE}, {"R": NONE | {"XRCYFM": 1}}
    films, volumes = [], []
    for given in readings:
        person = sample_person(12, 0, readings=given)
        films.append(render_film(person, spacing_mm=0.8)[0].astype(float))
        volumes.append(render_mri(person, "R", size=128)[0])
    changed = np.abs(volumes[1] - volumes[0]) > 0.25 * SIGNAL["cartilage"]
    assert changed.sum() * 1.25**2 * 1.5 > 80
    box = np.ones((3, 3)) / 9
    difference = np.abs(films[1] - films[0])
    smooth = np.apply_along_axis(lambda line: np.convolve(line, box[0] * 3, mode="same"), 1, difference)
    assert np.percentile(smooth, 99.9) < 0.05 * 4095


def test_occupancy_is_half_on_the_surface_and_linear_across_a_pixel():
    distances = torch.tensor([-0.5, -0.25, 0.0, 0.25, 0.5])
    torch.testing.assert_close(occupancy(distances, 1.0), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
