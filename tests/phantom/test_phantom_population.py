"""Who the phantom's participants are."""

from dataclasses import fields

import numpy as np
import pytest

from bundle.phantom.anatomy import sample_person
from bundle.phantom.population import derive_kl, participant_id, sample_covariates, sample_readings
from bundle.readings import VARIABLES, grade_table

NONE = dict.fromkeys(VARIABLES[1:], 0)


@pytest.mark.parametrize(
    ("findings", "kl"),
    [
        ({}, 0),
        ({"XROSTM": 1}, 1),
        ({"XRJSM": 1}, 1),
        ({"XROSTM": 1, "XROSFL": 1}, 2),
        ({"XROSTM": 2}, 2),
        ({"XRJSM": 1, "XROSTM": 2, "XROSFM": 1, "XROSTL": 1}, 3),
        ({"XRJSL": 2}, 3),
        ({"XRJSM": 3}, 4),
    ],
)
def test_kl_follows_from_narrowing_and_osteophytes(findings, kl):
    assert derive_kl(NONE | findings) == kl


@pytest.fixture(scope="module")
def knees():
    """True grades of 8,000 knees, right and left in turn, by variable."""
    drawn = [
        knee for index in range(4000) for knee in sample_readings(11, index, sample_covariates(11, index)).values()
    ]
    return {variable: np.array([knee[variable] for knee in drawn]) for variable in VARIABLES}


def test_kl_shares_are_oai_s(knees):
    """OAI baseline: 38.6 / 17.9 / 26.5 / 13.7 / 3.3 %; within 2 points each."""
    shares = np.bincount(knees["XRKL"], minlength=5) / len(knees["XRKL"]) * 100
    np.testing.assert_allclose(shares, [38.6, 17.9, 26.5, 13.7, 3.3], atol=2)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("XRKL", "XRJSM", 0.75), ("XRJSM", "XRSCTM", 0.67), ("XRJSM", "XRJSL", 0.27), ("XRJSM", "XRATTM", 0.56)],
)
def test_findings_correlate_as_disease_correlates_them(knees, one, other, expected):
    """phantom.md 4."""
    assert np.corrcoef(knees[one], knees[other])[0, 1] == pytest.approx(expected, abs=0.06)


def test_the_two_knees_of_a_person_are_alike(knees):
    """phantom.md 4: right and left KL correlate by 0.49."""
    assert np.corrcoef(knees["XRKL"][::2], knees["XRKL"][1::2])[0, 1] == pytest.approx(0.49, abs=0.06)


def test_every_drawn_knee_passes_the_grade_table():
    for index in range(100):
        for knee in sample_readings(2, index, sample_covariates(2, index), enrich=True).values():
            assert tuple(knee) == VARIABLES
            grade_table("oai").validate(knee)


def test_enriched_cohort_shows_cysts_in_one_knee_of_four():
    knees = [
        knee
        for index in range(400)
        for knee in sample_readings(3, index, sample_covariates(3, index), enrich=True).values()
    ]
    share = np.mean([knee["XRCYFL"] > 0 for knee in knees])
    assert 0.19 < share < 0.31


def test_participants_of_a_cohort_have_distinct_numbers():
    numbers = {participant_id(5, index) for index in range(3000)}
    assert len(numbers) == 3000
    assert all(len(number) == 7 for number in numbers)


def test_toggling_a_cyst_changes_the_cyst_alone():
    """Latents are drawn before they are gated, so nothing else of the knee may move."""
    healthy = sample_person(4, 7, readings={"R": NONE}).knees["R"]
    cyst = sample_person(4, 7, readings={"R": NONE | {"XRCYTL": 1}}).knees["R"]
    same = {field.name for field in fields(healthy)} - {"readings", "cysts", "marrow_lesions", "warps", "crystals"}
    assert all(getattr(healthy, name) == getattr(cyst, name) for name in same)
    for bone, warp in healthy.warps.items():
        np.testing.assert_array_equal(warp.amplitude, cyst.warps[bone].amplitude)
    assert not healthy.cysts["TL"].present
    assert cyst.cysts["TL"].present
    assert healthy.cysts["TL"].depth_mm == cyst.cysts["TL"].depth_mm


def test_given_kl_is_refused():
    with pytest.raises(ValueError, match="XRKL"):
        sample_person(0, 0, readings={"R": {"XRKL": 2}})


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed"):
        sample_person(-1, 0)
