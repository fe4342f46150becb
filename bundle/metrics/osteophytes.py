"""Osteophyte size: the volume of bone beyond the line of the bone's own margin, at four sites of the joint."""

from __future__ import annotations

import numpy as np

from bundle.metrics.bones import FEMUR, TIBIA, Spacing, checked_spacing

SITES = ("femur_medial", "femur_lateral", "tibia_medial", "tibia_lateral")
MARGIN_MM = {FEMUR: (14.0, 22.0), TIBIA: (16.0, 22.0)}
"""Distance from the bone's end at the joint at which its margin is read; the tibia's end is the tip of its spines."""
LIP_MM = {FEMUR: 14.0, TIBIA: 16.0}
"""Distance from the same end within which bone beyond the margin counts."""


def osteophyte_volumes(bones: np.ndarray, *, spacing_mm: Spacing) -> dict[str, float]:
    """Measure marginal bone of a canonical right knee, whose medial side has the higher columns.

    In each coronal slice a vertical line stands at the bone's outermost column (mean over the rows 14 to 22 mm from
    the femur's lowest row, 16 to 22 mm from the tibia's highest). Bone beyond it that lies nearer to the joint is
    summed. A healthy tibia is wider at its plateau than below, so 0 is not its normal value: compare.

    Args:
        bones: labels with femur 1 and tibia 2, shape (H, W, S), ILA axes.
        spacing_mm: voxel edges, mm.

    Returns:
        site (`SITES`) to mm3; NaN for a bone that is absent.

    Raises:
        ValueError: on a wrong shape or edges.
    """
    edges = checked_spacing(spacing_mm)
    if bones.ndim != 3:
        raise ValueError(f"`bones` must have shape (H, W, S), got {bones.shape}.")
    volumes = {}
    for name, bone in (("femur", FEMUR), ("tibia", TIBIA)):
        mask = (bones == bone)[:: -1 if bone == FEMUR else 1]  # rows away from the joint
        rows = np.flatnonzero(mask.any((1, 2)))
        for side in ("medial", "lateral"):
            volumes[f"{name}_{side}"] = (
                _beyond(mask[rows[0] :, :: 1 if side == "medial" else -1], bone, edges) if len(rows) else float("nan")
            )
    return volumes


def _beyond(mask: np.ndarray, bone: int, edges: Spacing) -> float:
    """Volume beyond the margin at high columns, of a bone whose row 0 is its end at the joint; mm3."""
    at = [round(edge / edges[0]) for edge in MARGIN_MM[bone]]
    band = mask[at[0] : max(at[1], at[0] + 1)]
    has = band.any(1)
    outer = np.where(has, band.shape[1] - 1 - band[:, ::-1].argmax(1), 0)
    rows = has.sum(0)
    margin = np.where(rows > 0, (outer * has).sum(0) / np.maximum(rows, 1), np.inf)
    lip = mask[: round(LIP_MM[bone] / edges[0])]
    excess = (np.arange(mask.shape[1])[:, None] - margin).clip(0, 1)  # a voxel that the line cuts counts in part
    return float((lip * excess).sum() * np.prod(edges))
