"""Voxels over which a measure is taken: tissues by label where there are labels, and whatever is not background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

TISSUES: dict[str, tuple[int, ...]] = {"bone": (1, 2, 3, 4), "cartilage": (5, 6, 7, 8), "meniscus": (9, 10)}
"""Labels of the phantom's truth (docs/phantom.md)."""
FOREGROUND = -0.8
"""Voxels of the mean training volume, in [-1, 1], above this are no background."""
EVERYTHING = "foreground"
"""Name of the region that needs no labels."""


def region_masks(
    mean: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    tissues: Mapping[str, Sequence[int]] = TISSUES,
    threshold: float = FOREGROUND,
) -> dict[str, np.ndarray]:
    """Masks by name; the foreground first, then the tissues if there are labels.

    The foreground must not be the real volume's own: where the truth is known to be bright, samples that are right are
    darker than it on average, and their ranks are not flat. Tissues are the truth's, so there this is so for any
    method, the oracle too; compare a method's row with the oracle's.

    Args:
        mean: mean training volume, (H, W, S).
        labels: of the real volume, whole numbers, (H, W, S), or None.
        tissues: name to the labels that make it.
        threshold: of the foreground, in the unit of `mean`.

    Returns:
        name to (H, W, S) bool; a tissue that a knee lacks is False everywhere.

    Raises:
        ValueError: if the shapes differ, or a tissue is called `foreground`.

    Source:
        Lerch et al., "Forecaster's Dilemma", Stat. Sci. 32, 2017, doi:10.1214/16-STS588.
    """
    if EVERYTHING in tissues:
        raise ValueError(f"`tissues` must not name one `{EVERYTHING}`: that is all above `threshold`.")
    found = {EVERYTHING: mean > threshold}
    if labels is None:
        return found
    if labels.shape != mean.shape:
        raise ValueError(f"`labels` must have the volume's shape {mean.shape}, got {labels.shape}.")
    return found | {name: np.isin(labels, list(values)) for name, values in tissues.items()}
