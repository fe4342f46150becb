"""A film's landmarks by the knee finder: where each is, how sure that is, and whether they make a knee."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from bundle.data.finder_view import VIEW_MM, FinderView
from bundle.data.joint_line import Knee, pixel_edges
from bundle.networks.knee_finder import IMPLANT, LANDMARKS, MAPS, KneeFinder, find_peaks, log_probabilities

CONFIDENT = 0.5
PLATEAU_WIDTHS_MM = (50.0, 110.0)
"""At the detector."""
LARGEST_ROTATION_DEG = 20.0
LARGEST_OFFSET_MM = 10.0
"""Of the joint centre from the middle between the plateau's ends."""
_NEAR_MM = 10.0


@dataclass(frozen=True)
class LandmarkMaps:
    """What the finder says of one film.

    Args:
        probabilities: (M, h, w) of `networks.knee_finder.MAPS`.
        points_mm: (M, 2) row and column of each peak, from the centre of the film's first pixel, detector mm.
        confidence: (M,) probability near each peak.
        origin_mm: row and column of the view's first pixel, in the same millimetres.
    """

    probabilities: Tensor
    points_mm: Tensor
    confidence: Tensor
    origin_mm: tuple[float, float]

    @classmethod
    @torch.no_grad()
    def of(cls, film: MetaTensor, finder: KneeFinder) -> LandmarkMaps:
        """Look at a film, (1, H, W, 1) in ILA axes."""
        view = FinderView()(film)
        scores = finder(view.as_tensor()[None])
        peaks = find_peaks(scores)
        extents = [count * edge for count, edge in zip(film.shape[1:3], pixel_edges(film), strict=True)]
        # The view is centred on the film, whose first pixel's centre is the origin.
        origin = tuple(
            (extent - count * VIEW_MM + VIEW_MM - edge) / 2
            for extent, count, edge in zip(extents, view.shape[1:], pixel_edges(film), strict=True)
        )
        probabilities = log_probabilities(scores)[0, :, :-1].exp().unflatten(1, tuple(view.shape[1:]))
        points = peaks.points[0] * VIEW_MM + torch.tensor(origin)
        return cls(probabilities, points, peaks.confidence[0], origin)

    def implant(self, side: str) -> float:
        """Probability that the knee of a side has been replaced."""
        return float(self.confidence[MAPS.index((side, IMPLANT))])

    def points(self, side: str) -> dict[str, tuple[float, float]]:
        """Landmark to row and column, mm, whatever their confidence."""
        return {name: tuple(self.points_mm[MAPS.index((side, name))].tolist()) for name in LANDMARKS}

    def rotation_deg(self, side: str) -> float:
        """How far the leg leans from upright on the film, clockwise."""
        points = self.points(side)
        (top, left), (bottom, right) = points["femur_shaft"], points["tibia_shaft"]
        return math.degrees(math.atan2(left - right, bottom - top))

    def knee(self, side: str) -> Knee | None:
        """The knee of a side, if every landmark is sure and together they make an upright knee."""
        sure = float(min(self.confidence[MAPS.index((side, name))] for name in LANDMARKS))
        points = self.points(side)
        row, column = points["joint_centre"]
        ends = [points[f"plateau_{end}_rim"] for end in ("medial", "lateral")]
        middle = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
        fits = (
            PLATEAU_WIDTHS_MM[0] <= math.dist(*ends) <= PLATEAU_WIDTHS_MM[1]
            and abs(self.rotation_deg(side)) <= LARGEST_ROTATION_DEG
            and math.dist((row, column), middle) <= LARGEST_OFFSET_MM
            # The right knee's medial side is to the right on a film seen as it is read.
            and (ends[0][1] > ends[1][1]) == (side == "R")
        )
        return Knee(row, column, sure) if fits and sure >= CONFIDENT else None

    def near(self, knee: Knee, side: str) -> float:
        """Probability that the joint centre of a side lies within a centimetre of a place."""
        maps = self.probabilities[MAPS.index((side, LANDMARKS[0]))]
        rows = torch.arange(maps.shape[0]) * VIEW_MM + self.origin_mm[0] - knee.row_mm
        columns = torch.arange(maps.shape[1]) * VIEW_MM + self.origin_mm[1] - knee.column_mm
        inside = rows[:, None].square() + columns[None].square() <= _NEAR_MM**2
        return float((maps * inside).sum())
