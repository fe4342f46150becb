"""Readers of films: what they write down is a noisy view of the true grades, as disagreeing readers show."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache

import numpy as np
import torch
from torch.special import ndtr, ndtri

from bundle.geometry import SIDES
from bundle.phantom.anatomy import Person
from bundle.phantom.population import MARGINALS, derive_kl
from bundle.phantom.streams import stream
from bundle.readings import VARIABLES

PROJECTS = (15, 37, 42)
"""OAI's reading projects (READPRJ), by preference; 42 is another code of 37 (oai.md 6c)."""
SECOND_PROJECTS = PROJECTS[1:]
_FIDELITY = {
    15: {"XROS": 0.993, "XRJS": 0.993, "XRSC": 0.975, "XRCY": 0.955, "XRCH": 0.955, "XRAT": 0.965},
    37: {"XROS": 0.984, "XRJS": 0.984, "XRSC": 0.955, "XRCY": 0.930, "XRCH": 0.930, "XRAT": 0.940},
}
"""Correlation of the score a reader sees with the true one. Project 15 adjudicated its readers' disagreements and so
errs less. Design values: exact agreement with the truth is 0.91 to 0.99 by finding in project 15 and 0.89 to 0.98 in
37; two readers of one project agree with weighted kappas near those published, 0.45 to 0.94 by finding (Klara et al.,
J Rheumatol 2016;43:1421), 0.65 and 0.71 for lateral and medial narrowing (Guermazi et al., Skeletal Radiol 2012)."""
_FIDELITY[42] = _FIDELITY[37]
_RESERVE = 0.08
"""How much further than the true one lies a reader's cut between absent and present: a doubtful finding is passed over
more often than one is seen that is not there. It keeps the share of KL 0, which one false finding of six would end."""
_RAREST = 5e-4
"""Share that a grade has for a reader at least: even a grade that is never drawn must be read somehow."""
_QUANTILES = 400


@cache
def _confusion(variable: str, project: int) -> np.ndarray:
    shares = np.maximum(MARGINALS[variable], _RAREST)
    edges = np.concatenate([[0.0], np.cumsum(shares / shares.sum())[:-1], [1.0]])
    cuts = ndtri(torch.from_numpy(edges[1:-1]))
    cuts[0] += _RESERVE
    fidelity = _FIDELITY[project][variable[:4]]
    # Each true grade is a bin of quantiles of its score; average the reader's chances over the bin.
    within = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    low, high = torch.from_numpy(edges[:-1]), torch.from_numpy(edges[1:])
    scores = ndtri(low[:, None] + within * (high - low)[:, None])
    below = ndtr((cuts - fidelity * scores[..., None]) / (1 - fidelity**2) ** 0.5).mean(dim=1).numpy()
    ends = np.ones((len(shares), 1))
    table = np.diff(np.hstack([0 * ends, below, ends]), axis=1)
    table.flags.writeable = False
    return table


@cache
def _ladders(variable: str, project: int) -> list[list[float]]:
    """By true grade, the chances of a reading of 0, up to 1, ...; without the last, which is 1."""
    return np.cumsum(_confusion(variable, project), axis=1)[:, :-1].tolist()


def confusion(variable: str, project: int) -> np.ndarray:
    """How readers of a project grade a finding whose true grade is known.

    Every grade is a bin of a standard normal score. A reader sees a score that correlates with the true one by the
    project's fidelity and cuts it at the same places, with some reserve before anything is called present. Most errors
    are therefore by one grade, and a cohort's shares of grades stay near the true ones. Errors of different findings
    are independent.

    Args:
        variable: a reading other than XRKL, which follows from the others.
        project: 15, 37 or 42.

    Returns:
        (true grades, read grades), read-only; each row sums to 1.

    Raises:
        ValueError: on an unknown project, or a variable that has no table.
    """
    _check_project(project)
    if variable not in MARGINALS:
        raise ValueError(
            f"`variable` must be one of {', '.join(MARGINALS)}, got {variable!r}; XRKL follows from these by rule."
        )
    return _confusion(variable, project)


def read_film(person: Person, project: int = PROJECTS[0]) -> dict[str, dict[str, int]]:
    """Read both knees of a participant's film as a project's reader does; KL follows from what was read.

    Every finding has its own draw, so toggling one true grade changes no other reading but KL.

    Args:
        person: whose film.
        project: 15, 37 or 42.

    Returns:
        side to the 19 grades, in the order of `bundle.readings.VARIABLES`.

    Raises:
        ValueError: on an unknown project.
    """
    _check_project(project)
    draws = stream(person.seed, person.index, f"reader_{project}").random((len(SIDES), len(VARIABLES)))
    knees = {}
    for side, row in zip(SIDES, draws.tolist(), strict=True):
        true, grades = person.knees[side].readings, {"XRKL": 0}
        for variable, draw in zip(VARIABLES[1:], row[1:], strict=True):
            grade = true[variable]
            certain = variable[:-1] in person.world.certain
            grades[variable] = grade if certain else bisect_right(_ladders(variable, project)[grade], draw)
        grades["XRKL"] = derive_kl(grades)
        knees[side] = grades
    return knees


def _check_project(project: int) -> None:
    if project not in PROJECTS:
        raise ValueError(f"`project` must be one of {', '.join(map(str, PROJECTS))}, got {project!r}.")
