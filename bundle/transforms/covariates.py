"""A knee's age, sex, body mass index and side as one vector, for denoisers that are told them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from bundle import covariates
from bundle.keys import COVARIATES, PARTICIPANT


class EncodeCovariatesd(Transform):
    """Store `bundle.covariates.encode` of an item's `age`, `sex`, `bmi` and `side` under `covariates`.

    Missing is whatever a data list says it with: no entry, None, NaN for a number, the empty text for a category.

    Args:
        policy: for missing ones, `zeros` or `mask`.

    Raises:
        ValueError: on an unknown policy.
    """

    def __init__(self, policy: str = "zeros") -> None:
        covariates.width(policy)  # refuses a policy that does not exist
        self.policy = policy

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Encode the covariates of one knee; ValueError, naming the participant, on a value outside the limits."""
        known = {name: data[name] for name in covariates.NAMES if name in data and not _missing(data[name])}
        where = f"participant {data[PARTICIPANT]}" if PARTICIPANT in data else "covariates"
        vector = covariates.encode(known, policy=self.policy, where=where)
        return {**data, COVARIATES: torch.from_numpy(vector)}


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
