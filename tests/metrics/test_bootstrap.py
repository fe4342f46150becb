"""Intervals over participants."""

import numpy as np
import pytest

from bundle.metrics import participant_interval
from bundle.metrics.bootstrap import METHODS, ratio_of_means

VALUES = np.random.default_rng(0).normal(size=50)


@pytest.mark.parametrize("method", METHODS)
def test_interval_of_a_mean_is_about_two_standard_errors(method):
    low, high = participant_interval(VALUES, range(50), method=method, resamples=2000)
    error = VALUES.std(ddof=1) / 50**0.5
    assert low == pytest.approx(VALUES.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(VALUES.mean() + 1.96 * error, abs=0.3 * error)


def test_two_equal_knees_of_a_participant_are_not_two_people():
    """Each value twice: as 100 people the interval would be narrower by the root of two."""
    twice, who = np.repeat(VALUES, 2), np.repeat(np.arange(50), 2)
    low, high = participant_interval(VALUES, range(50))
    clustered = participant_interval(twice, who.tolist())
    wrong = participant_interval(twice, range(100))
    assert clustered == pytest.approx((low, high))
    assert wrong[1] - wrong[0] == pytest.approx((high - low) / 2**0.5, rel=0.15)


def test_participants_with_more_knees_keep_all_of_them():
    """Two people: every draw is all of one, all of the other, or both."""
    low, high = participant_interval(np.array([0.0, 0, 0, 4]), ["a", "a", "a", "b"], resamples=200)
    assert (low, high) == (0, 4)
    drawn = set()

    def statistic(values):
        drawn.add(len(values))
        return float(values.mean())

    participant_interval(np.array([0.0, 0, 0, 4]), ["a", "a", "a", "b"], statistic=statistic, resamples=100)
    assert drawn == {6, 4, 2}


def test_seed_decides():
    first, again, other = (participant_interval(VALUES, range(50), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_no_interval_is_nan_not_a_guess():
    assert np.isnan(participant_interval(VALUES[:3], ["a", "a", "a"])).all()
    pairs = np.array([[1.0, 0.0], [1.0, 1.0]])  # half of the draws of two divide by 0 or could
    assert np.isnan(participant_interval(pairs, ["a", "b"], statistic=ratio_of_means)).all()


@pytest.mark.parametrize(
    "wrong",
    [{"participants": ["a"]}, {"method": "t"}, {"level": 95}, {"resamples": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_options_are_named(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
        participant_interval(VALUES, **({"participants": range(50)} | wrong))
