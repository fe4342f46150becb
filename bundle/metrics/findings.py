"""Does a finding appear in a volume: rules for cysts, chondrocalcinosis and attrition, a score a compartment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.utils import optional_import

from bundle.metrics.volume_metric import checked_volume

ndimage, _ = optional_import("scipy.ndimage")
signal, _ = optional_import("scipy.signal")

COMPARTMENTS = ("medial", "lateral")
THRESHOLDS = {
    "cyst": {"medial": 0.4, "lateral": 0.4},
    "chondrocalcinosis": {"medial": 0.34, "lateral": 0.34},
    "attrition": {"medial": 0.9, "lateral": 0.4},
}
"""A finding is called where its score is above. Intensities on [-1, 1]; attrition in mm: a sound medial plateau is
dished by most of a millimetre, a lateral one hardly. Chosen on phantoms with the truth's bones (docs/findings.md)."""
ABOVE_JOINT_MM, BELOW_JOINT_MM = 34.0, 24.0
_CORE_MM = 1.2
"""Gaussian over which a cyst's core is averaged."""
_SHELL_MM = (5.0, 7.5)
"""Radii between which a cyst's surroundings lie."""
_ENCLOSED = 0.6
"""Share of the shell that must be bone, of one bone: in the joint's gap it is never more than half."""
_CARTILAGE_ABOVE = 0.2
_CARTILAGE_MM, _GAP_MM = 6.0, 10.0
"""How far from bone, and from the row of the joint, cartilage is looked for."""
_NOTCH_MM = 7.0
"""Columns about the knee's axis that belong to no compartment: cruciates and spines."""


def finding_scores(
    volume: np.ndarray, bones: np.ndarray, *, spacing_mm: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Score every finding in both compartments of a canonical knee.

    - Cyst: the brightest Gaussian mean (1.2 mm) in a bone's neighbourhood whose shell between 5 and 7.5 mm is bone of
      that one bone to 60 %: fluid is bright, marrow dark, a marrow lesion between them. The bone may have a hole there.
    - Chondrocalcinosis: what is brighter than 0.2 within 6 mm of bone and 10 mm of the joint's row, closed by two
      voxels and eroded by one, is cartilage with its deposits; the score is minus its 5th percentile: deposits are
      dark.
    - Attrition: heights of the tibia's surface in the compartment, smoothed by 2 mm, under the plane through its rim
      (2 to 8 mm from its border, refitted eight times with Cauchy weights of 0.7 mm); the score is the 90th percentile
      of the depth inside, mm.

    Args:
        volume: (H, W, S) in [-1, 1], a canonical right knee, ILA axes.
        bones: (H, W, S), 1 for femur and 2 for tibia; other labels do not count.
        spacing_mm: voxel edges along rows, columns, slices.

    Returns:
        finding to compartment to score; NaN where femur, tibia or what the rule looks at is missing.

    Raises:
        ValueError: if shapes differ or values are not finite.
    """
    values, labels = checked_volume(volume, name="volume"), checked_volume(bones, name="bones")
    if values.shape != labels.shape:
        raise ValueError(f"`volume` and `bones` must have one shape, got {values.shape} and {labels.shape}.")
    edges = np.asarray([float(edge) for edge in spacing_mm])
    if edges.shape != (3,) or not (edges > 0).all():
        raise ValueError(f"`spacing_mm` must be three positive voxel edges, got {spacing_mm}.")
    tibia = labels == 2
    if not tibia.any() or not (labels == 1).any():
        return {finding: dict.fromkeys(COMPARTMENTS, float("nan")) for finding in THRESHOLDS}
    joint = float(np.median(tibia.argmax(axis=0)[tibia.any(axis=0)]))
    below = tibia[int(joint) : int(joint) + round(BELOW_JOINT_MM / edges[0])].sum(axis=(0, 2))
    axis = float(np.average(np.arange(values.shape[1]), weights=below + 1e-9))
    rows = slice(max(int(joint - ABOVE_JOINT_MM / edges[0]), 0), int(joint + BELOW_JOINT_MM / edges[0]) + 1)
    values, labels, joint = values[rows], labels[rows], joint - rows.start
    # Columns run leftwards: the medial side of a right knee is that of the high ones.
    off = (np.arange(values.shape[1]) - axis) * edges[1]
    sides = {"medial": off > _NOTCH_MM, "lateral": off < -_NOTCH_MM}
    core, cartilage = _cores(values, labels, edges), _cartilage(values, labels, joint, edges)
    return {
        "cyst": {name: _highest(core[:, side]) for name, side in sides.items()},
        "chondrocalcinosis": {
            name: -_percentile(values[:, side][cartilage[:, side]], 5) for name, side in sides.items()
        },
        "attrition": {name: _hollow(labels == 2, side, joint, edges) for name, side in sides.items()},
    }


def found(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, bool | None]]:
    """Scores against their thresholds; None where there is no score."""
    return {
        finding: {
            name: None if np.isnan(score) else bool(score > THRESHOLDS[finding][name]) for name, score in sides.items()
        }
        for finding, sides in scores.items()
    }


def _cores(values: np.ndarray, labels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Smoothed intensity where one bone makes up most of the shell around; -inf elsewhere."""
    reach = np.ceil(_SHELL_MM[1] / edges).astype(int)
    at = np.meshgrid(*(np.arange(-n, n + 1) * edge for n, edge in zip(reach, edges, strict=True)), indexing="ij")
    radius = np.sqrt(sum(part**2 for part in at))
    shell = ((radius >= _SHELL_MM[0]) & (radius <= _SHELL_MM[1])).astype(np.float32)
    share = np.max(
        [
            signal.fftconvolve(
                np.pad((labels == bone).astype(np.float32), [(n, n) for n in reach], mode="edge"),
                shell / shell.sum(),
                mode="valid",
            )
            for bone in (1, 2)
        ],
        axis=0,
    )
    smooth = ndimage.gaussian_filter(values, _CORE_MM / edges)
    return np.where(share >= _ENCLOSED, smooth, -np.inf)


def _cartilage(values: np.ndarray, labels: np.ndarray, joint: float, edges: np.ndarray) -> np.ndarray:
    bone = np.isin(labels, (1, 2))
    near = (ndimage.distance_transform_edt(~bone, sampling=edges) < _CARTILAGE_MM) & ~bone
    near &= (np.abs(np.arange(len(values)) - joint) * edges[0] < _GAP_MM)[:, None, None]
    bright = (ndimage.gaussian_filter(values, 0.5 / edges) > _CARTILAGE_ABOVE) & near
    return ndimage.binary_erosion(ndimage.binary_closing(bright, iterations=2) & near)


def _hollow(tibia: np.ndarray, side: np.ndarray, joint: float, edges: np.ndarray) -> float:
    plane = edges[1:]
    has, top = tibia.any(axis=0), tibia.argmax(axis=0)
    area = has & side[:, None] & (np.abs(top - joint) * edges[0] < 12.0)
    if not area.any():
        return float("nan")
    height = ndimage.median_filter(-top * edges[0], 5)
    sigma = 2.0 / plane
    weight = ndimage.gaussian_filter(area.astype(float), sigma)
    smooth = ndimage.gaussian_filter(np.where(area, height, 0.0), sigma) / np.maximum(weight, 1e-6)
    inward = ndimage.distance_transform_edt(area, sampling=plane)
    rim, inside = area & (inward > 2.0) & (inward <= 8.0), area & (inward > 5.0)
    if rim.sum() < 20 or not inside.any():
        return float("nan")
    across, along = np.indices(area.shape) * plane[:, None, None]
    terms = np.stack([across[rim], along[rim], np.ones(rim.sum())], axis=1)
    weights = np.ones(rim.sum())
    for _ in range(8):
        fit = np.linalg.lstsq(terms * weights[:, None], smooth[rim] * weights, rcond=None)[0]
        weights = 1 / np.sqrt(1 + ((smooth[rim] - terms @ fit) / 0.7) ** 2)
    depth = fit[0] * across + fit[1] * along + fit[2] - smooth
    return float(np.percentile(depth[inside], 90))


def _highest(values: np.ndarray) -> float:
    highest = float(values.max(initial=-np.inf))
    return highest if np.isfinite(highest) else float("nan")


def _percentile(values: np.ndarray, share: float) -> float:
    return float(np.percentile(values, share)) if len(values) else float("nan")
