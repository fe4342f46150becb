"""Self-check without an MRI: a volume's bones, projected along the beam, must outline the bones on its film."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from skimage.filters import gaussian
from skimage.morphology import erosion
from torch import Tensor

from bundle.geometry import (
    FIELD_OF_VIEW_MM,
    KNEE_DETECTOR_MM,
    PROTOCOL_DEPTH_MM,
    SLICE_WINDOW,
    SOURCE_DETECTOR_MM,
    Grid,
)
from bundle.metrics.volume_metric import VolumeMetric, checked_volume

Segment = Callable[[np.ndarray], np.ndarray]
"""Volume (H, W, S) to its bones: labels 1 (femur, patella) and 2 (tibia, fibula), or one mask of all bone."""

WORKING_SIZE = 128
"""Rows and columns on which outlines are compared: 1.25 mm."""
FEMUR_DEGREES = (0.0, 5.0, 10.0)
TIBIA_DEGREES = (-5.0, 0.0, 5.0)
"""Angles tried: how far the top of the femur, and of the tibia, leans backward in the beam's frame against its place in
the MRI. The film is flexed and its beam 10 degrees caudal, the MRI straight: what is left of the two is small."""
MAGNIFICATIONS = (1.01, 1.02, 1.03, 1.04)
"""Factors tried on top of the known magnification of each depth. On the phantom, own films fit best between 1.02 and
1.05: a film's edge of a round bone lies a little outside of where a millimetre of it lies in the way."""
SHIFT_MM = 5.0
"""How far the joint centres may lie apart, along rows and columns."""
REACH_MM = 50.0
"""Rows from the joint centre that count; beyond, shafts of all knees look alike."""
_FILM_SIGMA_MM = 1.5
_THINNEST_MM = 1.5
"""Bone along the beam that counts as silhouette."""


class Agreement(NamedTuple):
    """How well outline and film agree, in [-1, 1], and where: angles in degrees, shifts of the outline in mm."""

    score: float
    femur_degrees: float
    tibia_degrees: float
    magnification: float
    down_mm: float
    across_mm: float


class Outline(NamedTuple):
    """Points of a silhouette's outline, (N, 2) row and column in working pixels from the middle; inward normals."""

    points: np.ndarray
    normals: np.ndarray


class Outlines(NamedTuple):
    """Outlines of both bones of a volume for every angle tried."""

    femur: tuple[Outline, ...]
    tibia: tuple[Outline, ...]


def bone_outlines(bones: np.ndarray | Tensor) -> Outlines | None:
    """Project a volume's bones along the beam, each at every angle.

    A bone turns about the left-right axis through the middle of the grid; rays are parallel down the depth axis, each
    slice with its own magnification (a point source 1828 mm from the detector, the knee's middle 65 mm before it).

    Args:
        bones: (H, W, S) on the model's grid, a canonical knee. Labels 1 and 2 as in `Segment`, or a mask of all bone,
            which is parted at the middle row.

    Returns:
        the outlines, or None where a bone has none.

    Raises:
        ValueError: if `bones` is not (H, W, S).
    """
    labels = checked_volume(bones, name="bones")
    upper, lower = labels == 1, labels == 2
    if not lower.any():  # one mask
        middle = labels.shape[0] // 2
        upper, lower = labels > 0, labels > 0
        upper[middle:], lower[:middle] = False, False
    found = []
    for mask, degrees in ((upper, FEMUR_DEGREES), (lower, TIBIA_DEGREES)):
        if not mask.any():
            return None
        found.append(tuple(_outline(_silhouette(mask, np.radians(angle))) for angle in degrees))
    if any(not len(outline.points) for part in found for outline in part):
        return None
    return Outlines(*found)


def film_edges(film: np.ndarray | Tensor) -> np.ndarray:
    """Direction of a film's edges: Gaussian gradient over its own magnitude, small where the film is flat.

    g / sqrt(|g|^2 + m^2), m the median of |g|: an edge of any contrast counts the same, noise hardly.

    Args:
        film: (H, W) on the model's grid, bright where bone is; any gain and offset.

    Returns:
        (128, 128, 2): along rows, along columns; length at most 1.

    Raises:
        ValueError: if `film` is not (H, W), not finite, or flat.
    """
    plain = checked_volume(np.asarray(film)[..., None] if np.ndim(film) == 2 else film, name="film")
    if plain.shape[2] != 1:
        raise ValueError(f"`film` must have shape (H, W), got {np.shape(film)}.")
    fine = _resized(plain[..., 0])
    smooth = gaussian(fine, sigma=_FILM_SIGMA_MM * WORKING_SIZE / FIELD_OF_VIEW_MM, mode="nearest")
    field = np.stack(np.gradient(smooth), axis=-1)
    size = np.linalg.norm(field, axis=-1)
    typical = float(np.median(size))
    if not size.max() > 0:
        raise ValueError("`film` must have contrast; all its values are the same.")
    return field / np.sqrt(size**2 + max(typical, 1e-3 * size.max()) ** 2)[..., None]


def outline_agreement(outlines: Outlines, edges: np.ndarray) -> Agreement:
    """Fit outlines to a film: the largest mean of (inward normal . edge direction) over the outlines' points.

    Both bones share magnification and shift; each has its own angle.

    Args:
        outlines: of `bone_outlines`.
        edges: of `film_edges`.

    Returns:
        the score and where it was found; 1 where every point of the outline lies on an edge of its own direction.
    """
    pixel = FIELD_OF_VIEW_MM / WORKING_SIZE
    reach = int(SHIFT_MM / pixel)
    shifts = np.arange(-reach, reach + 1)
    best = Agreement(-np.inf, 0.0, 0.0, 1.0, 0.0, 0.0)
    for magnification in MAGNIFICATIONS:
        femur, tibia = (
            [_sums(outline, edges, magnification, shifts) for outline in part]
            for part in (outlines.femur, outlines.tibia)
        )
        for i, upper in enumerate(femur):
            for j, lower in enumerate(tibia):
                means = (upper + lower) / (len(outlines.femur[i].points) + len(outlines.tibia[j].points))
                row, column = np.unravel_index(int(means.argmax()), means.shape)
                if means[row, column] > best.score:
                    best = Agreement(
                        float(means[row, column]),
                        FEMUR_DEGREES[i],
                        TIBIA_DEGREES[j],
                        magnification,
                        float(shifts[row] * pixel),
                        float(shifts[column] * pixel),
                    )
    return best


class SelfCheck(VolumeMetric):
    """Agreement of a volume's projected bones with the bones on its film, one score a volume.

    NaN where no bone is found. `left_out` counts volumes without bone (0 or 1 each).

    Args:
        segment: finds the bones of a volume.
        reduction: over volumes, `mean` or `median`.
    """

    def __init__(self, segment: Segment, *, reduction: str = "mean") -> None:
        super().__init__(counts="without_bone", reduction=reduction)
        self.segment = segment

    def _score(self, y_pred: Tensor, y: Tensor | None, films: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if films is None or len(films) != len(y_pred):
            raise ValueError("`films` must be given, (B, 1, H, W) with the B of the volumes.")
        scores = []
        for volume, film in zip(y_pred, films, strict=True):
            outlines = bone_outlines(self.segment(volume[0].cpu().numpy()))
            found = np.nan if outlines is None else outline_agreement(outlines, film_edges(film[0].cpu())).score
            scores.append(found)
        result = torch.tensor(scores, dtype=torch.float64)[:, None]
        return result, result.isnan().long()


def mismatch_auc(own: Sequence[float], others: Sequence[Sequence[float]]) -> float:
    """Chance that a volume's score with its own film exceeds that with another's, ties counting half.

    Args:
        own: a score a volume.
        others: scores of each volume with other people's films.

    Returns:
        the area under the ROC curve over all pairs of an own and another's score; NaN where there is none.
    """
    pooled = np.concatenate([np.asarray(row, dtype=float) for row in others]) if len(others) else np.zeros(0)
    values = np.asarray(own, dtype=float)
    if not len(values) or not len(pooled):
        return float("nan")
    above = values[:, None] - pooled[None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def _silhouette(mask: np.ndarray, angle: float) -> np.ndarray:
    """Length of bone along the beam, mm, (128, 128): slices moved by their depth, shrunk by the turn, magnified."""
    rows, _, slices = mask.shape
    grid = Grid.of(image_size=rows, slices=slices)
    middle_mm = ((SLICE_WINDOW[0] + SLICE_WINDOW[1]) / 2 - 0.5) * PROTOCOL_DEPTH_MM
    ahead = (np.arange(slices) - (slices - 1) / 2) * grid.slice_spacing_mm + middle_mm
    source = SOURCE_DETECTOR_MM - KNEE_DETECTOR_MM
    pixel = FIELD_OF_VIEW_MM / WORKING_SIZE
    at = (np.arange(WORKING_SIZE) - (WORKING_SIZE - 1) / 2) * pixel
    total = np.zeros((WORKING_SIZE, WORKING_SIZE))
    for index, depth in enumerate(ahead):
        # The source stands behind the knee: what lies in front of the middle is further from it, and smaller.
        shrunk = at * (source + depth) / source
        # Rows run downwards: a top that leans backward lifts the front.
        down = (shrunk + depth * np.sin(angle)) / np.cos(angle)
        row, column = (np.round(mm / grid.spacing_mm + (rows - 1) / 2).astype(int) for mm in (down, shrunk))
        inside = ((row >= 0) & (row < rows))[:, None] & ((column >= 0) & (column < rows))[None]
        total += mask[np.clip(row, 0, rows - 1)[:, None], np.clip(column, 0, rows - 1)[None], index] * inside
    return total * grid.slice_spacing_mm


def _outline(length_mm: np.ndarray) -> Outline:
    shape = length_mm >= _THINNEST_MM
    inward = np.stack(np.gradient(gaussian(shape.astype(float), sigma=1.5)), axis=-1)
    row, column = np.nonzero(shape & ~erosion(shape, np.ones((3, 3), bool)))
    middle = (WORKING_SIZE - 1) / 2
    border = 3
    kept = (np.abs(row - middle) * FIELD_OF_VIEW_MM / WORKING_SIZE <= REACH_MM) & (
        (column >= border) & (column < WORKING_SIZE - border)
    )
    row, column = row[kept], column[kept]
    normals = inward[row, column]
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return Outline(np.stack([row, column], axis=1) - middle, normals)


def _sums(outline: Outline, edges: np.ndarray, magnification: float, shifts: np.ndarray) -> np.ndarray:
    """Sum over an outline's points of (normal . edge), for every shift of rows and columns."""
    at = np.round(outline.points * magnification + (WORKING_SIZE - 1) / 2).astype(int)
    row = np.clip(at[:, 0, None, None] + shifts[None, :, None], 0, WORKING_SIZE - 1)
    column = np.clip(at[:, 1, None, None] + shifts[None, None, :], 0, WORKING_SIZE - 1)
    found = edges[row, column]
    return np.einsum("nrck,nk->rc", found, outline.normals)


def _resized(plane: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(plane)[None, None]
    smaller = plane.shape[0] > WORKING_SIZE
    size = (WORKING_SIZE, WORKING_SIZE)
    return torch.nn.functional.interpolate(tensor, size, mode="bilinear", antialias=smaller)[0, 0].numpy()
