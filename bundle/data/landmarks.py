"""A film's landmarks by the knee finder: where each is, how sure that is, and whether they make a knee."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from bundle.data.finder_view import VIEW_MM, FinderView
from bundle.data.joint_line import Knee, pixel_edges
from bundle.networks.knee_finder import IMPLANT, LANDMARKS, MAPS, KneeFinder, find_peaks

JOINT = LANDMARKS[:3]
CONFIDENT = 0.5
CONFIDENT_ALONE = 0.7
"""Of a joint centre whose other landmarks are not sure."""
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
        points_mm: (M, 2) row and column of the peak of each of `networks.knee_finder.MAPS`, from the centre of the
            film's first pixel, detector mm.
        confidence: (M,) probability near each peak.
    """

    points_mm: Tensor
    confidence: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, film: MetaTensor, finder: KneeFinder) -> LandmarkMaps:
        """Look at a film, (1, H, W, 1) in ILA axes."""
        view = FinderView()(film)
        scores = finder.look(view.as_tensor()[None])
        peaks = find_peaks(scores)
        extents = [count * edge for count, edge in zip(film.shape[1:3], pixel_edges(film), strict=True)]
        # The view is centred on the film, whose first pixel's centre is the origin.
        origin = tuple(
            (extent - count * VIEW_MM + VIEW_MM - edge) / 2
            for extent, count, edge in zip(extents, view.shape[1:], pixel_edges(film), strict=True)
        )
        return cls(peaks.points[0] * VIEW_MM + torch.tensor(origin), peaks.confidence[0])

    def implant(self, side: str) -> float:
        """Probability that the knee of a side has been replaced."""
        return self._confidence(side, IMPLANT)

    def points(self, side: str) -> dict[str, tuple[float, float]]:
        """Landmark to row and column, mm, whatever their confidence."""
        return {name: tuple(self.points_mm[MAPS.index((side, name))].tolist()) for name in LANDMARKS}

    def rotation_deg(self, side: str) -> float:
        """How far the tibial plateau leans from level on the film, clockwise."""
        points = self.points(side)
        ends = sorted((points[f"plateau_{end}_rim"] for end in ("medial", "lateral")), key=lambda point: point[1])
        (left_row, left), (right_row, right) = ends
        return math.degrees(math.atan2(right_row - left_row, right - left))

    def sure(self, side: str) -> bool:
        """Whether joint centre and plateau, which no upright film of the joint is without, are likelier than not."""
        return all(self._confidence(side, name) >= CONFIDENT for name in JOINT)

    def knee(self, side: str) -> Knee | None:
        """The knee of a side, if joint and one shaft at least are sure, and together they make an upright knee."""
        points = self.points(side)
        row, column = points[JOINT[0]]
        ends = [points[name] for name in JOINT[1:]]
        middle = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
        fits = (
            PLATEAU_WIDTHS_MM[0] <= math.dist(*ends) <= PLATEAU_WIDTHS_MM[1]
            and abs(self.rotation_deg(side)) <= LARGEST_ROTATION_DEG
            and math.dist((row, column), middle) <= LARGEST_OFFSET_MM
            # The right knee's medial side is to the right on a film seen as it is read.
            and (ends[0][1] > ends[1][1]) == (side == "R")
            # A film may end short of one shaft's point, which is then sought where it is not.
            and any(self._upright_shaft(side, name, sign) for name, sign in (("femur_shaft", -1), ("tibia_shaft", 1)))
        )
        sure = min(self._confidence(side, name) for name in JOINT)
        return Knee(row, column, sure) if fits and self.sure(side) else None

    def _confidence(self, side: str, name: str) -> float:
        return float(self.confidence[MAPS.index((side, name))])

    def _upright_shaft(self, side: str, name: str, sign: int) -> bool:
        points = self.points(side)
        (row, column), (end, across) = points[JOINT[0]], points[name]
        lean = math.degrees(math.atan2(across - column, sign * (end - row)))
        return self._confidence(side, name) >= CONFIDENT and abs(lean) <= LARGEST_ROTATION_DEG

    def near(self, knee: Knee, side: str) -> Knee | None:
        """The joint centre of a side, if the maps are sure of one within a centimetre of a place.

        Where they see the other side's knee, as on a film of one knee, there is none of this side.
        """
        row, column = self.points(side)[JOINT[0]]
        confidence = self._confidence(side, JOINT[0])
        other = self.knee("L" if side == "R" else "R")
        if confidence < CONFIDENT_ALONE or not _close((row, column), knee):
            return None
        return None if other is not None and _close((row, column), other) else Knee(row, column, confidence)


def _close(point: tuple[float, float], knee: Knee) -> bool:
    return math.dist(point, (knee.row_mm, knee.column_mm)) <= _NEAR_MM
