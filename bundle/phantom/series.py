"""The image series of a participant: where each lies in the release and how its lists describe it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bundle.phantom.anatomy import Person
from bundle.phantom.streams import stream

VISIT = "00m"
RELEASES = ("0.C.2", "0.E.1")
FILM_DESCRIPTION = "Bilateral PA Fixed Flexion Knee"
SIDE_WORDS = {"R": "RIGHT", "L": "LEFT"}
_LEFT_SHARE = 0.04
"""Participants whose MRI is of the left knee: OAI's T1 3-D FLASH is the right one's as the rule (oai.md 2)."""


@dataclass(frozen=True)
class Series:
    """One series.

    Args:
        release: such as `0.C.2`.
        participant: seven digits.
        date: yyyymmdd.
        barcode: eight digits as the rule.
        study: StudyDescription.
        description: SeriesDescription.
        side: `R` or `L`, or `B` for both knees.
        listed: whether the release's list of images has it.
    """

    release: str
    participant: str
    date: str
    barcode: str
    study: str
    description: str
    side: str
    listed: bool = True

    @property
    def folder(self) -> str:
        """Folder relative to the visit's."""
        return f"{self.release}/{self.participant}/{self.date}/{self.barcode}"

    @property
    def is_film(self) -> bool:
        """Whether it is a radiograph; else it is an MRI."""
        return "^XRAY^" in self.study


def plan_series(person: Person) -> tuple[Series, Series]:
    """The film and the MRI series of a participant: films at the screening visit, MRI at enrolment, days later."""
    rng = stream(person.seed, person.index, "film_header")
    participant = person.covariates.participant
    release = RELEASES[int(rng.random() > 2686 / 4796)]
    start = np.datetime64("2004-02-01") + np.timedelta64(int(rng.integers(0, 800)), "D")
    later = start + np.timedelta64(int(rng.integers(3, 60)), "D")
    # Distinct within a cohort: the participant's own digits, then film or MRI.
    number = int(participant) - 9_000_000
    film = Series(
        release,
        participant,
        str(start).replace("-", ""),
        f"{number * 10 + 1:08d}",
        "OAI^XRAY^SCREENING^KNEE",
        FILM_DESCRIPTION,
        "B",
    )
    side = mri_side(person)
    mri = Series(
        release,
        participant,
        str(later).replace("-", ""),
        f"{number * 10 + 5:08d}",
        f"OAI^MR^ENROLLMENT^{SIDE_WORDS[side]}",
        f"COR_T1_3D_FLASH_{SIDE_WORDS[side]}",
        side,
    )
    return film, mri


def mri_side(person: Person) -> str:
    """`R`, or in a few participants `L`: the knee that is imaged."""
    return "L" if stream(person.seed, person.index, "mri_header").spawn(1)[0].random() < _LEFT_SHARE else "R"
