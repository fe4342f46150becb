"""The oracle's samples go the way of the real volume: a sample that is the truth comes out as the truth."""

import json
import shutil

import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged

from bundle.data import LoadOracled, has_oracle, pairs
from bundle.phantom import posterior
from bundle.phantom.anatomy import sample_person
from bundle.transforms import CanonicalSided, ToGridd

ROWS, SLICES = 32, 20
REAL = Compose(
    [
        LoadImaged("mri", image_only=True),
        EnsureChannelFirstd("mri", channel_dim="no_channel"),
        ToGridd("mri", image_size=ROWS, slices=SLICES),
        ScaleIntensityRanged("mri", 0, 1, -1, 1),
        CanonicalSided("mri"),
    ]
)


@pytest.fixture(scope="module")
def knee(prepared):
    """A left knee of the phantom's, whose columns are mirrored, and the person it is of."""
    people = {person.covariates.participant: person for person in (sample_person(0, index) for index in range(12))}
    items = [item for split in ("training", "validation", "test") for item in _items(prepared, split)]
    item = next(item for item in items if item["side"] == "L")
    return item, people[item["participant"]]


def _items(prepared, split):
    return pairs(prepared, split) if json.loads((prepared / "dataset.json").read_text())[split] else []


@pytest.fixture(scope="module")
def truth_as_sample(knee, tmp_path_factory):
    """A posterior folder whose only sample is the knee itself."""
    item, person = knee
    folder = tmp_path_factory.mktemp("truth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior, "sample_posterior", lambda person, side, k, given: person)
        posterior.write_posterior(folder, person, item["side"], count=1, given="film", size=64)
    return folder / "posterior_film"


def test_a_sample_that_is_the_truth_comes_out_as_the_truth(knee, truth_as_sample):
    """The scanner's gain differs, both are stored in steps of 1/4095, and the percentiles take the gain away."""
    item, _ = knee
    loaded = LoadOracled(truth_as_sample, image_size=ROWS, slices=SLICES)(item)
    real = REAL(item)["mri"].as_tensor()
    assert loaded["oracle"].shape == real.shape == (1, ROWS, ROWS, SLICES)
    assert float((loaded["oracle"] - real).abs().max()) < 0.01
    assert float((loaded["oracle"].flip(2) - real).abs().max()) > 0.5  # the mirror matters


def test_all_samples_their_mean_and_the_first_are_added(knee, truth_as_sample, tmp_path):
    item, _ = knee
    source = next(truth_as_sample.glob("*.nii.gz"))
    stem = source.name.removesuffix("_1.nii.gz")
    for k in (1, 2, 3):
        shutil.copy(source, tmp_path / f"{stem}_{k}.nii.gz")
    loaded = LoadOracled(tmp_path, image_size=ROWS, slices=SLICES, samples=2)(REAL(item))
    assert loaded["oracle_samples"].shape == (2, 1, ROWS, ROWS, SLICES)
    assert torch.equal(loaded["oracle_sample"], loaded["oracle_samples"][0])
    assert torch.equal(loaded["oracle"], loaded["oracle_samples"].mean(0))
    assert len(LoadOracled(tmp_path, image_size=ROWS, slices=SLICES)(item)["oracle_samples"]) == 3


def test_a_real_posterior_sample_is_another_knee_in_the_same_place(knee, tmp_path):
    """Bone as the film shows it, what is hidden drawn again: near the truth, and not it."""
    item, person = knee
    posterior.write_posterior(tmp_path, person, item["side"], count=1, given="film", size=64)
    loaded = LoadOracled(tmp_path / "posterior_film", image_size=ROWS, slices=SLICES)(item)["oracle"]
    real = REAL(item)["mri"].as_tensor()
    r = np.corrcoef(loaded.flatten(), real.flatten())[0, 1]
    assert 0.8 < r < 0.999


def test_without_a_folder_there_is_no_oracle(knee, tmp_path):
    item, _ = knee
    for folder in (None, tmp_path / "absent", tmp_path):
        assert not has_oracle(folder)
        assert LoadOracled(folder, image_size=ROWS, slices=SLICES)(item) == item


def test_a_knee_that_the_folder_lacks_is_an_error(knee, truth_as_sample):
    item, _ = knee
    load = LoadOracled(truth_as_sample, image_size=ROWS, slices=SLICES)
    with pytest.raises(FileNotFoundError, match="has 0 samples of 9000000_R"):
        load({**item, "participant": "9000000", "side": "R"})
    with pytest.raises(FileNotFoundError, match="expected 2"):
        LoadOracled(truth_as_sample, image_size=ROWS, slices=SLICES, samples=2)(item)
    with pytest.raises(ValueError, match="`samples`"):
        LoadOracled(truth_as_sample, image_size=ROWS, slices=SLICES, samples=0)
