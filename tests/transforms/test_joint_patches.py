"""Joint patches: the right millimetres, the right side, and the lateral one reversed."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.phantom.anatomy import sample_person
from bundle.phantom.film import film_geometry, render_film
from bundle.phantom.pose import solve_pose
from bundle.readings import VARIABLES
from bundle.transforms import CanonicalSide, JointPatches, JointPatchesd

NONE = dict.fromkeys(VARIABLES[1:], 0)


def test_patches_are_cut_in_millimetres_and_the_lateral_one_is_reversed():
    """160 pixels are 1 mm each: 40 mm round column 80 + 20 is [80, 120); to the other side [40, 80), reversed."""
    film = torch.arange(160.0).expand(1, 160, 160)
    medial, lateral = JointPatches(patch_mm=40, centre_mm=20, patch_size=40)(film)
    torch.testing.assert_close(medial[0], torch.arange(80.0, 120.0))
    torch.testing.assert_close(lateral[0], torch.arange(79.0, 39.0, -1.0))
    rows = torch.arange(160.0)[:, None].expand(1, 160, 160)
    torch.testing.assert_close(
        JointPatches(patch_mm=40, centre_mm=20, patch_size=40)(rows)[0][:, 0], torch.arange(60.0, 100.0)
    )


def test_size_of_the_film_does_not_move_a_patch():
    ramp = torch.linspace(-1, 1, 320).expand(1, 320, 320)
    coarse = torch.nn.functional.avg_pool2d(ramp[None], 4)[0]
    torch.testing.assert_close(JointPatches()(ramp), JointPatches()(coarse), atol=1e-3, rtol=0)  # 0.08 mm of the ramp


@pytest.fixture(scope="module")
def exposures():
    """Two films of both knees: without findings; with medial narrowing on the right and lateral on the left."""
    grades = ({"R": NONE, "L": NONE}, {"R": NONE | {"XRJSM": 2}, "L": NONE | {"XRJSL": 2}})
    sound, narrowed = (sample_person(3, 0, readings=one) for one in grades)
    held = {side: solve_pose(knee, "film") for side, knee in sound.knees.items()}
    films = [render_film(sound, spacing_mm=1.6, posed=held)[0], render_film(narrowed, spacing_mm=1.6)[0]]
    joints = {side: (posed.femur.shift + posed.tibia.shift) / 2 for side, posed in held.items()}
    centres = {side: film_geometry(sound, 1.6).project(joint, side) for side, joint in joints.items()}
    return [np.pad(film, 52, mode="edge").astype(np.float32) for film in films], centres


@pytest.mark.parametrize(("side", "patch"), [("R", 0), ("L", 1)])
def test_narrowing_of_a_compartment_is_in_its_patch(exposures, side, patch):
    """104 pixels of 1.6 mm at the detector are the field of view; a left knee is brought to the right."""
    films, centres = exposures
    row, column = (round(float(value)) for value in centres[side])
    patches = []
    for film in films:
        cut = torch.from_numpy(film[row : row + 104, column : column + 104])[None, :, :, None]
        canonical = CanonicalSide()(MetaTensor(cut), side)
        patches.append(JointPatches(patch_size=32)(canonical[..., 0]))
    # the third of the patch round the joint line, where the far compartment changes by the femur's tilt alone
    changed = (patches[1] - patches[0]).abs()[:, 11:21, 8:].mean(dim=(1, 2))
    assert changed[patch] > 1.3 * changed[1 - patch], changed


def test_dictionary_form_keeps_the_film():
    film = torch.zeros(1, 64, 64)
    knee = JointPatchesd(patch_size=8)({"image": film, "side": "R"})
    assert knee["image"] is film
    assert knee["patches"].shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"patch_mm": 0}, "positive"), ({"centre_mm": 57}, "field of view"), ({"patch_size": 0}, "positive")],
)
def test_arguments_out_of_range_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        JointPatches(**options)


def test_films_with_a_third_dim_are_refused():
    with pytest.raises(ValueError, match="FlattenFilmd"):
        JointPatches()(torch.from_numpy(np.zeros((1, 8, 8, 1))))
