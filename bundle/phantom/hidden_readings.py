"""Readings that a film hardly shows, drawn again given those it shows: an importance sampler over the few factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.special import log_ndtr, ndtr, ndtri

from bundle.geometry import SIDES
from bundle.phantom.anatomy import MALE_SCALE, Person
from bundle.phantom.population import MARGINALS, Covariates, grade_shares, knee_factors, person_factors, score_parts
from bundle.readings import VARIABLES

HIDDEN_READINGS = tuple(v for v in VARIABLES if v.startswith(("XRCY", "XRCH")))
"""Cysts and chondrocalcinosis: under a fiftieth of the film's range and without an edge (docs/phantom.md)."""
_PARTICLES = 20_000

Table = Mapping[str, Mapping[str, float | None]]
Confusion = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class _Particles:
    """Persons drawn from the prior, each field (n,) or by side; `male` is a boolean."""

    male: np.ndarray
    age: np.ndarray
    height_mm: np.ndarray
    bmi: np.ndarray
    crystal_trait: np.ndarray
    knees: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def draw(cls, rng: np.random.Generator, known: Covariates | None) -> _Particles:
        n = _PARTICLES
        male, normals, side_of_disease = rng.random(n) < 0.42, rng.normal(size=(11, n)), rng.random((2, n))
        age = np.clip(61 + 9.2 * normals[0], 45, 79)
        height = np.where(male, 1765 + 68 * normals[1], 1625 + 62 * normals[1])
        bmi = np.clip(28.6 + 4.8 * normals[2], 18.5, 45.0)
        if known is not None:
            male = np.full(n, known.sex == "M")
            age, height, bmi = (np.full(n, float(v)) for v in (known.age, known.height_mm, known.bmi))
        common, trait = person_factors(normals[3], normals[4], age=age, bmi=bmi)
        knees = {
            side: knee_factors(common, normals[5 + 3 * k], side_of_disease[k], normals[6 + 3 * k], normals[7 + 3 * k])
            for k, side in enumerate(SIDES)
        }
        return cls(male, age, height, bmi, trait, knees)

    def chances(self, variable: str, side: str, *, enrich: bool) -> np.ndarray:
        """Chance of each grade, (n, grades)."""
        severity, lean, response = self.knees[side]
        shared, weight = score_parts(
            variable, severity=severity, lean=lean, response=response, crystal_trait=self.crystal_trait
        )
        shares = grade_shares(variable, enrich=enrich)
        cuts = ndtri(torch.from_numpy(np.clip(np.cumsum(shares)[:-1], 0, 1)))
        below = ndtr((cuts - torch.from_numpy(np.asarray(shared))[:, None]) / weight).numpy()
        ends = np.ones((len(below), 1))
        return np.diff(np.hstack([0 * ends, below, ends]), axis=1)

    def log_likelihood_of_build(self, person: Person, side: str) -> np.ndarray:
        """How well the size of the bones, the fat and the muscle of a knee fit each particle, (n,); see `draw_knee`."""
        knee = person.knees[side]
        usual = np.where(self.male, MALE_SCALE, 1.0) * person.world.bone_scale
        by_height = 0.7 * (self.height_mm / np.where(self.male, 1765.0, 1625.0) - 1)
        total = -0.5 * ((knee.scale / usual - 1 - by_height) / 0.03) ** 2
        mean_fat = 7 + 0.75 * (self.bmi - 25) + np.where(self.male, 0, 5)
        off_fat = (knee.fat - mean_fat) / 1.2
        # The thinnest layer is 3 mm: all that is less is drawn as that.
        thinnest = log_ndtr(torch.from_numpy(off_fat)).numpy()
        total += np.where(knee.fat <= 3.0, thinnest, -0.5 * off_fat**2)
        factor = np.where(self.male, 1.06, 0.97)
        return total - 0.5 * ((knee.muscle / factor - 1 - 0.012 * (self.bmi - 28)) / 0.04) ** 2 - np.log(factor)


def draw_hidden(
    rng: np.random.Generator,
    person: Person,
    side: str,
    *,
    known: Covariates | None = None,
    read: Table | None = None,
    confusion: Confusion | None = None,
) -> tuple[Covariates, dict[str, int]]:
    """Draw covariates and true grades of one knee given the grades that both knees show, and what else is told.

    Persons are drawn from the prior and weighted by the chance that they have the visible grades of both knees, the
    build of this one, and the readings that were told; one is chosen, and the finding's own noise is drawn for it.

    Args:
        rng: what to draw with.
        person: whose film is given.
        side: the knee.
        known: covariates, where they are told; else sex, age, height and BMI are drawn too.
        read: by side, what the table holds of the hidden readings, None or absent where it was not read.
        confusion: variable to (true, read) chances of a reader; needed with `read`.

    Returns:
        covariates, and the grades of `HIDDEN_READINGS`.

    Raises:
        ValueError: when `read` comes without `confusion`.
    """
    if read is not None and confusion is None:
        raise ValueError("`confusion` must be given with `read`: what the reader makes of each true grade.")
    particles = _Particles.draw(rng, known)
    chances: dict[tuple[str, str], np.ndarray] = {}
    weight = particles.log_likelihood_of_build(person, side) if known is None else np.zeros(_PARTICLES)
    for knee in SIDES:
        for variable in MARGINALS:
            of_grade = particles.chances(variable, knee, enrich=person.enrich)
            if variable not in HIDDEN_READINGS:
                weight = weight + np.log(of_grade[:, person.knees[knee].readings[variable]] + 1e-12)
                continue
            grade = (read or {}).get(knee, {}).get(variable)
            if grade is not None and confusion is not None:
                of_grade = of_grade * confusion(variable)[None, :, int(grade)]
                weight = weight + np.log(of_grade.sum(axis=1) + 1e-300)
            chances[knee, variable] = of_grade
    share = np.exp(weight - weight.max())
    chosen = int(rng.choice(_PARTICLES, p=share / share.sum()))
    grades = {}
    for variable in HIDDEN_READINGS:
        of_grade = chances[side, variable][chosen]
        grades[variable] = int(rng.choice(len(of_grade), p=of_grade / of_grade.sum()))
    if known is not None:
        return known, grades
    drawn = replace(
        person.covariates,
        sex="M" if particles.male[chosen] else "F",
        age=round(float(particles.age[chosen])),
        height_mm=float(particles.height_mm[chosen]),
        bmi=float(particles.bmi[chosen]),
    )
    return drawn, grades
