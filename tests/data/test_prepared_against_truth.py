"""A prepared volume lies where the phantom's truth lies: the labels explain it best unshifted and unmirrored."""

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

BONES = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def knee(prepared, phantom_oai):
    """A prepared volume, and the truth's labels brought to its voxels by the two affines alone."""
    item = json.loads((prepared / "dataset.json").read_text())["training"][0]
    volume = nib.load(prepared / item["mri"])
    labels = nib.load(phantom_oai / "truth" / f"{item['participant']}_{item['side']}_labels.nii.gz")
    return volume, np.asarray(resample_from_to(labels, volume, order=0).dataobj)


def agreement(image, labels):
    """Correlation of the image with what the labels' mean intensities say of it, inside the labels."""
    inside = labels > 0
    means = {label: image[labels == label].mean() for label in np.unique(labels[inside])}
    predicted = np.vectorize(means.get)(labels[inside])
    return np.corrcoef(image[inside], predicted)[0, 1]


def test_the_labels_fit_best_at_no_shift(knee):
    """A shift by one voxel along any axis, or a mirror, must explain the image worse."""
    volume, labels = knee
    image = volume.get_fdata()
    here = agreement(image, labels)
    shifts = [shift for shift in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, shift)) == 1]
    for shift in shifts:
        assert agreement(np.roll(image, shift, axis=(0, 1, 2)), labels) < here, shift
    assert agreement(image[:, ::-1], labels) < here - 0.1
    assert agreement(image[:, :, ::-1], labels) < here - 0.1


def test_marrow_is_dark_and_cartilage_bright(knee):
    """Water excitation: the T1 look with bright marrow would be the wrong sequence."""
    volume, labels = knee
    image = volume.get_fdata()
    bone = image[np.isin(labels, BONES)].mean()
    cartilage = image[np.isin(labels, (5, 6, 7))].mean()
    assert cartilage > 2 * bone


def test_the_window_is_slices_13_to_62(knee, prepared, phantom_oai):
    """The first prepared slice lies at the 14th of 80, 19.5 mm in front of the most posterior one."""
    volume, _ = knee
    item = json.loads((prepared / "dataset.json").read_text())["training"][0]
    labels = nib.load(phantom_oai / "truth" / f"{item['participant']}_R_labels.nii.gz")
    assert volume.shape == (64, 64, 50)
    assert nib.aff2axcodes(volume.affine) == ("I", "L", "A")
    np.testing.assert_allclose(volume.affine @ [0, 0, 0, 1], labels.affine @ [0, 0, 13, 1], atol=1e-4)
    np.testing.assert_allclose(volume.affine[:3, :3], labels.affine[:3, :3], atol=1e-5)


def test_splits_go_by_participant_and_files_exist(prepared):
    dataset = json.loads((prepared / "dataset.json").read_text())
    seen = {}
    for split in ("training", "validation", "test"):
        assert dataset[split]
        for item in dataset[split]:
            assert seen.setdefault(item["participant"], split) == split
            assert (prepared / item["film"]).is_file()
            assert (prepared / item["mri"]).is_file()
            assert len(item["readings"]) == 19
    assert dataset["source"] == "synthetic-phantom"
    report = json.loads((prepared / "report.json").read_text())
    assert report["counts"]["prepared"] == len(seen) == 12
