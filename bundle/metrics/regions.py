"""Voxels over which a measure is taken: tissues by label where there are labels, and whatever is not background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

TISSUES: dict[str, tuple[int, ...]] = {"bone": (1, 2, 3, 4), "cartilage": (5, 6, 7, 8), "meniscus": (9, 10)}
"""Labels of the phantom's truth (docs/phantom.md)."""
FOREGROUND = -0.8
"""Voxels of the real volume, in [-1, 1], above this are no background."""
EVERYTHING = "foreground"
"""Name of the region that needs no labels."""


def tissue_masks(
    real: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    tissues: Mapping[str, Sequence[int]] = TISSUES,
    threshold: float = FOREGROUND,
) -> dict[str, np.ndarray]:
    """Masks by name; the foreground first, then the tissues if there are labels.

    Args:
        real: real volume, (H, W, S).
        labels: whole numbers, (H, W, S), or None.
        tissues: name to the labels that make it.
        threshold: of the foreground, in the unit of `real`.

    Returns:
        name to (H, W, S) bool; a tissue that a knee lacks is False everywhere.

    Raises:
        ValueError: if the shapes differ, or a tissue is called `foreground`.
    """
    if EVERYTHING in tissues:
        raise ValueError(f"`tissues` must not name one `{EVERYTHING}`: that is all above `threshold`.")
    found = {EVERYTHING: real > threshold}
    if labels is None:
        return found
    if labels.shape != real.shape:
        raise ValueError(f"`labels` must have the volume's shape {real.shape}, got {labels.shape}.")
    return found | {name: np.isin(labels, list(values)) for name, values in tissues.items()}
