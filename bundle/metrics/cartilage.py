"""Cartilage of femur and tibia: the bright sheet on the bones about the joint line."""

from __future__ import annotations

import numpy as np
import torch
from skimage.measure import label

from bundle.metrics.bones import FEMUR, TIBIA, Spacing, blurred, checked_spacing, distance_mm
from bundle.metrics.volume_metric import checked_volume

BRIGHT = 0.4
"""Between muscle (0.3) and cartilage (0.6 to 0.9), of slices blurred by 0.5 mm."""
THICKNESS_MM = 4.0
"""Cartilage lies within this distance of bone."""
FEMUR_ROWS_MM, TIBIA_ROWS_MM = 35.0, 10.0
"""Above and below the joint line: trochlea and posterior condyles reach high, the plateau does not."""
SMALLEST_MM3 = 50.0


def segment_cartilage(volume: np.ndarray | torch.Tensor, bones: np.ndarray, *, spacing_mm: Spacing) -> np.ndarray:
    """Find the cartilage of femur and tibia; synovial fluid, as bright, goes with it where it lies as close.

    Args:
        volume: shape (H, W, S), ILA axes, in [-1, 1].
        bones: labels of `segment_bones` (or of the truth), same shape.
        spacing_mm: voxel edges, mm.

    Returns:
        (H, W, S) bool: brighter than 0.4 after a Gaussian of 0.5 mm, within 4 mm of bone, 35 mm above to 10 mm below
        the tibia's highest row, in pieces of at least 50 mm3; all False without bone.

    Raises:
        ValueError: on unequal or wrong shapes, or values that are not finite.
    """
    array, edges = checked_volume(volume, name="volume"), checked_spacing(spacing_mm)
    if bones.shape != array.shape:
        raise ValueError(f"`bones` must have the volume's shape {array.shape}, got {bones.shape}.")
    both = (bones == FEMUR) | (bones == TIBIA)
    plateau = np.flatnonzero((bones == TIBIA).any((1, 2)))
    if not both.any() or not len(plateau):
        return np.zeros(array.shape, bool)
    row = ((np.arange(array.shape[0]) - plateau[0]) * edges[0])[:, None, None]
    near = (row > -FEMUR_ROWS_MM) & (row < TIBIA_ROWS_MM)
    in_plane = (edges[0], edges[1], np.inf)  # slices stay apart: cartilage is as thin as they are
    bright = (blurred(array, 0.5, in_plane) > BRIGHT) & ~both
    found = bright & near & (distance_mm(both, edges) <= THICKNESS_MM)
    pieces = label(found)
    sizes = np.bincount(pieces.ravel()) * float(np.prod(edges))
    sizes[0] = 0.0
    return (sizes >= SMALLEST_MM3)[pieces]
