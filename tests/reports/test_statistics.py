"""Intervals and tests whose answers can be worked out by hand."""

import math

import numpy as np
import pytest

from bundle.reports import interval, paired


def test_equal_scores_have_an_interval_without_width():
    found = interval(np.full(6, 3.0), list("abcdef"))
    assert (found.mean, found.low, found.high) == (3.0, 3.0, 3.0)


def test_interval_is_as_wide_as_theory_says():
    """The mean of 400 draws of unit variance has an error of 0.05: 1.96 of it to either side."""
    values = np.random.default_rng(0).standard_normal(400)
    found = interval(values, [str(i) for i in range(400)])
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_two_knees_of_a_person_count_as_one_person():
    """200 people with twice the same score know no more than 200 people: no narrower than once each."""
    values = np.random.default_rng(1).standard_normal(200)
    people = [str(i) for i in range(200)]
    once, twice = interval(values, people), interval(np.tile(values, 2), people * 2)
    assert (twice.n, twice.participants) == (400, 200)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


def test_a_person_with_more_knees_weighs_more_in_the_mean():
    found = interval(np.array([0.0, 0.0, 3.0]), ["a", "a", "b"])
    assert found.mean == 1.0
    assert (found.low, found.high) == (0.0, 3.0)


def test_what_is_not_finite_is_counted_out_and_one_person_has_no_interval():
    found = interval(np.array([1.0, math.nan, math.inf]), ["a", "b", "c"])
    assert found == type(found)(1.0, None, None, 1, 1)
    assert interval(np.array([math.nan]), ["a"]).mean is None


def test_paired_test_is_exact_on_a_small_case():
    """Ten people, all better: of 2^10 sign patterns one is as extreme on each side."""
    others = np.random.default_rng(2).standard_normal(10)
    found = paired(others + np.arange(1, 11), others, [str(i) for i in range(10)])
    assert found.p == pytest.approx(2 / 2**10)
    assert found.difference.mean == pytest.approx(5.5)
    assert found.median == pytest.approx(5.5)
    assert 0 < found.difference.low < 5.5 < found.difference.high < 10


def test_pairing_removes_what_both_share():
    """Knees differ by 10, methods by 0.1: unpaired intervals overlap, the paired one does not reach zero."""
    rng = np.random.default_rng(3)
    hard = 10 * rng.standard_normal(40)
    ours = hard + 0.1 + 0.05 * rng.standard_normal(40)
    people = [str(i) for i in range(40)]
    assert interval(ours, people).low < interval(hard, people).high
    found = paired(ours, hard, people)
    assert found.difference.low > 0
    assert found.p < 1e-4


def test_knees_that_only_one_has_take_no_part_and_equal_methods_have_no_p():
    found = paired(np.array([1.0, math.nan, 2.0]), np.array([1.0, 5.0, 2.0]), ["a", "b", "c"])
    assert (found.difference.n, found.difference.mean, found.p) == (2, 0.0, None)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one score a knee"):
        interval(np.zeros(2), ["a"])
    with pytest.raises(ValueError, match="same knees"):
        paired(np.zeros(2), np.zeros(3), ["a", "b"])
