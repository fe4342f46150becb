"""Find the knee on a film by image analysis, and cut the region of interest in millimetres."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from skimage.filters import gaussian, threshold_otsu
from skimage.transform import resize, warp

from bundle.geometry import FIELD_OF_VIEW_MM, FILM_MAGNIFICATION, Grid, check_side
from bundle.keys import SIDE
from bundle.transforms import resize_plane

SEARCH_MM = 1.0
"""Pixel edge at which the joint is looked for."""
BILATERAL_WIDTH_MM = 260.0
"""A film wider than this shows both knees, unless its header says otherwise."""
GAP_MM = 5.0
"""Size of the dark band between condyles and plateau that is looked for, at the detector."""
MIN_CONFIDENCE = 0.12
CONFIDENCE = "knee_confidence"
"""Entry of a cut film's meta: how sure the finder was; 1 for a film that was cut before."""


@dataclass(frozen=True)
class Knee:
    """A knee on a film.

    Args:
        row_mm, column_mm: joint centre, from the centre of the film's first pixel, at the detector.
        confidence: contrast of the joint line against bone, about 0.2 to 1 on a knee.
    """

    row_mm: float
    column_mm: float
    confidence: float


def find_knee(film: MetaTensor, side: str) -> Knee:
    """Find the joint centre of one knee.

    The joint line is where a dark band lies between two bright ones on both sides of the leg's axis; the centre is the
    middle of the tibial plateau below it. On a film of both knees the right one is in the left half.

    Args:
        film: (1, H, W, 1), ILA axes, bright where bone is.
        side: `R` or `L`.

    Raises:
        ValueError: if nothing on the film looks like a knee joint.
    """
    pixels = film.as_tensor()[0, :, :, 0].double().numpy()
    row_edge, column_edge = _edges(film)
    name = film.meta.get("filename_or_obj", "film")
    extent = (pixels.shape[0] * row_edge, pixels.shape[1] * column_edge)
    if min(extent) < 60:
        raise ValueError(f"film {name}: covers {extent[0]:.0f} x {extent[1]:.0f} mm, too little for a knee.")
    image = resize(pixels, [max(2, round(edge / SEARCH_MM)) for edge in extent], order=1, anti_aliasing=True)
    low, high = np.percentile(image, [1, 99.5])
    image = np.clip((image - low) / max(high - low, 1e-9), 0, 1)
    first = 0
    said = film.meta.get("bilateral")
    if said is True or (said is None and extent[1] > BILATERAL_WIDTH_MM):
        middle = image.shape[1] // 2
        first = 0 if check_side(side) == "R" else middle
        image = image[:, first : first + middle]
    smooth = gaussian(image, 1.0)
    axis = _leg_axis(smooth)
    scores = _joint_line_scores(smooth, axis)
    row = int(np.argmax(scores))
    confidence = float(scores[row])
    if confidence < MIN_CONFIDENCE:
        raise ValueError(
            f"film {name}: no knee joint found on side {side} (confidence {confidence:.2f}, expected "
            f"{MIN_CONFIDENCE}); is it a PA film of the knee, and the side right?"
        )
    column = _plateau_middle(smooth, row, axis)
    return Knee(
        row_mm=(row + 0.5) * extent[0] / image.shape[0] - row_edge / 2,
        column_mm=(first + column + 0.5) * SEARCH_MM - column_edge / 2,
        confidence=confidence,
    )


def _edges(film: MetaTensor) -> tuple[float, float]:
    affine = film.affine.numpy()
    return float(np.linalg.norm(affine[:3, 0])), float(np.linalg.norm(affine[:3, 1]))


def _leg_axis(image: np.ndarray) -> float:
    """Column of the leg's axis: the middle of what absorbs most, over the middle rows."""
    rows = image[image.shape[0] // 5 : -image.shape[0] // 5]
    weight = np.clip(rows - threshold_otsu(rows), 0, None).sum(0)
    return float((weight * np.arange(len(weight))).sum() / max(weight.sum(), 1e-9))


def _joint_line_scores(image: np.ndarray, axis: float) -> np.ndarray:
    """How much each row looks like the joint line: dark against 7 mm above and below, in both compartments."""
    reach = round(GAP_MM * 1.5)
    scores = np.zeros(image.shape[0])
    compartments = []
    for sign in (-1, 1):
        columns = (axis + sign * np.arange(10, 31)).round().astype(int)
        columns = columns[(columns >= 0) & (columns < image.shape[1])]
        if not len(columns):
            return scores
        # the gap is thinner than 5 mm in a narrowed compartment, so the darkest of each column counts
        band = image[:, columns]
        above, below = np.roll(band, reach, axis=0), np.roll(band, -reach, axis=0)
        compartments.append((np.minimum(above, below) - band).mean(1))
    valley = 0.75 * np.mean(compartments, axis=0) + 0.25 * np.min(compartments, axis=0)
    valley = gaussian(valley, 1.0)
    bright = gaussian(image[:, max(0, round(axis) - 30) : round(axis) + 31].mean(1), 6.0)
    margin = max(reach + 1, image.shape[0] // 8)
    scores[margin:-margin] = (valley / max(bright.max(), 1e-9) * 6)[margin:-margin]
    return scores


def _plateau_middle(image: np.ndarray, row: int, axis: float) -> float:
    """Middle of the tibial plateau just below the joint line."""
    profile = image[row + 4 : row + 13].mean(0)
    left, right = max(0, round(axis) - 60), min(len(profile), round(axis) + 61)
    slope = np.gradient(gaussian(profile, 1.5))[left:right]
    centre = round(axis) - left
    # the plateau's margins are the steepest rise left of the axis and the steepest fall right of it
    inner = 15
    rise = int(np.argmax(slope[: max(1, centre - inner)]))
    fall = centre + inner + int(np.argmin(slope[centre + inner :])) if centre + inner < len(slope) else centre
    middle = left + (rise + fall) / 2
    return middle if abs(middle - axis) < 25 and 40 < fall - rise < 115 else axis


class CropKnee:
    """Cut one knee to the model's field of view, in millimetres, centred on the joint.

    Detector millimetres are divided by the film's magnification. A film that covers just the field of view already
    (a prepared one) is only brought to the grid.

    Args:
        image_size: rows and columns of the result.
    """

    def __init__(self, image_size: int) -> None:
        self.grid = Grid.of(image_size=image_size, slices=50)

    def __call__(self, film: MetaTensor, side: str | None) -> MetaTensor:
        """(1, H, W, 1) to (1, image_size, image_size, 1), joint centre at the origin; zero where the film ends.

        Raises:
            ValueError: if the side is not known, or no knee is found.
        """
        name = film.meta.get("filename_or_obj", "film")
        if side is None:
            raise ValueError(f"film {name}: neither the header nor the request says which knee; give --side R or L.")
        check_side(side)
        size = self.grid.rows
        row_edge, column_edge = _edges(film)
        if film.meta.get("prepared") or _covers_the_field(film):
            pixels = resize_plane(film.as_tensor().float().permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
            film.meta[CONFIDENCE] = 1.0
        else:
            knee = find_knee(film, side)
            pixels = self._cut(film, knee, row_edge, column_edge)
            film.meta[CONFIDENCE] = knee.confidence
        result = MetaTensor(pixels.contiguous(), meta=dict(film.meta))
        result.affine = torch.from_numpy(self.grid.film_affine())
        return result

    def _cut(self, film: MetaTensor, knee: Knee, row_edge: float, column_edge: float) -> torch.Tensor:
        size = self.grid.rows
        edge = self.grid.spacing_mm * FILM_MAGNIFICATION
        # sampled finer than the film first, then averaged: nothing aliases
        oversampling = max(1, int(np.ceil(edge / min(row_edge, column_edge))))
        count = size * oversampling
        offset = (np.arange(count) + 0.5) / oversampling * edge - size * edge / 2
        rows, columns = (knee.row_mm + offset) / row_edge, (knee.column_mm + offset) / column_edge
        pixels = film.as_tensor()[0, :, :, 0].double().numpy()
        sampled = warp(pixels, np.stack(np.meshgrid(rows, columns, indexing="ij")), order=1, cval=pixels.min())
        return resize_plane(torch.from_numpy(sampled).float()[None, None], size)[0][..., None]


def _covers_the_field(film: MetaTensor) -> bool:
    extents = (film.shape[1] * _edges(film)[0], film.shape[2] * _edges(film)[1])
    return all(abs(extent - FIELD_OF_VIEW_MM) < 0.5 * max(_edges(film)) for extent in extents)


class CropKneed(MapTransform):
    """Dictionary form of `CropKnee`.

    Args:
        keys: entries with films.
        image_size: rows and columns of the result.
        side_key: entry that says `R` or `L`.
        allow_missing_keys: pass over entries that are absent.
    """

    def __init__(
        self, keys: KeysCollection, image_size: int, side_key: str = SIDE, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crop, self.side_key = CropKnee(image_size), side_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Cut the films of one knee."""
        side = data.get(self.side_key)
        return dict(data) | {key: self.crop(data[key], side) for key in self.key_iterator(data)}
