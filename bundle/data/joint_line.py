"""Find the joint of one knee on a film by image analysis: a dark band between two bright ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from skimage.filters import gaussian, threshold_otsu

from bundle.geometry import check_side
from bundle.transforms import apply_weights, axis_weights, collimated_extent

SEARCH_MM = 1.0
"""Pixel edge at which the joint is looked for; all distances below are detector millimetres."""
BILATERAL_WIDTH_MM = 260.0
"""A film wider than this shows both knees, unless its header says otherwise."""
SMALLEST_FILM_MM, LARGEST_FILM_MM = 60.0, 2000.0
GAP_REACH_MM = 7
"""From the joint line to bone above and below it; a normal joint space is 4 to 7 mm wide."""
COMPARTMENT_MM = (10, 31)
"""From the leg's axis to the inner and outer end of a compartment's bearing part."""
LARGEST_TILT_MM = 6
"""Between the joint line's rows in the two compartments: 40 mm apart, so 8.5 degrees."""
PLATEAU_MM = (3, 12)
CONDYLES_MM = (-18, -6)
"""Rows below and above the joint line where both bones are widest and no fibula is seen."""
PLATEAU_WIDTHS_MM = (52, 104)
USUAL_WIDTH_MM, WIDTH_SPREAD_MM = 76.0, 14.0
LEG_GREY = 0.35
MIN_CONFIDENCE = 0.6


@dataclass(frozen=True)
class Knee:
    """A knee on a film.

    Args:
        row_mm, column_mm: joint centre, from the centre of the film's first pixel, at the detector.
        confidence: of the network, the probability of its least certain landmark; of image analysis, contrast of the
            joint line against bone, above 1 on most knees and below 0.5 on most other pictures.
    """

    row_mm: float
    column_mm: float
    confidence: float


def find_joint(film: MetaTensor, side: str) -> Knee:
    """Find the joint centre of one knee.

    The joint line is where a dark band lies between two bright ones on both sides of the leg's axis; the centre is the
    middle of the plateau and condyles beside it. On a film of both knees the right one is in the left half.

    Args:
        film: (1, H, W, 1), ILA axes, bright where bone is; the meta's `bilateral` is trusted where it is there.
        side: `R` or `L`.

    Raises:
        ValueError: if nothing on the film looks like a knee joint.
    """
    check_side(side)
    name = film.meta.get("filename_or_obj", "film")
    edges, extent = pixel_edges(film), film_extent(film)
    image = _coarse(film.as_tensor()[0, :, :, 0], extent)
    top, left = 0, 0
    rows, columns = collimated_extent(image)
    said = film.meta.get("bilateral")
    if said is True or (said is None and extent[1] > BILATERAL_WIDTH_MM):
        # a collimated film is halved in the middle of its field: film and field may have different middles
        middle = (columns.start + columns.stop) // 2
        columns = slice(columns.start, middle) if side == "R" else slice(middle, columns.stop)
    top, left = rows.start, columns.start
    image = image[rows, columns]
    knee = None
    if min(image.shape) >= SMALLEST_FILM_MM:
        knee = _joint(gaussian(_graded(image), 1.0))
    if knee is None or knee[2] < MIN_CONFIDENCE:
        raise ValueError(
            f"film {name}: no knee joint found for side {side} (confidence {knee[2] if knee else 0:.2f}, expected "
            f"{MIN_CONFIDENCE}); is it a PA film of the knee with the right side and spacing?"
        )
    return Knee(
        row_mm=(top + knee[0] + 0.5) * SEARCH_MM - edges[0] / 2,
        column_mm=(left + knee[1] + 0.5) * SEARCH_MM - edges[1] / 2,
        confidence=knee[2],
    )


def pixel_edges(film: MetaTensor) -> tuple[float, float]:
    """Height and width of a film's pixel, mm."""
    affine = film.affine.numpy()
    return float(np.linalg.norm(affine[:3, 0])), float(np.linalg.norm(affine[:3, 1]))


def film_extent(film: MetaTensor) -> list[float]:
    """Height and width of a film, mm.

    Raises:
        ValueError: if no film of a knee is as small, or as large: looking for a knee takes memory by the millimetre.
    """
    extent = [count * edge for count, edge in zip(film.shape[1:3], pixel_edges(film), strict=True)]
    if min(extent) < SMALLEST_FILM_MM or max(extent) > LARGEST_FILM_MM:
        raise ValueError(
            f"film {film.meta.get('filename_or_obj', 'film')}: covers {extent[0]:g} x {extent[1]:g} mm; expected "
            f"{SMALLEST_FILM_MM:g} to {LARGEST_FILM_MM:g} mm an edge. Is its pixel spacing right?"
        )
    return extent


def _coarse(pixels: torch.Tensor, extent: list[float]) -> np.ndarray:
    """The film at `SEARCH_MM`, whole cells only."""
    weights = {}
    for axis, size in enumerate(extent):
        count = pixels.shape[axis]
        weights[axis] = axis_weights(count, size / count, int(size / SEARCH_MM), SEARCH_MM)
    return apply_weights(pixels, weights).double().numpy()


def _graded(image: np.ndarray) -> np.ndarray:
    """Grey values in [0, 1] on one scale, whatever the film's exposure and tone curve.

    A power brings the leg's median to `LEG_GREY`, which leaves soft tissue dark and its outline faint.
    """
    low, high = np.percentile(image, [1, 99.5])
    image = np.clip((image - low) / max(high - low, 1e-9), 0, 1)
    leg = image[image > 0.05]
    median = float(np.median(leg)) if len(leg) else 0.5
    return image ** np.clip(np.log(LEG_GREY) / np.log(np.clip(median, 0.02, 0.98)), 0.25, 6.0)


def _joint(image: np.ndarray) -> tuple[float, float, float] | None:
    """Row, column and confidence of the joint centre on an image of one leg, grey values in [0, 1]."""
    axis = _leg_axis(image)
    scores = _joint_line_scores(image, axis)
    row = int(np.argmax(scores))
    if scores[row] <= 0:
        return None
    centre = _middle_of_bones(image, row, axis)
    if abs(centre - axis) > 4:  # the axis was off (a wide thigh, a marker): look again about the joint's own middle
        scores = _joint_line_scores(image, centre)
        row = int(np.argmax(scores))
        centre = _middle_of_bones(image, row, centre)
    return float(row), centre, float(scores[row])


def _leg_axis(image: np.ndarray) -> float:
    """Column of the leg's axis: the middle of what absorbs most, over the middle rows."""
    rows = image[image.shape[0] // 5 : -image.shape[0] // 5]
    weight = np.clip(rows - threshold_otsu(rows), 0, None).sum(0) if np.ptp(rows) > 0 else np.ones(image.shape[1])
    return float((weight * np.arange(len(weight))).sum() / max(weight.sum(), 1e-9))


def _joint_line_scores(image: np.ndarray, axis: float) -> np.ndarray:
    """How much each row looks like the joint line: darker than above and below, in both compartments."""
    scores = np.zeros(image.shape[0])
    valleys = []
    for sign in (-1, 1):
        columns = np.round(axis + sign * np.arange(*COMPARTMENT_MM)).astype(int)
        columns = columns[(columns >= 0) & (columns < image.shape[1])]
        if not len(columns):
            return scores
        band = image[:, columns]
        above, below = np.roll(band, GAP_REACH_MM, axis=0), np.roll(band, -GAP_REACH_MM, axis=0)
        valleys.append(gaussian((np.minimum(above, below) - band).mean(1), 1.0))
    margin = max(GAP_REACH_MM + 1, image.shape[0] // 8)
    inside = slice(margin, image.shape[0] - margin)
    for tilt in range(-LARGEST_TILT_MM, LARGEST_TILT_MM + 1):
        left, right = np.roll(valleys[0], tilt // 2), np.roll(valleys[1], tilt // 2 - tilt)
        # a narrowed compartment has a shallow valley, so the better one leads
        score = (0.5 * (left + right) + 0.25 * (np.minimum(left, right) - np.maximum(left, right) / 2)) * (
            1 - 0.03 * abs(tilt)
        )
        scores[inside] = np.maximum(scores[inside], score[inside])
    legs = image[:, max(0, round(axis) - COMPARTMENT_MM[1]) : round(axis) + COMPARTMENT_MM[1]].mean(1)
    return scores * 6 / max(float(gaussian(legs, 6.0).max()), 1e-9)


def _middle_of_bones(image: np.ndarray, row: int, axis: float) -> float:
    """Middle between the outer margins of plateau and condyles, the steepest pair of edges at a knee's width."""
    bands = [image[max(0, row + first) : row + last] for first, last in (PLATEAU_MM, CONDYLES_MM)]
    profile = np.mean([band.mean(0) for band in bands if len(band)], axis=0)
    slope = np.gradient(gaussian(profile, 1.5))
    columns = np.arange(len(profile))
    reach = PLATEAU_WIDTHS_MM[1] // 2 + 14
    rise = np.where((columns < axis - 12) & (columns > axis - reach), np.clip(slope, 0, None), 0)
    fall = np.where((columns > axis + 12) & (columns < axis + reach), np.clip(-slope, 0, None), 0)
    width = columns[None] - columns[:, None]
    allowed = (width >= PLATEAU_WIDTHS_MM[0]) & (width <= PLATEAU_WIDTHS_MM[1])
    usual = np.exp(-(((width - USUAL_WIDTH_MM) / WIDTH_SPREAD_MM) ** 2) / 2)
    pairs = np.where(allowed, np.sqrt(rise[:, None] * fall[None]) * usual, 0)
    if pairs.max() <= 0:
        return axis
    left, right = np.unravel_index(int(np.argmax(pairs)), pairs.shape)
    return float(left + right) / 2
