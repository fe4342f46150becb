"""Labels come onto the MRI's voxels by the affines alone, mirrored where the MRI is."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.geometry import Grid
from bundle.transforms import CanonicalSided, LoadLabelsd, band_of_joint, band_of_masks, middle_third

GRID = Grid.of(image_size=32, slices=6)


@pytest.fixture
def truth(tmp_path):
    """A block of label 2 written on a grid twice as fine, in another axis order."""
    fine = Grid.of(image_size=64, slices=6)
    labels = np.zeros(fine.shape, np.uint8)
    labels[10:20, 40:60, 2:4] = 2
    image = nib.Nifti1Image(labels, fine.affine())
    turned = image.as_reoriented(nib.orientations.axcodes2ornt(("L", "S", "A"), (("R", "L"), ("A", "P"), ("I", "S"))))
    for side in ("R", "L"):
        nib.save(turned, tmp_path / f"9000001_{side}_labels.nii.gz")
    return tmp_path


def item(side):
    mri = MetaTensor(torch.zeros(1, *GRID.shape), affine=torch.from_numpy(GRID.affine()))
    return CanonicalSided("mri")({"mri": mri, "side": side, "participant": "9000001", "visit": "00m"})


def test_labels_lie_where_the_affines_say(truth):
    labels = LoadLabelsd(truth)(item("R"))["labels"]
    expected = torch.zeros(1, *GRID.shape, dtype=torch.uint8)
    expected[0, 5:10, 20:30, 2:4] = 2
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.as_tensor(), expected)


def test_a_left_knees_labels_are_mirrored_with_its_mri(truth):
    right, left = (LoadLabelsd(truth)(item(side))["labels"].as_tensor() for side in ("R", "L"))
    assert torch.equal(left, right.flip(-2))
    assert not torch.equal(left, right)


def test_a_knee_without_a_file_is_counted_and_has_no_labels(truth):
    load = LoadLabelsd(truth)
    other = item("R") | {"participant": "9000002"}
    assert "labels" not in load(other)
    load(item("R"))
    assert (load.found, load.absent) == (1, 1)
    assert "labels" not in LoadLabelsd(None)(item("R"))


def test_absent_folder_and_broken_labels_are_refused(truth, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        LoadLabelsd(tmp_path / "nowhere")
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 0.5, np.float32), np.eye(4)), truth / "9000001_R_labels.nii.gz")
    with pytest.raises(ValueError, match="whole numbers"):
        LoadLabelsd(truth)(item("R"))


def test_band_runs_from_two_thirds_down_the_femur_to_one_third_down_the_tibia():
    """Femur rows 0 to 59: two thirds down is row 40; tibia rows 66 to 95: a third down is row 76."""
    bones = np.zeros((96, 8, 3), np.uint8)
    bones[:60], bones[66:] = 1, 2
    assert band_of_masks(bones) == (40, 76)
    assert band_of_masks(np.where(bones == 2, 0, bones)) is None
    assert band_of_joint(48.0, rows=96) == (32, 64)
    assert middle_third(64) == (21, 43)
    first, end = band_of_joint(8.0, rows=16)
    assert end - first == 11
