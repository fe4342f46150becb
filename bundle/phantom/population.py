"""Who the participants are: sex, age, build, and the readings of both knees, correlated as disease correlates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from bundle.geometry import SIDES
from bundle.phantom.streams import stream
from bundle.readings import VARIABLES

MARGINALS: dict[str, tuple[float, ...]] = {
    "XROSFM": (0.632, 0.257, 0.076, 0.035),
    "XROSFL": (0.680, 0.227, 0.060, 0.033),
    "XROSTM": (0.520, 0.362, 0.083, 0.035),
    "XROSTL": (0.625, 0.285, 0.065, 0.025),
    "XRSCFM": (0.860, 0.085, 0.040, 0.015),
    "XRSCFL": (0.950, 0.030, 0.015, 0.005),
    "XRSCTM": (0.795, 0.130, 0.055, 0.020),
    "XRSCTL": (0.940, 0.037, 0.017, 0.006),
    "XRJSM": (0.668, 0.252, 0.054, 0.026),
    "XRJSL": (0.929, 0.048, 0.013, 0.010),
    "XRCYFM": (0.972, 0.028),
    "XRCYFL": (0.978, 0.022),
    "XRCYTM": (0.955, 0.038, 0.007),
    "XRCYTL": (0.977, 0.023),
    "XRCHM": (0.945, 0.055),
    "XRCHL": (0.945, 0.055),
    "XRATTM": (0.952, 0.033, 0.011, 0.004),
    "XRATTL": (0.981, 0.014, 0.005, 0.0),
}
"""Share of each grade; design values of OAI's order of magnitude (phantom.md 4), osteophytes and narrowing set so that
the KL grades of truth and readings come out as OAI's: 38.6 / 17.9 / 26.5 / 13.7 / 3.3 %."""

_FACTORS: dict[str, tuple[float, float, float]] = {
    "XRJS": (0.84, 0.45, 0.10),
    "XROS": (0.79, 0.14, 0.43),
    "XRSC": (0.76, 0.42, 0.20),
    "XRCY": (0.62, 0.40, 0.15),
    "XRAT": (0.80, 0.56, 0.0),
}
"""Weight of the knee's severity, of the compartment's share in it, and of the bone's response, by finding."""

_SHARED_SEVERITY = (0.89, 0.455)
"""Weight of the person's severity in a knee's, and of the knee's own."""
_ENRICHED_SHARE = 0.25
_NORMAL = NormalDist()
Floats = TypeVar("Floats", float, np.ndarray)


@dataclass(frozen=True)
class Covariates:
    """What the clinical tables say of a participant.

    Args:
        participant: seven digits, as OAI numbers its participants.
        sex: `F` or `M`.
        age: years.
        height_mm: standing height.
        bmi: body mass index, kg/m2.
        site: clinic, `A` to `E`.
    """

    participant: str
    sex: str
    age: int
    height_mm: float
    bmi: float
    site: str

    @property
    def weight_kg(self) -> float:
        """Body weight that goes with height and BMI."""
        return self.bmi * (self.height_mm / 1000) ** 2


def participant_id(seed: int, index: int) -> str:
    """Seven-digit number of a participant, from 9000000; distinct within a cohort.

    It is a bijection of `index` below 1,000,000 (an odd multiplier that shares no factor with 10), shifted by the seed.
    """
    shift = int(stream(seed, 0, "identity").integers(1_000_000))
    return str(9_000_000 + (index * 611_953 + shift) % 1_000_000)


def sample_covariates(seed: int, index: int) -> Covariates:
    """Draw sex, age, height, BMI and clinic.

    Source:
        Age 61 +- 9 (45-79), BMI 28.6 +- 4.8, 42 % men: OAI baseline (PMC6499841, phantom.md 3.3); clinic shares
        counted from OAI's Enrollees table (oai.md 7).
    """
    rng = stream(seed, index, "covariates")
    sex = "M" if rng.random() < 0.42 else "F"
    age = int(np.clip(round(rng.normal(61, 9.2)), 45, 79))
    height = rng.normal(1765, 68) if sex == "M" else rng.normal(1625, 62)
    bmi = float(np.clip(rng.normal(28.6, 4.8), 18.5, 45.0))
    site = "ABCDE"[int(np.searchsorted(np.cumsum([756, 1000, 1306, 1173, 561]) / 4796, rng.random(), side="right"))]
    return Covariates(participant_id(seed, index), sex, age, round(float(height), 1), round(bmi, 1), site)


def derive_kl(readings: Mapping[str, int]) -> int:
    """Kellgren-Lawrence grade that follows from narrowing and osteophytes; never sampled.

    Args:
        readings: at least the two narrowing and four osteophyte grades.

    Source:
        The rule of phantom.md 4, after the text of Kellgren and Lawrence 1957.
    """
    narrowing = max(readings["XRJSM"], readings["XRJSL"])
    osteophytes = [readings[f"XROS{place}"] for place in ("FM", "FL", "TM", "TL")]
    sites, largest = sum(grade > 0 for grade in osteophytes), max(osteophytes)
    if narrowing == 3:
        return 4
    if narrowing == 2 or (narrowing == 1 and largest >= 2 and sites >= 3):
        return 3
    if largest >= 2 or sites >= 2:
        return 2
    return 1 if sites or narrowing else 0


def sample_readings(
    seed: int, index: int, covariates: Covariates, *, enrich: bool = False
) -> dict[str, dict[str, int]]:
    """Draw the true grades of both knees: a Gaussian copula with readable factors, cut at the target marginals.

    Args:
        seed: of the cohort.
        index: participant.
        covariates: age and BMI raise severity.
        enrich: raise every rare finding to one knee in four; the underlying draws stay the same.

    Returns:
        side to the 19 grades, in the order of `bundle.readings.VARIABLES`.
    """
    rng = stream(seed, index, "readings")
    common, crystal_trait = person_factors(rng.normal(), rng.normal(), age=covariates.age, bmi=covariates.bmi)
    knees = {}
    for side in SIDES:
        severity, lean, response = knee_factors(common, rng.normal(), rng.random(), rng.normal(), rng.normal())
        grades: dict[str, int] = {"XRKL": 0}
        for variable in VARIABLES[1:]:
            own = rng.normal()
            shared, weight = score_parts(
                variable, severity=severity, lean=lean, response=response, crystal_trait=crystal_trait
            )
            grades[variable] = _grade(variable, float(shared + weight * own), enrich)
        grades["XRKL"] = derive_kl(grades)
        knees[side] = grades
    return knees


def person_factors(severity: Floats, crystals: Floats, *, age: Floats, bmi: Floats) -> tuple[Floats, Floats]:
    """A person's severity and tendency to crystals, from two standard normals, age and BMI; scalars or arrays."""
    years = (age - 61) / 9.2
    return 0.90 * severity + 0.31 * years + 0.31 * (bmi - 28.6) / 4.8, crystals + 0.35 * years


def knee_factors(
    common: Floats, severity: Floats, medial: Floats, lean: Floats, response: Floats
) -> tuple[Floats, Floats, Floats]:
    """A knee's severity, lean to the medial side, and response of its bone; scalars or arrays.

    Args:
        common: severity of the person.
        severity: standard normal of the knee, as are `lean` and `response`.
        lean: its absolute value says how far one compartment is ahead.
        response: how much bone the knee makes.
        medial: uniform in [0, 1]; three knees in four lean to the medial side.
    """
    sign = np.where(np.asarray(medial) < 0.76, 1, -1)
    return _SHARED_SEVERITY[0] * common + _SHARED_SEVERITY[1] * severity, sign * np.abs(lean), response


def score_parts(
    variable: str, *, severity: Floats, lean: Floats, response: Floats, crystal_trait: Floats
) -> tuple[Floats, float]:
    """What the factors say of a finding's score, which is near standard normal.

    Args:
        variable: a reading other than XRKL.
        severity: of the knee, as are `lean` and `response`; see `knee_factors`.
        lean: positive where the medial compartment is ahead.
        response: of its bone.
        crystal_trait: of the person.

    Returns:
        the shared part, and the weight of the finding's own standard normal that is added to it.
    """
    if variable.startswith("XRCH"):
        norm = float(np.hypot(0.93 * 1.06, 0.5))
        return 0.93 * crystal_trait / norm, 0.5 / norm
    # The less diseased compartment follows severity, not the lean away from it.
    sign = 1.0 if variable.endswith("M") else -1.0
    by_severity, by_share, by_response = _FACTORS[variable[:4]]
    mixed = by_severity * severity + by_share * sign * lean + by_response * response
    spread = max(1 - by_severity**2 - by_share**2 - by_response**2, 0.04) ** 0.5
    norm = (by_severity**2 * 1.04 + by_share**2 * 0.83 + by_response**2 + spread**2) ** 0.5
    return (mixed - by_share * sign * 0.415) / norm, spread / norm


def grade_shares(variable: str, *, enrich: bool) -> np.ndarray:
    """Share of each grade of a finding, those of a rare one raised where the cohort is enriched."""
    shares = np.asarray(MARGINALS[variable])
    affected = 1 - shares[0]
    if enrich and affected < _ENRICHED_SHARE:
        shares = np.concatenate([[1 - _ENRICHED_SHARE], shares[1:] / affected * _ENRICHED_SHARE])
    return shares


def _grade(variable: str, score: float, enrich: bool) -> int:
    shares = grade_shares(variable, enrich=enrich)
    return int(np.sum(_NORMAL.cdf(score) > np.cumsum(shares)[:-1] + 1e-12))
