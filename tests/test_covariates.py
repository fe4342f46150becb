"""Covariates as a vector: by hand, with each missing policy, and what is refused."""

import numpy as np
import pytest

from bundle import covariates


def test_a_knees_covariates_by_hand():
    """Age 71 is one standard deviation of 9 above 62; BMI 26 is half of 5 below 28.5."""
    knee = {"age": 71, "sex": "M", "bmi": 26.0, "side": "R"}
    np.testing.assert_allclose(covariates.encode(knee), [1.0, 0, 1, -0.5, 1, 0])
    np.testing.assert_allclose(covariates.encode(knee, policy="mask"), [1.0, 0, 1, -0.5, 1, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("knee", [None, {}, {"age": None, "sex": None}])
def test_missing_is_zeros_and_the_mask_tells_it_from_the_mean(knee):
    assert not covariates.encode(knee).any()
    mean = covariates.encode({"age": 62, "bmi": 28.5}, policy="mask")
    assert not mean[:6].any()
    assert mean[6:].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("policy", ["zeros", "mask"])
def test_the_width_is_the_vectors_length(policy):
    assert covariates.width(policy) == len(covariates.encode(None, policy=policy))
    assert covariates.policy_of(covariates.width(policy)) == policy


def test_lengths_that_no_policy_gives_are_refused():
    assert covariates.policy_of(0) is None
    with pytest.raises(ValueError, match="6 or 10, got 7"):
        covariates.policy_of(7)


@pytest.mark.parametrize(
    ("knee", "match"),
    [
        ({"height": 1.7}, "row 3: unknown covariate `height`"),
        ({"age": 7}, "row 3: `age` must be a number from 18 to 120"),
        ({"age": float("nan")}, "`age`"),
        ({"bmi": "heavy"}, "`bmi`"),
        ({"sex": "1"}, "`sex` must be one of F, M"),
        ({"side": "right"}, "`side` must be one of R, L"),
    ],
)
def test_values_outside_are_refused_by_name(knee, match):
    with pytest.raises(ValueError, match=match):
        covariates.encode(knee, where="row 3")


def test_grade0_and_unknown_policies_are_refused():
    for policy in ("grade0", "drop"):
        with pytest.raises(ValueError, match="`policy`"):
            covariates.encode({}, policy=policy)
