"""Shifted worlds: each changes what it names and nothing else."""

import numpy as np
import pytest

from bundle.phantom.anatomy import sample_person
from bundle.phantom.film import render_film
from bundle.phantom.mri import render_mri
from bundle.phantom.pose import solve_pose
from bundle.phantom.worlds import WORLDS

SHAPE = ("scale", "aspect", "warps")


def poses(world: str, index: int, **options):
    knee = sample_person(31, index, world=WORLDS[world], **options).knees["R"]
    return knee.film_pose, knee.mri_pose


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_has_knees_whose_bones_meet(world):
    for index in range(12):
        for side, knee in sample_person(31, index, world=WORLDS[world], enrich=True).knees.items():
            for scan in ("film", "mri") if side == "R" else ("mri",):
                posed = solve_pose(knee, scan)
                wanted = getattr(knee, f"joint_space_{scan}")
                for compartment, gap in posed.joint_space_mm.items():
                    assert gap == pytest.approx(wanted[compartment], abs=0.1)


@pytest.mark.parametrize("world", WORLDS)
def test_people_are_the_same_in_every_world(world):
    here, there = sample_person(31, 4), sample_person(31, 4, world=WORLDS[world])
    assert there.world is WORLDS[world]
    assert there.covariates == here.covariates
    for side in ("R", "L"):
        assert there.knees[side].readings == here.knees[side].readings
        assert there.knees[side].joint_space_film == here.knees[side].joint_space_film
        assert there.knees[side].cysts == here.knees[side].cysts
        moved = repr(there.knees[side].mri_pose) != repr(here.knees[side].mri_pose)
        assert moved == (world == "pose")
        reshaped = repr([getattr(there.knees[side], name) for name in SHAPE]) != repr(
            [getattr(here.knees[side], name) for name in SHAPE]
        )
        assert reshaped == (world == "anatomy")


def test_world_of_poses_has_its_means_and_spreads():
    film, mri = zip(*(poses("pose", index) for index in range(60)), strict=True)
    world = WORLDS["pose"]
    for held, name, (mean, sd) in (
        (film, "tibia_tilt", world.film_tilt_deg),
        (film, "flexion", world.film_flexion_deg),
        (film, "rotation", world.film_rotation_deg),
        (mri, "flexion", world.mri_flexion_deg),
        (mri, "rotation", world.mri_rotation_deg),
    ):
        values = [getattr(pose, name) for pose in held]
        # Three standard errors of 60 draws.
        assert np.mean(values) == pytest.approx(mean, abs=3 * sd / 60**0.5)
        assert np.std(values) == pytest.approx(sd, rel=0.3)


def test_world_of_bones_scales_them():
    here, there = sample_person(31, 4).knees["R"], sample_person(31, 4, world=WORLDS["anatomy"]).knees["R"]
    world = WORLDS["anatomy"]
    assert there.scale / here.scale == pytest.approx(world.bone_scale)
    assert there.aspect / here.aspect == pytest.approx(world.bone_aspect)
    ratio = there.warps["femur"].amplitude / here.warps["femur"].amplitude
    np.testing.assert_allclose(ratio, world.warp_mm / WORLDS["natural"].warp_mm)


def test_scanner_leaves_the_film_and_exposure_the_mri():
    scans = {
        name: (render_film(person, spacing_mm=3.2)[0], render_mri(person, "R", size=16)[0])
        for name in ("natural", "scanner", "exposure", "pose", "anatomy")
        for person in [sample_person(31, 4, world=WORLDS[name])]
    }
    film, mri = scans["natural"]
    np.testing.assert_array_equal(scans["scanner"][0], film)
    np.testing.assert_array_equal(scans["exposure"][1], mri)
    for name in ("pose", "anatomy"):
        assert not np.array_equal(scans[name][0], film)
        assert not np.array_equal(scans[name][1], mri)
