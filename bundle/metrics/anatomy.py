"""What the structure metrics know of one volume: its bones, cartilage, joint spaces; computed once a volume."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch

from bundle.metrics.bones import FEMUR, TIBIA, Spacing, checked_spacing, segment_bones
from bundle.metrics.cartilage import segment_cartilage
from bundle.metrics.joint_space import joint_space_width
from bundle.metrics.osteophytes import osteophyte_volumes
from bundle.metrics.volume_metric import checked_volume

FOUND_IN_LABELS = (5, 6, 7)
"""Cartilage of femur and tibia in the phantom's truth; that of the patella is not sought."""
REMEMBERED = 16


@dataclass(frozen=True)
class Anatomy:
    """Masks and measures of a canonical right knee.

    Args:
        bones: (H, W, S) uint8, femur 1, tibia 2.
        cartilage: (H, W, S) bool, of femur and tibia.
        joint_space_mm: `medial` and `lateral`.
        osteophytes_mm3: site to volume.
    """

    bones: np.ndarray
    cartilage: np.ndarray
    joint_space_mm: dict[str, float]
    osteophytes_mm3: dict[str, float]

    @classmethod
    def of(cls, volume: np.ndarray | torch.Tensor, *, spacing_mm: Spacing) -> Anatomy:
        """Segment and measure a volume (H, W, S) in [-1, 1]; the last 16 volumes are remembered by their content."""
        array, edges = checked_volume(volume, name="volume"), checked_spacing(spacing_mm)
        key = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest(), edges, array.shape
        if key not in _MEMORY:
            bones = segment_bones(array, spacing_mm=edges)
            _MEMORY[key] = cls(
                bones,
                segment_cartilage(array, bones, spacing_mm=edges),
                joint_space_width(bones, spacing_mm=edges, volume=array),
                osteophyte_volumes(bones, spacing_mm=edges),
            )
        _MEMORY.move_to_end(key)
        while len(_MEMORY) > REMEMBERED:
            _MEMORY.popitem(last=False)
        return _MEMORY[key]


_MEMORY: OrderedDict[tuple, Anatomy] = OrderedDict()


def reference_masks(
    real: np.ndarray | torch.Tensor, *, spacing_mm: Spacing, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Bones (femur 1, tibia 2) and cartilage that a synthesised volume is compared with.

    Args:
        real: the real volume, shape (H, W, S).
        spacing_mm: voxel edges, mm.
        labels: truth or external segmentation in the phantom's numbers; None segments the real volume.

    Raises:
        ValueError: if the labels' shape is not the volume's.
    """
    if labels is None:
        anatomy = Anatomy.of(real, spacing_mm=spacing_mm)
        return anatomy.bones, anatomy.cartilage
    if tuple(labels.shape) != tuple(real.shape):
        raise ValueError(f"`labels` must have the volume's shape {tuple(real.shape)}, got {tuple(labels.shape)}.")
    return np.where(np.isin(labels, (FEMUR, TIBIA)), labels, 0).astype(np.uint8), np.isin(labels, FOUND_IN_LABELS)
