"""Radiographic readings of one knee: which grades exist, and how they become a vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MISSING_POLICIES = ("zeros", "mask", "grade0")
FRACTIONAL = ("XRJSM", "XRJSL")
"""Variables that progression readers grade in fractions; the weight is shared by the two neighbours."""


@dataclass(frozen=True)
class GradeTable:
    """The highest grade of each variable, in the order of the one-hot vector.

    Args:
        name: how configs and weights call the table.
        highest: variable to highest grade; every variable starts at grade 0.
    """

    name: str
    highest: Mapping[str, int]

    @property
    def width(self) -> int:
        """Length of the one-hot vector."""
        return sum(grade + 1 for grade in self.highest.values())

    def vector_width(self, policy: str) -> int:
        """Length of what `encode` gives under a missing policy."""
        return self.width + (len(self.highest) if check_policy(policy) == "mask" else 0)

    def validate(self, readings: Mapping[str, float | None], *, where: str = "readings") -> None:
        """Refuse unknown variables and grades outside the table.

        Args:
            readings: variable to grade, None where missing.
            where: row or file that the error names.

        Raises:
            ValueError: naming variable, value and `where`.
        """
        for variable, grade in readings.items():
            if variable not in self.highest:
                raise ValueError(
                    f"{where}: unknown reading `{variable}`; the grade table `{self.name}` has "
                    f"{', '.join(self.highest)}."
                )
            if grade is None:
                continue
            try:
                value = math.nan if isinstance(grade, bool) else float(grade)
            except OverflowError:
                value = math.inf
            except (TypeError, ValueError):
                raise ValueError(f"{where}: `{variable}` must be a number or missing, got {grade!r}.") from None
            top = self.highest[variable]
            whole = float(value).is_integer()
            if not (math.isfinite(value) and 0 <= value <= top) or not (whole or variable in FRACTIONAL):
                kind = "a grade" if variable in FRACTIONAL else "a whole grade"
                raise ValueError(
                    f"{where}: `{variable}` must be {kind} from 0 to {top} (grade table `{self.name}`), got {grade!r}."
                )

    def encode(
        self, readings: Mapping[str, float | None] | None, *, policy: str = "zeros", where: str = "readings"
    ) -> np.ndarray:
        """One-hot code of a knee's readings.

        Args:
            readings: variable to grade; absent or None is missing; None alone means nothing is known.
            policy: `zeros` leaves a missing reading's slots at 0 (the paper), `mask` appends one availability bit
                a variable, `grade0` reads missing as grade 0.
            where: row or file that errors name.

        Returns:
            float32 vector of length `vector_width(policy)`.

        Raises:
            ValueError: on an unknown variable, grade or policy.

        Source:
            Wang et al., "Feasibility Study of a Diffusion-Based Model for Cross-Modal Generation of Knee MRI from
            X-ray", Table I; grades as OAI has them (design.md 3.7).
        """
        check_policy(policy)
        readings = readings or {}
        self.validate(readings, where=where)
        blocks, available = [], []
        for variable, top in self.highest.items():
            grade = readings.get(variable)
            if grade is None and policy == "grade0":
                grade = 0
            block = np.zeros(top + 1, dtype=np.float32)
            if grade is not None:
                low = math.floor(float(grade))
                share = float(grade) - low
                block[low] = 1.0 - share
                if share:
                    block[low + 1] = share
            blocks.append(block)
            available.append(grade is not None)
        if policy == "mask":
            blocks.append(np.asarray(available, dtype=np.float32))
        return np.concatenate(blocks)

    def replaced(self, vector: np.ndarray, grades: Mapping[str, int | None], *, policy: str = "zeros") -> np.ndarray:
        """A one-hot code in which some readings are others.

        Args:
            vector: of `encode` under the same policy.
            grades: variable to its new whole grade, None where it is to be missing.
            policy: as in `encode`.

        Returns:
            a new vector.

        Raises:
            ValueError: on a vector of another length, an unknown variable, grade or policy.
        """
        if vector.shape != (self.vector_width(policy),):
            raise ValueError(f"`vector` must have shape {(self.vector_width(policy),)}, got {vector.shape}.")
        changed, available = [], []
        for variable, top in self.highest.items():
            changed += [variable in grades] * (top + 1)
            available.append(variable in grades)
        others = self.encode(grades, policy=policy)
        return np.where([*changed, *available][: len(vector)], others, vector)


def check_policy(policy: str) -> str:
    """Return `policy`, or raise ValueError naming those that exist."""
    if policy not in MISSING_POLICIES:
        raise ValueError(f"`policy` must be one of {', '.join(MISSING_POLICIES)}, got {policy!r}.")
    return policy


def _table(name: str, *, cyst_tibia_medial: int, attrition: int) -> GradeTable:
    highest = {"XRKL": 4}
    highest |= dict.fromkeys(("XROSFM", "XROSFL", "XROSTM", "XROSTL"), 3)
    highest |= dict.fromkeys(("XRSCFM", "XRSCFL", "XRSCTM", "XRSCTL"), 3)
    highest |= dict.fromkeys(("XRJSM", "XRJSL"), 3)
    highest |= {"XRCYFM": 1, "XRCYFL": 1, "XRCYTM": cyst_tibia_medial, "XRCYTL": 1}
    highest |= {"XRCHM": 1, "XRCHL": 1}
    highest |= {"XRATTM": attrition, "XRATTL": attrition}
    return GradeTable(name, highest)


GRADE_TABLES = {
    "oai": _table("oai", cyst_tibia_medial=2, attrition=3),
    "paper": _table("paper", cyst_tibia_medial=1, attrition=1),
}
VARIABLES = tuple(GRADE_TABLES["oai"].highest)
NAMED_BY = {"cyst": ("XRCYF", "XRCYT"), "chondrocalcinosis": ("XRCH",), "attrition": ("XRATT",)}
"""Finding to the readings, without their last letter, M or L, that name it."""


def grade_table(name: str) -> GradeTable:
    """The table of that name, or ValueError naming those that exist."""
    if name not in GRADE_TABLES:
        raise ValueError(f"`grade_table` must be one of {', '.join(GRADE_TABLES)}, got {name!r}.")
    return GRADE_TABLES[name]


KL = "XRKL"
KL_GRADES = {table.highest[KL] + 1 for table in GRADE_TABLES.values()}.pop()
"""Kellgren-Lawrence 0 to 4; every table has them, and has them first."""


NO_GRADE = "not read"


def kl_words(grade: int | None) -> str:
    """A Kellgren-Lawrence grade as pages name it, such as `KL 2`."""
    return f"KL {NO_GRADE if grade is None else grade}"


def kl_groups(grades: Sequence[int | None]) -> dict[str, np.ndarray]:
    """Grade to whether each knee has it, in order; grades that no knee has are absent, `NO_GRADE` comes last."""
    present: list[int | None] = [*sorted({grade for grade in grades if grade is not None})]
    if None in grades:
        present.append(None)
    return {
        NO_GRADE if grade is None else str(grade): np.array([found == grade for found in grades]) for grade in present
    }


def kl_grade(readings: Mapping[str, Any] | np.ndarray | None) -> int | None:
    """Kellgren-Lawrence grade from a dictionary of readings or their vector (array or tensor); None where missing."""
    if readings is None:
        return None
    if isinstance(readings, Mapping):
        grade = readings.get(KL)
        return None if grade is None or math.isnan(float(grade)) else int(grade)
    slots = np.asarray(readings).ravel()[:KL_GRADES]
    return int(slots.argmax()) if slots.any() else None
