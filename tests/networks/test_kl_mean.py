"""The mean of a grade, and when the mean of all stands in."""

import pytest
import torch

from bundle.networks.kl_mean import KLMean, kl_grades
from bundle.readings import GRADE_TABLES, KL_GRADES, MISSING_POLICIES

SHAPE = (2, 2, 3)
FILM = torch.zeros(1, 1, 2, 2)


def item(value, grade):
    return {"mri": torch.full((1, *SHAPE), float(value)), "readings": {"XRKL": grade}}


def vector(grade, policy="zeros"):
    return torch.from_numpy(GRADE_TABLES["oai"].encode({"XRKL": grade}, policy=policy))[None]


@pytest.fixture
def fitted():
    """Grade 0: 0.1 and 0.3; grade 2: 0.5, 0.6 and 0.7; grade 4: 0.9; no grade: -0.8."""
    values = [(0.1, 0), (0.5, 2), (0.3, 0), (0.6, 2), (0.9, 4), (0.7, 2), (-0.8, None)]
    return KLMean(SHAPE, least=2).fit(item(*value) for value in values)


@pytest.mark.parametrize(("grade", "expected"), [(0, 0.2), (2, 0.6)])
def test_a_film_gets_the_mean_of_its_grade(fitted, grade, expected):
    torch.testing.assert_close(fitted(FILM, vector(grade)), torch.full((1, 1, *SHAPE), expected))


@pytest.mark.parametrize("readings", [None, vector(None), vector(1), vector(4)])
def test_the_mean_of_all_stands_in_for_missing_absent_and_rare_grades(fitted, readings):
    """(0.1 + 0.3 + 0.5 + 0.6 + 0.7 + 0.9 - 0.8) / 7; the knee without a grade counts in it."""
    torch.testing.assert_close(fitted(FILM, readings), torch.full((1, 1, *SHAPE), 2.3 / 7))
    assert fitted.counts.tolist() == [2, 0, 3, 0, 1]


def test_films_of_a_batch_have_their_own_grades_and_more_slices(fitted):
    readings = torch.cat([vector(2), vector(0)])
    volumes = fitted(FILM.expand(2, -1, -1, -1), readings, slices=5)
    assert volumes.shape == (2, 1, 2, 2, 5)
    torch.testing.assert_close(volumes[:, 0, 0, 0, 3], torch.tensor([0.6, 0.2]))


@pytest.mark.parametrize("policy", MISSING_POLICIES)
@pytest.mark.parametrize("table", GRADE_TABLES.values(), ids=GRADE_TABLES)
def test_grades_are_read_from_every_tables_vector(table, policy):
    vectors = [torch.from_numpy(table.encode({"XRKL": grade}, policy=policy)) for grade in range(KL_GRADES)]
    assert kl_grades(torch.stack(vectors)).tolist() == list(range(KL_GRADES))
    missing = torch.from_numpy(table.encode({}, policy=policy))[None]
    assert kl_grades(missing).tolist() == [0 if policy == "grade0" else KL_GRADES]


def test_it_is_fitted_on_vectors_alike(fitted):
    values = [(0.1, 0), (0.5, 2), (0.3, 0), (0.6, 2), (0.9, 4), (0.7, 2), (-0.8, None)]
    items = [{**item(value, grade), "readings": vector(grade)[0]} for value, grade in values]
    assert torch.equal(KLMean(SHAPE, least=2).fit(items).means, fitted.means)


def test_state_dict_carries_means_and_counts(fitted):
    loaded = KLMean(SHAPE, least=2)
    loaded.load_state_dict(fitted.state_dict())
    for grade in (0, 1, 4):
        assert torch.equal(loaded(FILM, vector(grade)), fitted(FILM, vector(grade)))


def test_unfitted_or_unfittable_is_an_error():
    with pytest.raises(RuntimeError, match=r"KLMean.*`fit`"):
        KLMean(SHAPE)(FILM)
    with pytest.raises(ValueError, match="at least one"):
        KLMean(SHAPE).fit([])
    with pytest.raises(ValueError, match="item 1"):
        KLMean(SHAPE).fit([item(torch.nan, 1)])
    with pytest.raises(ValueError, match="`least`"):
        KLMean(SHAPE, least=0)
