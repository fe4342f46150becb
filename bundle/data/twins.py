"""The training knees, and twins of them that differ in a finding and in nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from bundle.data.datalist import pairs
from bundle.keys import PARTICIPANT, SIDE, VISIT

logger = logging.getLogger(__name__)


def training_knees(root: str | Path, twins: str | Path | None = None) -> list[dict[str, Any]]:
    """Film and MRI pairs of the training split, as `pairs` gives them.

    Args:
        root: folder of the prepared set.
        twins: that of the same participants with a finding switched (`scripts/make_phantom.py --switch`); None for
            none. Knees that are not in both sets are left out.

    Returns:
        the knees, and behind them their twins in the same order.

    Raises:
        ValueError: if the sets have no training knee in common; else as `pairs`.
    """
    own = pairs(root, "training")
    if twins is None:
        return own
    others = {_name(item): item for item in pairs(twins, "training")}
    both = [item for item in own if _name(item) in others]
    if not both:
        raise ValueError(
            f"dataset {twins}: none of its training knees is in {root}; make both of one seed, and prepare them with "
            "one --split-file."
        )
    if len(both) < max(len(own), len(others)):
        logger.warning(f"{len(both)} knees have a twin, of {len(own)} in {root} and {len(others)} in {twins}")
    return [*both, *(others[_name(item)] for item in both)]


def _name(item: dict[str, Any]) -> tuple[str, str, str]:
    return item[PARTICIPANT], item[SIDE], item[VISIT]
