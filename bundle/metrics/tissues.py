"""Tissue masks of a real volume, from labels where there are any and from intensity, and the error inside each."""

from __future__ import annotations

import numpy as np
import torch

from bundle.metrics.bones import FEMUR, TIBIA, Spacing, blurred, checked_spacing, distance_mm, segment_bones
from bundle.metrics.cartilage import segment_cartilage
from bundle.metrics.volume_metric import checked_volume

BONE_LABELS, CARTILAGE_LABELS, MENISCUS_LABELS = (1, 2, 3, 4), (5, 6, 7, 8), (9, 10)
"""Of the phantom's truth; an external segmentation uses the same numbers."""
TISSUES = ("bone", "cartilage", "meniscus", "muscle", "fat")
MUSCLE, FAT = (0.0, 1.0), (-0.65, -0.2)
"""Intensity classes, of slices blurred by 1 mm: from and to."""
AIR_MM, JOINT_MM = 6.0, 6.0
"""Muscle and fat keep this distance from air (skin) and from cartilage (synovial fluid and menisci)."""
ERRORS = ("absolute", "squared")


def tissue_masks(
    volume: np.ndarray | torch.Tensor, *, spacing_mm: Spacing, labels: np.ndarray | None = None
) -> dict[str, np.ndarray | None]:
    """Masks of bone, cartilage, meniscus, muscle and fat.

    With labels, the first three are theirs. Without, bone is femur and tibia by `segment_bones`, cartilage by
    `segment_cartilage`, and the meniscus has no mask: its intensity is fat's. Muscle and fat are intensity classes
    ([0, 1) and [-0.65, -0.2) after a Gaussian of 1 mm in plane) outside the others, 6 mm off air and cartilage; muscle
    includes vessels, fat includes tendons.

    Args:
        volume: the real volume, shape (H, W, S), ILA axes, in [-1, 1].
        spacing_mm: voxel edges, mm.
        labels: numbers of the phantom's truth, same shape; None segments the volume.

    Returns:
        tissue to mask, (H, W, S) bool, or None for a meniscus without labels.

    Raises:
        ValueError: on unequal or wrong shapes, or values that are not finite.
    """
    array, edges = checked_volume(volume, name="volume"), checked_spacing(spacing_mm)
    if labels is not None and labels.shape != array.shape:
        raise ValueError(f"`labels` must have the volume's shape {array.shape}, got {labels.shape}.")
    if labels is None:
        bones = segment_bones(array, spacing_mm=edges)
        bone = (bones == FEMUR) | (bones == TIBIA)
        cartilage, meniscus = segment_cartilage(array, bones, spacing_mm=edges), None
    else:
        bone, cartilage, meniscus = (
            np.isin(labels, values) for values in (BONE_LABELS, CARTILAGE_LABELS, MENISCUS_LABELS)
        )
    smooth = blurred(array, 1.0, (edges[0], edges[1], np.inf))
    other = bone | cartilage | (meniscus if meniscus is not None else False)
    free = ~other & (distance_mm(cartilage, edges) > JOINT_MM) & (distance_mm(smooth < -0.82, edges) > AIR_MM)
    muscle, fat = (free & (smooth >= low) & (smooth < high) for low, high in (MUSCLE, FAT))
    return {"bone": bone, "cartilage": cartilage, "meniscus": meniscus, "muscle": muscle, "fat": fat}


def tissue_errors(
    y_pred: np.ndarray | torch.Tensor, y: np.ndarray | torch.Tensor, masks: dict[str, np.ndarray | None]
) -> dict[str, dict[str, float]]:
    """Mean absolute and mean squared error inside each mask.

    Args:
        y_pred: synthesised volume, shape (H, W, S).
        y: real volume, same shape.
        masks: of `tissue_masks`.

    Returns:
        tissue to `absolute` and `squared`; NaN where the mask is None or empty.

    Raises:
        ValueError: on unequal shapes or values that are not finite.
    """
    pred, real = checked_volume(y_pred, name="y_pred"), checked_volume(y, name="y")
    if pred.shape != real.shape:
        raise ValueError(f"`y_pred` and `y` must have one shape, got {pred.shape} and {real.shape}.")
    errors = {}
    for name, mask in masks.items():
        inside = np.empty(0) if mask is None else (pred - real)[mask]
        values = (np.abs(inside).mean(), np.square(inside).mean()) if inside.size else (np.nan, np.nan)
        errors[name] = dict(zip(ERRORS, map(float, values), strict=True))
    return errors
