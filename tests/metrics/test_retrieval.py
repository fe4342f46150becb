"""Retrieval on constructed cases: perfect, swapped, mean-collapsed, shuffled, and whom a knee is matched with."""

import numpy as np
import pytest
import torch

from bundle.metrics import matched_distractors, residual_correlation, retrieve, volume_vector
from bundle.metrics.retrieval import bone_width_mm

COUNT = 40
REAL = np.random.default_rng(0).normal(size=(COUNT, 200))
OWN = range(COUNT)


def outcome(generated):
    return retrieve(residual_correlation(generated, REAL), OWN)


def test_correlation_is_numpys_own():
    generated = np.random.default_rng(1).normal(size=(3, 200))
    expected = np.corrcoef(np.vstack([generated, REAL]))[:3, 3:]
    np.testing.assert_allclose(residual_correlation(generated, REAL), expected, atol=1e-12)


def test_perfect_predictor_finds_every_patient():
    found = outcome(REAL * 0.3)
    assert found.top(1).tolist() == [1] * COUNT
    assert found.rank.tolist() == [1] * COUNT
    assert found.auc.tolist() == [1] * COUNT


def test_swapped_predictions_find_the_other_patient():
    """Each film gives its neighbour's volume: never first, and the neighbour is."""
    swapped = np.roll(REAL, 1, axis=0)
    assert outcome(swapped).top(1).tolist() == [0] * COUNT
    neighbours = [(n - 1) % COUNT for n in OWN]
    assert retrieve(residual_correlation(swapped, REAL), neighbours).top(1).tolist() == [1] * COUNT


def test_mean_collapsed_predictor_is_exactly_at_chance():
    """No residual, up to rounding: 1/40, 5/40, rank 20.5, AUC a half."""
    found = outcome(np.full_like(REAL, 1e-9) * REAL)
    np.testing.assert_allclose(found.top(1), 1 / COUNT)
    np.testing.assert_allclose(found.top(5), 5 / COUNT)
    np.testing.assert_allclose(found.rank, (COUNT + 1) / 2)
    np.testing.assert_allclose(found.auc, 0.5)


def test_one_volume_for_every_film_is_at_chance_on_average():
    """It ranks the real volumes alike for every film, so the ranks are 1 to 40."""
    found = outcome(np.repeat(REAL[:1] + REAL[1:2], COUNT, axis=0))
    assert sorted(found.rank) == list(range(1, COUNT + 1))
    assert found.auc.mean() == pytest.approx(0.5)


def test_shuffled_films_are_at_chance():
    """Standard error of the mean AUC of 40 films is 0.29 / sqrt(40) = 0.046; three of them."""
    shuffled = REAL[np.random.default_rng(2).permutation(COUNT)]
    found = outcome(shuffled)
    assert abs(found.auc.mean() - 0.5) < 0.14
    assert found.top(1).mean() < 0.1


def test_ranks_are_taken_among_the_named_distractors_alone():
    similarity = np.array([[0.5, 0.9, 0.1], [0.2, 0.3, 0.3]])
    found = retrieve(similarity, [0, 1], [np.array([2]), np.array([0, 2])])
    assert found.candidates.tolist() == [2, 3]
    assert found.rank.tolist() == [1, 1.5]
    assert found.top(1).tolist() == [1, 0.5]
    assert found.auc.tolist() == [1, 0.75]
    assert np.isnan(retrieve(similarity[:1], [0], [np.array([], dtype=int)]).auc).all()


def test_matched_distractors_share_sex_and_grade_and_are_nearest_in_size():
    people = ["a", "a", "b", "c", "d", "e", "f"]
    found = matched_distractors(
        participants=people,
        sexes=["F", "F", "F", "F", "F", "M", ""],
        grades=[2, 2, 2, 2, 3, 2, 2],
        sizes=[70, 71, 75, 69, 70, 70, 70],
        count=10,
    )
    assert [list(others) for others in found] == [[3, 2], [3, 2], [1, 0, 3], [0, 1, 2], [], [], []]
    nearest = matched_distractors(participants="abc", sexes="FFF", grades=[0] * 3, sizes=[1.0, 2.0, np.nan], count=1)
    assert [list(others) for others in nearest] == [[1], [0], []]


def test_bone_width_is_the_widest_extent_of_femur_and_tibia():
    labels = np.zeros((6, 20, 4), dtype=int)
    labels[1, 4:10, 0] = 1
    labels[1, 12:14, 3] = 2  # the same row on another slice: columns 4 to 13 are ten
    labels[3, 0:20, 2] = 7  # cartilage is no bone
    assert bone_width_mm(labels, column_mm=0.5) == 5.0
    assert np.isnan(bone_width_mm(labels * 0, column_mm=0.5))


def test_vector_is_means_of_cells():
    volume = torch.arange(4 * 4 * 2, dtype=torch.float32).reshape(1, 4, 4, 2)
    expected = volume.reshape(2, 2, 2, 2, 2).mean((1, 3)).flatten()
    np.testing.assert_allclose(volume_vector(volume, shape=(2, 2, 8)), expected)


def test_volumes_that_cannot_be_ranked_are_refused():
    with pytest.raises(ValueError, match="volume 3 does not differ"):
        residual_correlation(REAL, np.where(np.arange(COUNT)[:, None] == 3, 0, REAL))
    with pytest.raises(ValueError, match="`generated` must be finite"):
        residual_correlation(REAL * np.nan, REAL)
    with pytest.raises(ValueError, match="NaN in parts"):
        retrieve(np.array([[np.nan, 1.0]]), [0])
    with pytest.raises(ValueError, match="`own`"):
        retrieve(np.eye(2), [0, 2])
    with pytest.raises(ValueError, match="finite"):
        volume_vector(torch.full((1, 4, 4, 2), torch.nan))
