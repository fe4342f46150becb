"""Posterior samples: what is kept, what is drawn again, and what that does to film, MRI and bounds."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import film_evidence as evidence
import nibabel as nib
import numpy as np
import pytest
from oracle_bounds import bounds

from bundle.phantom import film, mri
from bundle.phantom.anatomy import Person, sample_person
from bundle.phantom.hidden_readings import HIDDEN_READINGS, draw_hidden
from bundle.phantom.mri import render_mri
from bundle.phantom.population import derive_kl
from bundle.phantom.posterior import GIVEN, HIDDEN, LATENTS, redraw, sample_posterior, write_posterior
from bundle.phantom.readers import confusion
from bundle.phantom.streams import stream

ROOT = Path(__file__).resolve().parents[2]
REDRAWN = {
    "readings",
    "joint_space_mri",
    "cartilage_split",
    "patellar_cartilage",
    "meniscus_extrusion",
    "effusion",
    "vessel_shift",
    "marrow_lesions",
    "cysts",
    "crystals",
    "mri_pose",
}


def same(a: object, b: object) -> bool:
    """Equality of a knee's fields, arrays included."""
    return repr(a) == repr(b)


@pytest.mark.parametrize("given", GIVEN)
def test_sample_keeps_what_the_film_shows_and_draws_the_rest_again(given):
    person = sample_person(1, 2, enrich=True)
    sample = sample_posterior(person, "R", 1, given)
    old, new = person.knees["R"], sample.knees["R"]
    changed = {field.name for field in fields(old) if not same(getattr(old, field.name), getattr(new, field.name))}
    assert changed <= REDRAWN
    assert changed >= REDRAWN - {"readings", "crystals"}
    assert {v for v in old.readings if old.readings[v] != new.readings[v]} <= set(HIDDEN_READINGS)
    assert derive_kl(new.readings) == new.readings["XRKL"]
    for compartment, width in new.joint_space_mri.items():
        assert 0.09 < width - 1.04 * new.joint_space_film[compartment] < 0.5
    assert sample.knees["L"] is person.knees["L"]


def test_samples_are_deterministic_and_differ_from_each_other_and_from_the_knee():
    person = sample_person(1, 2)
    first, again, second = (sample_posterior(person, "R", k) for k in (1, 1, 2))
    assert same(first, again)
    poses = {one.knees["R"].mri_pose for one in (person, first, second)}
    assert len(poses) == 3
    volumes = [render_mri(one, "R", size=16)[0] for one in (person, first, again, second)]
    np.testing.assert_array_equal(volumes[1], volumes[2])
    assert not np.array_equal(volumes[0], volumes[1])
    assert not np.array_equal(volumes[1], volumes[3])


def test_mri_of_another_draw_has_other_texture_and_noise_of_the_same_knee():
    person = sample_person(1, 2)
    own, other = (render_mri(one, "R", size=64)[0] for one in (person, replace(person, draw=1)))
    assert 0.9 < np.corrcoef(own.ravel(), other.ravel())[0, 1] < 0.99
    # Air, 384 voxels in a corner of the foremost slices: noise alone, so two draws share nothing (SD 0.05).
    assert abs(np.corrcoef(own[-6:, :8, :8].ravel(), other[-6:, :8, :8].ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("wrong", [{"given": "readings"}, {"k": 0}, {"side": "B"}])
def test_unknown_side_given_or_k_is_refused(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
        sample_posterior(sample_person(0, 0), **{"side": "R", "k": 1} | wrong)


def test_reader_who_never_errs_leaves_no_doubt():
    person = sample_person(1, 2, enrich=True)
    true = person.knees["R"].readings
    for k in (1, 2, 3):
        sample = sample_posterior(
            person,
            "R",
            k,
            "film,readings",
            read={side: knee.readings for side, knee in person.knees.items()},
            reader=lambda variable: np.eye(confusion(variable, 15).shape[0]),
        )
        assert sample.knees["R"].readings == true


def test_hidden_grades_are_drawn_as_often_as_they_occur_and_go_with_disease():
    """Exact conditionals reproduce the joint: mean grade and its product with narrowing, over 120 enriched people."""
    people = [sample_person(21, index, enrich=True) for index in range(120)]
    true, drawn, narrowing = [], [], []
    for person in people:
        rng = stream(person.seed, person.index, "posterior_R", 1)
        _, grades = draw_hidden(rng, person, "R")
        readings = person.knees["R"].readings
        true.append([readings[v] > 0 for v in HIDDEN_READINGS])
        drawn.append([grades[v] > 0 for v in HIDDEN_READINGS])
        narrowing.append(readings["XRJSM"] > 0)
    true, drawn, ill = np.array(true, float), np.array(drawn, float), np.array(narrowing)
    # Standard error of a difference of two shares of a quarter, averaged over six correlated findings: about 0.03.
    assert abs(true.mean() - drawn.mean()) < 0.08
    assert abs(true[ill].mean() - drawn[ill].mean()) < 0.12
    medial_tibia = HIDDEN_READINGS.index("XRCYTM")
    assert drawn[ill, medial_tibia].mean() > drawn[~ill, medial_tibia].mean()


def test_a_reader_s_word_moves_the_hidden_grades():
    person = sample_person(21, 3)
    seen = {}
    for grade in (0, 1):
        read = {"R": {"XRCYTM": grade}, "L": {}}
        draws = [
            draw_hidden(
                np.random.default_rng(k), person, "R", read=read, confusion=lambda variable: confusion(variable, 15)
            )[1]["XRCYTM"]
            for k in range(12)
        ]
        seen[grade] = np.mean(np.array(draws) > 0)
    assert seen[1] > seen[0] + 0.4
    with pytest.raises(ValueError, match="`confusion`"):
        draw_hidden(np.random.default_rng(0), person, "R", read={})


def test_film_and_mri_share_no_stream(monkeypatch):
    person = sample_person(2, 0)
    used: dict[str, set[str]] = {}
    for name, module in (("film", film), ("mri", mri)):

        def noted(seed: int, index: int, purpose: str, draw: int = 0, of: str = name) -> np.random.Generator:
            used.setdefault(of, set()).add(purpose)
            return stream(seed, index, purpose, draw)

        monkeypatch.setattr(module, "stream", noted)
    film.render_film(person, spacing_mm=1.6)
    mri.render_mri(person, "R", size=16)
    assert used["film"]
    assert used["mri"]
    assert not used["film"] & used["mri"]


@pytest.fixture(scope="module")
def person() -> Person:
    return sample_person(4100, 0)


@pytest.fixture(scope="module")
def noise(person) -> np.ndarray:
    """Power of photons and trabeculae round the joint."""
    return evidence.noise_power(person, texture=True, pairs=2)


def test_hidden_latents_are_under_the_noise_of_a_film_and_visible_ones_above(person, noise):
    """To an ideal observer who knows the change exactly, what hidden latents do is at the limit of detection."""
    bare = [name for name in HIDDEN if name not in ("cysts", "crystals")]
    assert evidence.detectability(evidence.change(person, *bare), noise) < 2
    for shown in ("joint space", "patella height"):
        assert evidence.detectability(evidence.change(person, shown), noise) > 10


def test_redraw_changes_what_it_names(person):
    fresh = evidence.fresh_knee(person, 1)
    for name in LATENTS:
        knee = redraw(person.knees["R"], fresh, [name])
        if not name.startswith(("attrition", "crystals", "osteophyte size")):
            assert not same(knee, person.knees["R"]), name
        assert same(redraw(knee, person.knees["R"], [name]), person.knees["R"]), name


@pytest.mark.slow
def test_oracle_leads_every_guess_from_the_film():
    """At 32 pixels and with 16 people to learn from; docs/phantom.md has the bounds at 128."""
    found = bounds(seed=4200, train=16, tests=range(5000, 5003), samples=3, size=32)
    assert found["oracle"] > found["mean volume"] + 1
    assert found["oracle"] > found["nearest film"] + 1
    assert found["oracle"] > found["ridge"] + 1
    assert found["oracle"] > found["oracle, mean of 3"] > found["oracle, one sample"] > found["another knee"]


@pytest.mark.slow
def test_films_of_samples_pass_for_repeat_exposures_and_hidden_latents_cannot_be_predicted():
    """A classifier on local changes, and ridge regression, over 150 enriched people."""
    people = [sample_person(4300, index, enrich=True) for index in range(150)]
    films = [evidence.exposures(person) for person in people]
    changed = {
        name: np.stack([evidence.features(one[name], one["given"]) for one in films])
        for name in ("repeat", "sample", "narrower")
    }
    assert evidence.area_under_curve(changed["sample"], changed["repeat"]) < 0.55
    assert evidence.area_under_curve(changed["narrower"], changed["repeat"]) > 0.9
    pixels = np.stack([one["given"].ravel() for one in films])
    pixels = (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)
    for of, below in ((evidence.hidden_targets, True), (evidence.visible_targets, False)):
        values = [of(person.knees["R"]) for person in people]
        for name in values[0]:
            score = evidence.cross_validated_r2(pixels, np.array([one[name] for one in values]))
            assert score < 0.1 if below else score > 0.25, name


def test_samples_are_written_on_the_grid_of_the_mri_in_its_units(tmp_path):
    person = sample_person(1, 2)
    paths = write_posterior(tmp_path, person, "R", count=2, given="film", size=32)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        f"posterior_film/{person.covariates.participant}_R_{k}.nii.gz" for k in (1, 2)
    ]
    volume, affine = render_mri(sample_posterior(person, "R", 2), "R", size=32)
    written = nib.load(paths[1])
    np.testing.assert_allclose(written.affine, affine, atol=1e-4)
    np.testing.assert_allclose(written.get_fdata(), volume.transpose(1, 2, 0), atol=0.15 / 4095)
    assert len(list(tmp_path.rglob("*"))) == 3


def test_command_writes_samples_beside_the_truth(tmp_path):
    options = ["--out", str(tmp_path / "oai"), "--participants", "1", "--seed", "3", "--size", "test"]
    options += ["--posterior", "1", "--given", "film,readings", "--workers", "1"]
    subprocess.run([sys.executable, "scripts/make_phantom.py", *options], cwd=ROOT, check=True, capture_output=True)
    assert len(list((tmp_path / "oai/truth/posterior_film,readings").glob("*_1.nii.gz"))) == 1
