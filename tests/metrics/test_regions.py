"""Masks, and why the foreground is not taken from the truth."""

import numpy as np
import pytest

from bundle.metrics import rank_histogram, region_masks, reliability_index


def test_foreground_is_the_means_and_tissues_are_the_labels():
    mean, labels = np.array([-1.0, -0.5, 0.5, 1.0]).reshape(4, 1, 1), np.array([0, 4, 7, 9]).reshape(4, 1, 1)
    found = region_masks(mean, labels)
    assert list(found) == ["foreground", "bone", "cartilage", "meniscus"]
    assert [mask.ravel().tolist() for mask in found.values()] == [
        [False, True, True, True],
        [False, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]
    assert list(region_masks(mean)) == ["foreground"]
    assert region_masks(mean, threshold=0.6)["foreground"].sum() == 1


def test_a_mask_of_the_truth_tilts_the_ranks_of_perfect_samples_and_one_of_the_mean_does_not():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(20, 20, 20))
    truth, samples = mean + rng.normal(size=mean.shape), mean + rng.normal(size=(6, *mean.shape))
    flat, tilted = (
        rank_histogram(samples[:, mask], truth[mask])
        for mask in (region_masks(mean, threshold=0)["foreground"], region_masks(truth, threshold=0)["foreground"])
    )
    assert reliability_index(flat) < 0.1
    assert tilted[-1] > 2 * tilted[0]


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`labels`"):
        region_masks(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="`foreground`"):
        region_masks(np.zeros((2, 2, 2)), tissues={"foreground": (1,)})
