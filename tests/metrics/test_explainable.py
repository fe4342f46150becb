"""Share of the explainable on a Gaussian toy whose answer is known."""

import numpy as np
import pytest

from bundle.metrics import explainable_share, mean_squared_error, share_above_floor

RNG = np.random.default_rng(0)
KNEES, VOXELS = 400, 50


def toy(*, samples, oracle_samples, corrected=True, weight=1.0):
    """Y = seen + hidden, both standard normal; the mean knows neither (MSE 2), the oracle the first (MSE 1).

    A model that follows `weight` of what is seen, with the right spread about it, has MSE 1 + (1 - weight)^2, so its
    share is 1 - (1 - weight)^2, whatever the number of samples.
    """
    errors = []
    for _ in range(KNEES):
        seen = RNG.normal(size=VOXELS)
        truth = seen + RNG.normal(size=VOXELS)
        model = weight * seen + RNG.normal(size=(samples, VOXELS))
        oracle = seen + RNG.normal(size=(oracle_samples, VOXELS))
        mean = mean_squared_error(np.zeros((1, VOXELS)), truth)
        pair = [mean_squared_error(drawn, truth, corrected=corrected) for drawn in (model, oracle)]
        errors.append((mean, *pair))
    return np.array(errors)


@pytest.mark.parametrize("oracle_samples", [2, 16])
@pytest.mark.parametrize("samples", [2, 4])
@pytest.mark.parametrize(("weight", "share"), [(1.0, 1.0), (0.5, 0.75), (0.0, 0.0)])
def test_share_is_the_true_one_at_any_number_of_samples(weight, share, samples, oracle_samples):
    errors = toy(samples=samples, oracle_samples=oracle_samples, weight=weight)
    assert errors.mean(0) == pytest.approx([2, 1 + (1 - weight) ** 2, 1], abs=0.05)
    assert explainable_share(errors) == pytest.approx(share, abs=0.05)


def test_without_the_correction_few_samples_look_like_ignorance():
    """Two samples of the right model: MSE 1 + 1/2 against the oracle's 1 + 1/16, a share of 0.5 / 0.94."""
    errors = toy(samples=2, oracle_samples=16, corrected=False)
    assert explainable_share(errors) == pytest.approx(0.5 / (1 - 1 / 16), abs=0.05)


def test_mean_collapsed_model_has_no_share_and_the_oracle_all():
    errors = toy(samples=4, oracle_samples=4)
    assert explainable_share(errors[:, [0, 0, 2]]) == 0
    assert explainable_share(errors[:, [0, 2, 2]]) == 1


def test_a_point_estimate_has_nothing_to_correct():
    assert mean_squared_error(np.ones((1, 3)), np.zeros(3)) == 1
    assert mean_squared_error(np.array([[0.0, 3], [2, 3]]), np.zeros(2)) == 5 - 2 / 2 / 2


def test_share_is_of_means_not_a_mean_of_shares():
    assert explainable_share(np.array([[2.0, 1, 0], [4, 4, 2]])) == 0.25
    assert np.isnan(explainable_share(np.array([[1.0, 0.5, 1]])))


def test_share_above_floor_has_no_direction():
    assert share_above_floor(np.array([[20.0, 25, 30]])) == 0.5
    assert share_above_floor(np.array([[-20.0, -25, -30]])) == 0.5
    assert np.isnan(share_above_floor(np.array([[1.0, 2, 1]])))


@pytest.mark.parametrize("share", [explainable_share, share_above_floor])
def test_scores_that_say_nothing_are_refused(share):
    with pytest.raises(ValueError, match="finite"):
        share(np.array([[1.0, np.nan, 0]]))
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        share(np.ones((2, 2)))
