"""Femur and tibia in a water-excited T1 volume by stated thresholds, alike for real and synthesised volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.utils import optional_import
from skimage.filters import gaussian
from skimage.measure import label
from skimage.segmentation import watershed
from torch.nn import functional as F

from bundle.metrics.volume_metric import checked_volume

ndimage, _ = optional_import("scipy.ndimage")

FEMUR, TIBIA = 1, 2
"""Labels of the bones, those of the phantom's truth."""
BONE_BELOW = -0.63
"""Half way between marrow (-0.72) and suppressed fat (-0.55) on the scale of 0.5 and 99.5 percentiles."""
CONTRAST = 0.1
"""What an intensity may count for or against bone: a bright neighbour weighs no more than the step marrow to fat."""
AIR_BELOW = -0.82
BRIGHT_ABOVE = 0.2
"""Cartilage, fluid and muscle, as against marrow lesions, menisci and fat."""
HALF_LEVEL = -0.1
"""Half way between marrow and cartilage: where their border lies."""
COIL_FALLOFF = 0.1
"""Signal lost at the ends of the field of view of a quadrature knee coil, growing with the fourth power."""
WORK_MM = 1.25
"""In-plane edge at which bones are sought; finer volumes are averaged to it."""
AIR_MARGIN_MM, CORE_MM, REGROWN_MM, WIDTH_MM = 3.0, 4.0, 2.0, 2.0
REACH_MM, LESION_MM, CYST_MM = 4.0, 12.0, 6.0
ABOVE_JOINT_MM, BELOW_JOINT_MM = 32.0, 14.0
"""Rows about the joint line in which bone borders on cartilage."""
ITERATIONS, SETTLED = 8, 2e-4

Spacing = Sequence[float]


def segment_bones(volume: np.ndarray | torch.Tensor, *, spacing_mm: Spacing) -> np.ndarray:
    """Label femur and tibia.

    1. The volume, averaged in plane to 1.25 mm, is divided by the coil's falloff; air is what is dark (Gaussian of
       2.5 mm below -0.82) and reaches a side, with 3 mm of skin.
    2. Marrow and cortex are darker than -0.63. Each voxel's evidence, at most 0.1 for or against, and the smoothness
       of the surface decide together by threshold dynamics: blur the mask and three times the evidence with a Gaussian
       of 2 mm, cut at one half, until nothing moves.
    3. Of what lies 4 mm inside, the largest piece above the joint line (the brightest row of the middle slices) is the
       femur's, the largest below it the tibia's; the mask within 6 mm of them stays, the rest is tendon or fat.
    4. About the joint the border is where the intensity is half way to cartilage (-0.1): dark voxels between bone and
       something bright, within 4 mm, are bone, and so are those of a marrow lesion up to 12 mm under the tibia's
       plateau or 6 mm above a condyle. Enclosed holes (cysts) are filled slice by slice.
    5. A watershed of the depth inside the mask parts femur and tibia.

    Patella and fibula are not sought; the fibula's head may go with the tibia.

    Args:
        volume: shape (H, W, S), ILA axes, in [-1, 1] by the percentiles 0.5 and 99.5.
        spacing_mm: voxel edges along the three axes, mm.

    Returns:
        (H, W, S) uint8: `FEMUR`, `TIBIA` or 0; all 0 where no bone is found.

    Raises:
        ValueError: on a wrong shape, values that are not finite, or edges that are not positive.

    Source:
        Esedoglu and Tsai, J. Comput. Phys. 211, 2006, doi:10.1016/j.jcp.2005.05.027: threshold dynamics for the
        piecewise constant Mumford-Shah functional.
    """
    array = checked_volume(volume, name="volume").astype(np.float32)
    edges = checked_spacing(spacing_mm)
    coarse = _coarse_shape(array.shape, edges)
    if coarse == array.shape:
        return _segment(array, edges)
    small = F.interpolate(torch.from_numpy(array)[None, None], size=coarse, mode="area")[0, 0].numpy()
    work_edges = tuple(edge * a / b for edge, a, b in zip(edges, array.shape, coarse, strict=True))
    labels = _segment(small, work_edges)
    # Each bone's share is interpolated, so that the finer mask has no steps of the coarse grid.
    shares = torch.from_numpy(np.stack([labels == bone for bone in (FEMUR, TIBIA)])).float()[None]
    fine = F.interpolate(shares, size=array.shape, mode="trilinear", align_corners=False)[0].numpy()
    return np.where(fine.max(0) > 0.5, fine.argmax(0) + 1, 0).astype(np.uint8)


def checked_spacing(spacing_mm: Spacing) -> tuple[float, float, float]:
    """Three voxel edges as floats, or ValueError unless they are positive and finite."""
    edges = tuple(float(edge) for edge in spacing_mm)
    if len(edges) != 3 or not all(np.isfinite(edge) and edge > 0 for edge in edges):
        raise ValueError(f"`spacing_mm` must be three positive voxel edges, rows, columns, slices; got {spacing_mm}.")
    return edges  # type: ignore[return-value]


def blurred(volume: np.ndarray, length_mm: float, edges: Spacing) -> np.ndarray:
    """Gaussian of `length_mm` standard deviation, borders repeated."""
    sigma = [length_mm / edge for edge in edges]
    return gaussian(volume.astype(np.float32), sigma=sigma, mode="nearest", truncate=3.0)


def distance_mm(mask: np.ndarray, edges: Spacing) -> np.ndarray:
    """Distance from each voxel's centre to the nearest voxel of `mask`, mm; infinite where there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return ndimage.distance_transform_edt(~mask, sampling=edges)


def joint_row(volume: np.ndarray, bone: np.ndarray, edges: Spacing) -> int:
    """Row of the joint line: the brightest of the middle rows, over the middle slices and 30 mm to either side."""
    rows, columns, slices = volume.shape
    middle = slice(slices // 4, max(slices - slices // 4, slices // 4 + 1))
    weight = bone[:, :, middle].sum((0, 2)).astype(float)
    axis = (weight * np.arange(columns)).sum() / weight.sum() if weight.any() else (columns - 1) / 2
    near = np.abs(np.arange(columns) - axis) * edges[1] <= 30.0
    profile = gaussian(volume[:, near][:, :, middle].mean((1, 2)), sigma=3.0 / edges[0], mode="nearest")
    first = rows // 4
    return first + int(np.argmax(profile[first : max(rows - first, first + 1)]))


def _coarse_shape(shape: tuple[int, ...], edges: Spacing) -> tuple[int, int, int]:
    plane = [max(round(n * e / WORK_MM), 1) if e < WORK_MM else n for n, e in zip(shape[:2], edges[:2], strict=True)]
    return plane[0], plane[1], shape[2]


def _segment(volume: np.ndarray, edges: Spacing) -> np.ndarray:
    rows = volume.shape[0]
    height = np.linspace(-1, 1, rows, dtype=np.float32)[:, None, None] if rows > 1 else np.zeros((1, 1, 1), np.float32)
    level = (volume + 1) / (1 - COIL_FALLOFF * height**4) - 1
    air = _air(volume, edges)
    bone = _dark(level, air, edges)
    joint = joint_row(volume, bone, edges)
    seeds = _cores(bone, joint, edges)
    bone &= distance_mm(seeds > 0, edges) <= CORE_MM + REGROWN_MM
    if not bone.any():
        return np.zeros(volume.shape, np.uint8)
    bone = _to_cartilage(bone, level, air, joint, edges)
    return watershed(-distance_mm(~bone, edges), seeds * bone, mask=bone).astype(np.uint8)


def _air(volume: np.ndarray, edges: Spacing) -> np.ndarray:
    pieces = label(blurred(volume, 2.5, edges) < AIR_BELOW)
    at_sides = np.unique(pieces[:, [0, -1]])
    outside = np.isin(pieces, at_sides[at_sides > 0])
    return distance_mm(outside, edges) < AIR_MARGIN_MM


def _dark(level: np.ndarray, air: np.ndarray, edges: Spacing) -> np.ndarray:
    """Threshold dynamics between dark tissue and the rest."""
    evidence = np.clip(BONE_BELOW - level, -CONTRAST, CONTRAST)
    evidence[air] = -CONTRAST
    mask = blurred(evidence, WIDTH_MM, edges) > 0
    for _ in range(ITERATIONS):
        moved = (blurred(mask + 3 * evidence, WIDTH_MM, edges) > 0.5) & ~air
        settled = (moved != mask).mean() < SETTLED
        mask = moved
        if settled:
            break
    return mask


def _cores(bone: np.ndarray, joint: int, edges: Spacing) -> np.ndarray:
    """Markers of femur and tibia: the largest piece of the mask's inside above and below the joint line."""
    pieces = label(distance_mm(~bone, edges) > CORE_MM)
    seeds = np.zeros(bone.shape, np.int32)
    for marker, side in ((FEMUR, slice(0, joint)), (TIBIA, slice(joint, None))):
        sizes = np.bincount(pieces[side].ravel(), minlength=2)
        sizes[0] = 0
        if sizes.any():
            seeds[side][pieces[side] == sizes.argmax()] = marker
    return seeds


def _to_cartilage(bone: np.ndarray, level: np.ndarray, air: np.ndarray, joint: int, edges: Spacing) -> np.ndarray:
    """Extend the mask to the border with cartilage, over the dark plate and what a lesion brightens."""
    row = ((np.arange(level.shape[0]) - joint) * edges[0])[:, None, None]
    near = (row > -ABOVE_JOINT_MM) & (row < BELOW_JOINT_MM)
    fine = blurred(level, 0.8, edges)
    to_bone = distance_mm(bone, edges)
    bright = (fine > BRIGHT_ABOVE) & near & (to_bone < 8.0)
    border = near & ~air & (fine < HALF_LEVEL) & (to_bone + distance_mm(bright, edges) <= REACH_MM)
    extended = blurred(bone | border, 1.0, edges) > 0.5
    bright = (fine > BRIGHT_ABOVE) & near & (to_bone < 16.0)
    below, above = _rows_until(extended & (row >= 0)), _rows_since(extended & (row < 0))
    bright_below, bright_above = _rows_until(bright), _rows_since(bright)
    # Bone comes first on one side: what lies beyond the cartilage is meniscus.
    under_plateau = ((bright_above + below) * edges[0] <= LESION_MM) & (below < bright_below)
    over_condyle = ((bright_below + above) * edges[0] <= CYST_MM) & (above < bright_above)
    lesion = (fine < 0.0) & ((under_plateau & (row > -4.0)) | (over_condyle & (row < 4.0)))
    extended |= lesion & ~air
    return np.stack([ndimage.binary_fill_holes(extended[:, :, k]) for k in range(extended.shape[2])], axis=-1)


def _rows_since(mask: np.ndarray) -> np.ndarray:
    """Rows from each voxel up to the nearest voxel of `mask` in its column; infinite where there is none."""
    index = np.arange(mask.shape[0], dtype=float)[:, None, None]
    return index - np.maximum.accumulate(np.where(mask, index, -np.inf), axis=0)


def _rows_until(mask: np.ndarray) -> np.ndarray:
    """The same downwards."""
    return _rows_since(mask[::-1])[::-1]
