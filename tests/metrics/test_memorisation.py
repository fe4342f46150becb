"""Memorisation on constructed cases: copied, honest, and sets of unequal size."""

import numpy as np
import pytest

from bundle.metrics import compare_nearest, pairwise_rmse

RNG = np.random.default_rng(0)
TRAINING, REAL = RNG.normal(size=(200, 50)), RNG.normal(size=(100, 50))
WHO = [f"test{n}" for n in range(100)]
TRAINED = [f"training{n // 2}" for n in range(200)]


def compare(generated, *, training=TRAINING, trained=TRAINED):
    return compare_nearest(
        pairwise_rmse(generated, training),
        pairwise_rmse(generated, REAL),
        participants=WHO,
        training_participants=trained,
        held_out_participants=WHO,
    )


def test_copied_training_volumes_are_seen():
    found = compare(TRAINING[:100])
    assert found.copies.all()
    assert found.first_to_second.tolist() == [0] * 100
    assert (found.count == 99).all()
    # of 200 training volumes 99 are compared, so the copied one is among them 99 times in 200
    assert found.nearer.mean() > 0.6
    assert (found.training / found.held_out).mean() < 0.7


def test_copies_of_a_small_training_set_have_share_one_and_ratio_zero():
    found = compare(TRAINING[np.arange(100) % 4], training=TRAINING[:4], trained=TRAINED[:4])
    few = compare(TRAINING[np.arange(100) % 1], training=TRAINING[:1], trained=TRAINED[:1])
    assert (few.training == 0).all()
    assert few.nearer == pytest.approx(1)
    assert np.isnan(few.first_to_second).all()
    # all four training volumes are compared with four of the 99 held-out ones: the copied one is always there
    assert (found.training == 0).all()
    assert found.nearer == pytest.approx(1)


def test_volumes_like_any_other_are_not_called_copies():
    """New draws: nearest training and held-out distances are exchangeable, share 1/2 and ratio 1."""
    found = compare(np.random.default_rng(1).normal(size=(100, 50)))
    assert not found.copies.any()
    assert found.nearer.mean() == pytest.approx(0.5, abs=0.1)
    assert (found.training.mean() / found.held_out.mean()) == pytest.approx(1, abs=0.03)


def test_own_volume_is_no_reference():
    """A perfect model gives the real volumes; that they are near themselves is no evidence of not copying."""
    found = compare(REAL)
    assert (found.held_out > 0.5).all()
    assert found.nearer.mean() == pytest.approx(0.5, abs=0.1)


def test_expectation_is_that_of_drawn_subsamples():
    generated, rng = np.random.default_rng(2).normal(size=(100, 50)), np.random.default_rng(3)
    found = compare(generated)
    near, far = pairwise_rmse(generated, TRAINING)[0], pairwise_rmse(generated, REAL)[0][1:]
    drawn = np.array([rng.choice(near, 99, replace=False).min() for _ in range(4000)])
    assert found.training[0] == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 4000**0.5)
    assert found.held_out[0] == far.min()
    assert found.nearer[0] == pytest.approx((drawn < far.min()).mean(), abs=0.04)


def test_distances_are_root_mean_squares_and_zero_for_copies():
    np.testing.assert_allclose(pairwise_rmse(np.zeros((1, 4)), np.array([[2.0, 2, 2, 2], [0, 0, 0, 2]])), [[2, 1]])
    assert pairwise_rmse(REAL + 100, REAL + 100).diagonal().max() == 0


def test_sets_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="'test0'"):
        compare(REAL, trained=["test0"] * 200)
    with pytest.raises(ValueError, match="`to_training`"):
        compare(REAL, trained=TRAINED[:-1])
