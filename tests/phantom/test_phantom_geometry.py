"""Bones, joint space and sides of the phantom's knees."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.phantom import bones
from bundle.phantom.anatomy import sample_person
from bundle.phantom.composition import LABELS
from bundle.phantom.mri import render_labels
from bundle.phantom.pose import solve_pose
from bundle.phantom.worlds import WORLDS
from bundle.readings import VARIABLES

NONE = dict.fromkeys(VARIABLES[1:], 0)
SIZE = 256
PIXEL = 160 / SIZE


def label_gap_mm(labels: np.ndarray, lateral: bool, middle: float) -> float:
    """Smallest vertical distance between femur and tibia in a right knee's compartment, 9 to 30 mm from its middle."""
    femur, tibia = labels == LABELS["femur"], labels == LABELS["tibia"]
    bottom = SIZE - 1 - np.argmax(femur[::-1], axis=0)
    gap = (np.argmax(tibia, axis=0) - bottom - 1) * PIXEL
    gap[~(femur.any(axis=0) & tibia.any(axis=0))] = np.inf
    across = ((SIZE - 1) / 2 - np.arange(SIZE)) * PIXEL - middle
    across = across if lateral else -across
    return float(gap[(across > 9) & (across < 30)].min())


def knee(seed: int, index: int, **findings: int):
    return sample_person(seed, index, readings={"R": NONE | findings}).knees["R"]


@pytest.mark.parametrize("scan", ["film", "mri"])
@pytest.mark.parametrize("compartment", ["medial", "lateral"])
def test_narrowing_closes_the_gap_of_the_bones_by_the_millimetres_asked(scan, compartment):
    asked, measured = [], []
    for grade in range(4):
        shape = knee(8, 1, **{f"XRJS{compartment[0].upper()}": grade})
        posed = solve_pose(shape, scan)
        labels, _ = render_labels(posed, size=SIZE)
        asked.append(getattr(shape, f"joint_space_{scan}")[compartment])
        measured.append(label_gap_mm(labels, compartment == "lateral", posed.tibia.shift[0]))
    assert asked[0] - asked[3] > 1.5
    assert np.all(np.diff(measured) < 0)
    # A pixel of 0.625 mm, at either surface.
    np.testing.assert_allclose(measured, asked, atol=0.75)


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("scan", ["film", "mri"])
def test_pose_gives_both_compartments_their_joint_space(index, scan):
    for shape in sample_person(9, index, enrich=True).knees.values():
        posed = solve_pose(shape, scan)
        for compartment, wanted in getattr(shape, f"joint_space_{scan}").items():
            assert posed.joint_space_mm[compartment] == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize(
    ("reading", "bone"), [("XROSFM", "femur"), ("XROSFL", "femur"), ("XROSTM", "tibia"), ("XROSTL", "tibia")]
)
def test_osteophyte_adds_bone_where_it_says(reading, bone):
    """A spur of 7 mm is a third to one and a half cm3, on its own side of the knee."""
    volumes = []
    for grade in (0, 3):
        posed = solve_pose(knee(6, 2, **{reading: grade}), "mri")
        labels, _ = render_labels(posed, size=SIZE)
        across = ((SIZE - 1) / 2 - np.arange(SIZE)) * PIXEL - posed.tibia.shift[0]
        half = across > 0 if reading.endswith("L") else across < 0
        inside = labels[:, half] == LABELS[bone]
        volumes.append(inside.sum() * PIXEL**2 * 1.5 / 1000)
    assert 0.2 < volumes[1] - volumes[0] < 2.0


def test_left_knee_is_the_mirror_of_a_right_one():
    right = knee(1, 3, XRJSM=2, XROSTL=3)
    right_labels, right_affine = render_labels(solve_pose(right, "mri"), size=64)
    left_labels, left_affine = render_labels(solve_pose(replace(right, side="L"), "mri"), size=64)
    np.testing.assert_array_equal(left_labels, right_labels[:, ::-1])
    assert not np.array_equal(left_labels, right_labels)

    def fibula_ras(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
        voxels = np.argwhere(labels == LABELS["fibula"]).mean(axis=0)
        return (affine @ [*voxels, 1])[:3]

    np.testing.assert_allclose(
        fibula_ras(left_labels, left_affine), fibula_ras(right_labels, right_affine) * [-1, 1, 1], atol=1e-6
    )


def test_fibula_is_lateral_and_posterior_and_patella_anterior():
    labels, affine = render_labels(solve_pose(knee(1, 3), "mri"), size=64)

    def centre(name: str) -> np.ndarray:
        return (affine @ [*np.argwhere(labels == LABELS[name]).mean(axis=0), 1])[:3]

    # RAS: a right knee's lateral side has the larger x.
    assert centre("fibula")[0] > centre("tibia")[0] + 20
    assert centre("fibula")[1] < centre("tibia")[1]
    assert centre("patella")[1] > centre("femur")[1] + 20
    assert centre("femur")[2] > centre("tibia")[2]
    assert centre("tibial_cartilage_lateral")[0] > centre("tibial_cartilage_medial")[0]


def test_knee_is_bent_further_for_the_film_than_for_the_mri():
    for shape in sample_person(0, 0).knees.values():
        angles = []
        for scan in ("film", "mri"):
            posed = solve_pose(shape, scan)
            axes = posed.femur.rotation[:, 2] @ posed.tibia.rotation[:, 2]
            angles.append(np.degrees(np.arccos(axes)))
        assert angles[0] > angles[1] + 5
        assert 18 < angles[0] < 28


@pytest.mark.parametrize("world", ["natural", "anatomy"])
def test_nothing_of_a_bone_lies_outside_its_extents(world):
    """Rendering measures a bone inside these boxes alone: what they miss would be cut off."""
    x, y = (torch.arange(-72.0, 73.0, 3.0).reshape(shape) for shape in ((1, 1, -1), (-1, 1, 1)))
    z = torch.arange(-228.0, 229.0, 3.0)[None, :, None]
    for index in range(3):
        shape = sample_person(71, index, enrich=True, world=WORLDS[world]).knees["R"]
        for bone, pieces in bones.EXTENTS.items():
            outside = getattr(bones, bone)(shape, *(axis * shape.scale for axis in (x, y, z))) > 0
            for low, high, left, right, front, back in pieces:
                outside |= (z >= low) & (z <= high) & (x >= left) & (x <= right) & (y >= front) & (y <= back)
            assert outside.all(), f"{bone} of participant {index}"
