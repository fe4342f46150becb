"""Adjacent-slice correlation against numpy's Pearson r."""

import math

import numpy as np
import pytest
import torch

from bundle.metrics import AdjacentSliceCorrelation, adjacent_slice_correlation


def correlated_volume(seed=0, shape=(20, 16, 5)):
    """A random walk over slices: each slice is the last one and something new."""
    return np.cumsum(np.random.default_rng(seed).standard_normal(shape), axis=2)


def numpy_correlations(volume):
    pairs = zip(volume[..., :-1].T, volume[..., 1:].T, strict=True)
    return [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]


def test_is_the_mean_of_numpys_pearson_r():
    volume = correlated_volume()
    assert adjacent_slice_correlation(volume) == pytest.approx(np.mean(numpy_correlations(volume)), abs=1e-12)


def test_does_not_depend_on_scale_or_offset():
    volume = correlated_volume()
    expected = adjacent_slice_correlation(volume)
    assert adjacent_slice_correlation(1e-200 * volume) == pytest.approx(expected)
    assert adjacent_slice_correlation(7 - 3 * volume) == pytest.approx(expected)


def test_alternating_slices_are_anticorrelated():
    one = correlated_volume()[..., :1]
    assert adjacent_slice_correlation(np.dstack([one, -one, one])) == pytest.approx(-1.0)


def test_pairs_with_a_constant_slice_are_left_out_and_counted():
    """Slices 0 1 2 3 4 with 1 constant (at a value whose mean rounds): pairs 2-3 and 3-4 remain."""
    volume = correlated_volume()
    volume[..., 1] = 0.1
    metric = AdjacentSliceCorrelation()
    score = metric(torch.tensor(volume)[None, None])
    assert score.item() == pytest.approx(np.mean(numpy_correlations(volume[..., 2:])))
    assert metric.left_out().tolist() == [[2]]


@pytest.mark.parametrize("volume", [np.ones((8, 8, 4)), correlated_volume()[..., :1]])
def test_no_pair_left_is_nan(volume):
    assert math.isnan(adjacent_slice_correlation(volume))


def test_metric_scores_the_prediction_or_the_real_volume():
    fake, real = correlated_volume(0), correlated_volume(1)
    batch = torch.tensor(fake)[None, None], torch.tensor(real)[None, None]
    assert AdjacentSliceCorrelation()(*batch).tolist() == [[pytest.approx(adjacent_slice_correlation(fake))]]
    assert AdjacentSliceCorrelation(of="real")(*batch).item() == pytest.approx(adjacent_slice_correlation(real))
    with pytest.raises(ValueError, match="`y`"):
        AdjacentSliceCorrelation(of="real")(batch[0])
    with pytest.raises(ValueError, match="pred, real"):
        AdjacentSliceCorrelation(of="mri")


def test_equal_slices_never_exceed_one():
    """The sum of squares of a unit vector rounds to either side of 1."""
    scores = [adjacent_slice_correlation(np.repeat(correlated_volume(seed)[..., :1], 2, axis=2)) for seed in range(20)]
    assert max(scores) <= 1.0
    assert scores == pytest.approx([1.0] * 20)


def test_impossible_input_is_refused():
    volume = correlated_volume()
    with pytest.raises(ValueError, match=r"\(H, W, S\)"):
        adjacent_slice_correlation(volume[None])
    volume[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="finite"):
        adjacent_slice_correlation(volume)
