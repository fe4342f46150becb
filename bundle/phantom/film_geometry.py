"""Where source, knees and detector of a film are, and where a point of a knee falls on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bundle.geometry import KNEE_DETECTOR_MM, SIDES, SOURCE_DETECTOR_MM, check_side
from bundle.phantom.anatomy import Person
from bundle.phantom.film_clutter import Clutter
from bundle.phantom.lattice import Slab
from bundle.phantom.pose import Posed, Rigid
from bundle.phantom.streams import stream

FIELD_MM = (307.2, 409.6)
"""Height and width of the detector, near 14 x 17 inches lying on its side; a film of one knee has half of it."""
SPACINGS = {"test": 1.6, "demo": 0.4, "native": 0.2}
"""Detector pixel, mm."""
CAUDAL_DEG = 10.0
_MOST_DEG = 5.0
"""How far at most a technologist turns the tube from `CAUDAL_DEG` to send the beam along both plateaus at best: a film
whose plateaus are seen double is repeated, and beam angles measured on OAI's films vary (11.57 in Duryea's table)."""
_QUARTER_TURN = Rigid(np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), np.zeros(3))
"""Turns the medial side of a knee towards the source: what was lateral lies at the detector."""


@dataclass(frozen=True)
class FilmGeometry:
    """Where source, knees and detector are; LPS axes, origin midway between the knees at joint height, mm.

    Args:
        spacing_mm: detector pixel.
        separation_mm: of each knee's joint centre from the beam's vertical plane.
        centre_z_mm: height of the detector's middle.
        caudal_deg: by how much the ray through the joint runs downwards.
        sides: knees on the film, in the order of its columns.
        lateral: the beam runs from medial to lateral instead of from behind.
        margin_px: pixels beyond the detector on every side, rendered to be turned into it.
    """

    spacing_mm: float
    separation_mm: float
    centre_z_mm: float
    caudal_deg: float = CAUDAL_DEG
    sides: tuple[str, ...] = SIDES
    lateral: bool = False
    margin_px: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the film."""
        rows, half = round(FIELD_MM[0] / self.spacing_mm), round(FIELD_MM[1] / self.spacing_mm) // 2
        return rows + 2 * self.margin_px, half * len(self.sides) + 2 * self.margin_px

    @property
    def knee_shape(self) -> tuple[int, int]:
        """Rows and columns of the part that `slab` covers: the whole film, or its half where both knees are on it."""
        return self.shape[0], self.shape[1] // len(self.sides)

    @property
    def source_y_mm(self) -> float:
        """The source stands behind the patient."""
        return SOURCE_DETECTOR_MM - KNEE_DETECTOR_MM

    @property
    def source_z_mm(self) -> float:
        """Height of the source, so that the ray through the joint runs `caudal_deg` caudal."""
        return self.source_y_mm * math.tan(math.radians(self.caudal_deg))

    def project(self, points: np.ndarray, side: str) -> np.ndarray:
        """Shadow of points of a knee.

        Args:
            points: (..., 3), scan frame of that knee (x lateral), mm.
            side: `R` or `L`.

        Returns:
            (..., 2) row and column on the film, in pixels.

        Raises:
            ValueError: when that knee is not on the film.
        """
        check_side(side)
        if side not in self.sides:
            raise ValueError(f"`side` must be on the film ({', '.join(self.sides)}), got {side!r}; skip this knee.")
        points = np.asarray(points, dtype=float)
        shadow = self.shadow(_QUARTER_TURN.apply(points) if self.lateral else points)
        if side == "L":
            shadow[..., 1] = self.shape[1] - 1 - shadow[..., 1]
        return shadow

    def shadow(self, points: np.ndarray) -> np.ndarray:
        """Row and column, (..., 2), of points (..., 3) of a right knee that are in the beam's frame."""
        points = np.asarray(points, dtype=float)
        magnify = self.magnification(points[..., 1])
        away = (points[..., 0] + self.separation_mm) * magnify
        z = self.source_z_mm + (points[..., 2] - self.source_z_mm) * magnify
        rows, columns = self.shape
        return np.stack(
            [(self.centre_z_mm - z) / self.spacing_mm + (rows - 1) / 2, (columns - 1) / 2 - away / self.spacing_mm],
            axis=-1,
        )

    def magnification(self, y: np.ndarray | float) -> np.ndarray | float:
        """Detector millimetres for a millimetre in the plane `y` of the beam's frame."""
        return SOURCE_DETECTOR_MM / (self.source_y_mm - y)

    def into_beam(self, posed: Posed) -> Posed:
        """The posed knee in the beam's frame, whose y runs towards the source."""
        if not self.lateral:
            return posed
        femur, tibia, patella = (bone.then(_QUARTER_TURN) for bone in (posed.femur, posed.tibia, posed.patella))
        return replace(posed, femur=femur, tibia=tibia, patella=patella)

    def slab(self, y: np.ndarray, lattice_mm: float) -> Slab:
        """Planes of a right knee in the beam's frame, seen from the source through the pixels of `knee_shape`."""
        rows, columns = self.shape
        shrink = (self.source_y_mm - y) / SOURCE_DETECTOR_MM
        first_u = -(columns - 1) / 2 * self.spacing_mm
        first_v = self.centre_z_mm + (rows - 1) / 2 * self.spacing_mm
        return Slab(
            y,
            (-shrink * first_u - self.separation_mm, -shrink * self.spacing_mm),
            (self.source_z_mm + shrink * (first_v - self.source_z_mm), -shrink * self.spacing_mm),
            height=rows,
            width=self.knee_shape[1],
            factor=max(round(lattice_mm / self.spacing_mm), 1),
        )


def film_geometry(person: Person, spacing_mm: float, clutter: Clutter | None = None) -> FilmGeometry:
    """How this person stands at the detector; `clutter` says which knees are on the film, and from where."""
    rng = stream(person.seed, person.index, "film_pose_R").spawn(1)[0]
    apart, height = np.clip(rng.normal(size=2), -2, 2)
    girth = max(knee.scale * knee.girth for knee in person.knees.values())
    centre_z = float(-11 + 9 * height)
    sides = SIDES if clutter is None else clutter.sides
    knees = [person.knees[side] for side in sides]
    tilt = sum(knee.film_pose.tibia_tilt - knee.plateau_slope for knee in knees) / len(knees) - CAUDAL_DEG
    caudal = CAUDAL_DEG + float(np.clip(tilt, -_MOST_DEG, _MOST_DEG))
    if clutter is None or len(clutter.sides) == 2:
        return FilmGeometry(spacing_mm, float(92 + 8 * (girth - 1) / 0.1 + 4 * apart), centre_z, caudal)
    if clutter.view == "LL":
        return FilmGeometry(spacing_mm, 0.0, centre_z + 11, 0.0, clutter.sides, lateral=True)
    return FilmGeometry(spacing_mm, float(4 * apart), centre_z, caudal, clutter.sides)


def film_pixels(
    person: Person, points: np.ndarray, side: str, *, spacing_mm: float, clutter: Clutter | None = None
) -> np.ndarray:
    """Where points of a standing knee are in the film as it is written: projected, then turned and cut with it.

    Args:
        person: whose knee.
        points: (..., 3), scan frame of that knee, mm.
        side: `R` or `L`; one of `clutter.sides`.
        spacing_mm: detector pixel.
        clutter: what the film was made with.

    Returns:
        (..., 2) row and column, in pixels; outside the film where it was cut off.

    Raises:
        ValueError: when that knee is not on the film.
    """
    geometry = film_geometry(person, spacing_mm, clutter)
    projected = geometry.project(points, side)
    return projected if clutter is None else clutter.move(projected, shape=geometry.shape, spacing_mm=spacing_mm)
