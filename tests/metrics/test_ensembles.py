"""CRPS, coverage, ranks and spread against loops, closed forms and constructed samples."""

import numpy as np
import pytest

from bundle.metrics import covered, fair_crps, rank_histogram, reliability_index, spread_and_error
from bundle.metrics.ensembles import reachable_level

RNG = np.random.default_rng(0)
VALUES = 20000


def drawn(count, *, spread=1.0, shift=0.0):
    """Truth and samples from one normal distribution, or samples that are too narrow, too wide, or beside it."""
    rng = np.random.default_rng(count)
    return rng.normal(size=(count, VALUES)) * spread + shift, rng.normal(size=VALUES)


def test_crps_is_the_sum_over_pairs():
    samples, truth = RNG.normal(size=(5, 3, 2)), RNG.normal(size=(3, 2))
    pairs = sum(np.abs(a - b) for a in samples for b in samples) / (2 * 5 * 4)
    np.testing.assert_allclose(fair_crps(samples, truth), np.abs(samples - truth).mean(0) - pairs, atol=1e-12)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_crps_does_not_depend_on_the_number_of_samples(count):
    """Of a standard normal about itself it is 1 / sqrt(pi): half the mean distance of two draws."""
    assert fair_crps(*drawn(count)).mean() == pytest.approx(np.pi**-0.5, abs=0.02)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("count", [4, 8, 40])
def test_perfect_samples_cover_the_level_that_so_few_can_reach(count, level):
    """Exact where a quantile is a sample; between samples linear interpolation is a little off."""
    assert covered(*drawn(count), level=level).mean() == pytest.approx(reachable_level(level, count), abs=0.045)


def test_too_narrow_samples_cover_too_little_and_too_wide_ones_too_much():
    assert covered(*drawn(19, spread=0.4), level=0.8).mean() < 0.5
    assert covered(*drawn(19, spread=2.5), level=0.8).mean() > 0.95


def test_limits_count_as_inside():
    assert covered(np.full((8, 3), 0.1), np.full(3, 0.1), level=0.5).all()
    assert not covered(np.full((8, 3), 0.1), np.full(3, 0.1001), level=0.5).any()


def test_rank_histogram_of_perfect_samples_is_flat_of_narrow_ones_a_u():
    flat, narrow = (rank_histogram(*drawn(9, spread=spread)) for spread in (1, 0.3))
    assert flat.sum() == pytest.approx(VALUES)
    assert reliability_index(flat) < 0.05
    assert reliability_index(narrow) > 0.5
    assert narrow[[0, -1]].sum() > 0.6 * VALUES
    shifted = rank_histogram(*drawn(9, shift=1.0))
    assert shifted[0] > 5 * shifted[-1]


def test_ranks_by_hand_and_ties_shared():
    samples = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 7.0]])
    assert rank_histogram(samples, np.array([1.5, 6.0])).tolist() == [0, 0, 2, 0]
    assert rank_histogram(samples, np.array([9.0, 5.0])) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert reliability_index([4, 0, 0, 0]) == 1.5


def test_spread_and_error_agree_for_perfect_samples_alone():
    spread, error = spread_and_error(*drawn(4))
    assert spread.mean() / error.mean() == pytest.approx(1, abs=0.04)
    spread, error = spread_and_error(*drawn(4, spread=0.5))
    assert spread.mean() / error.mean() < 0.35


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="K of 2"):
        fair_crps(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        rank_histogram(np.full((3, 2), np.nan), np.zeros(2))
    with pytest.raises(ValueError, match="`level`"):
        covered(np.zeros((3, 2)), np.zeros(2), level=95)
    with pytest.raises(ValueError, match="`histogram`"):
        reliability_index([0, 0])
