"""Volumes at other depths."""

import pytest
import torch

from bundle.networks.between_slices import asked_depths, at_depths

VOLUME = torch.tensor([0.0, 10.0, 40.0]).view(1, 1, 1, 1, 3)


def test_slices_between_are_linear_and_the_fitted_ones_themselves():
    found = at_depths(VOLUME, torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0])).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 5.0, 10.0, 34.0, 40.0]))


def test_a_volume_of_one_slice_is_that_slice_everywhere():
    assert at_depths(VOLUME[..., 2:], torch.tensor([0.0, 0.3, 1.0])).flatten().tolist() == [40.0] * 3


def test_depths_outside_are_refused():
    for depth in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="`depths`"):
            at_depths(VOLUME, torch.tensor([depth]))


def test_what_a_call_asks_for():
    assert asked_depths(None, None, count=3) is None
    assert asked_depths(3, None, count=3) is None
    assert asked_depths(5, None, count=3).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert asked_depths(5, torch.tensor([0.5]), count=3).tolist() == [0.5]
