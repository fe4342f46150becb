"""Random streams: one generator for each person and purpose, so that a draw in one never shifts another."""

from __future__ import annotations

import numpy as np

PURPOSES = (
    "identity",
    "covariates",
    "readings",
    "shape_R",
    "shape_L",
    "film_pose_R",
    "film_pose_L",
    "mri_pose_R",
    "mri_pose_L",
    "film_texture_R",
    "film_texture_L",
    "film_noise",
    "film_header",
    "mri_texture_R",
    "mri_texture_L",
    "mri_noise_R",
    "mri_noise_L",
    "mri_header",
    "availability",
    "crystals_R",
    "crystals_L",
    "reader_15",
    "reader_37",
    "reader_42",
    "readings_table",
    "unread",
    "tables",
    "posterior_R",
    "posterior_L",
    "finder",
    "film_clutter",
    "all_read",
)
"""Their position is their number: add at the end, never reorder."""


def stream(seed: int, index: int, purpose: str, draw: int = 0) -> np.random.Generator:
    """The generator of participant `index` of cohort `seed` for one purpose.

    Args:
        seed: cohort seed, any whole number from 0.
        index: participant, from 0.
        purpose: one of `PURPOSES`.
        draw: 0 for the participant as drawn, from 1 for other draws of the same purpose.

    Returns:
        a fresh generator; the same arguments give the same numbers in any process and order.

    Raises:
        ValueError: on a negative seed, index or draw, or an unknown purpose.
    """
    if seed < 0 or index < 0 or draw < 0:
        raise ValueError(f"`seed`, `index` and `draw` must be whole numbers from 0, got {seed}, {index} and {draw}.")
    if purpose not in PURPOSES:
        raise ValueError(f"`purpose` must be one of {', '.join(PURPOSES)}, got {purpose!r}.")
    key = [seed, index, PURPOSES.index(purpose)]
    return np.random.default_rng([*key, draw] if draw else key)
