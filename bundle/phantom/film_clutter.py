"""What else is on a film: borders, markers, beads, labels, turned and cut films, implants, other views; drawn here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bundle.geometry import SIDES
from bundle.phantom.streams import stream

_CHANCES = ("view", "turn", "cut", "border", "marks", "beads", "label", "implant")
VIEWS = ("PA", "LL")
"""DICOM's ViewPosition: from behind, or from the side."""


@dataclass(frozen=True)
class Clutter:
    """What a film shows besides two knees on a full field; the default shows nothing more.

    Args:
        sides: knees on the film, in the order of its columns; a film of one knee is half as wide.
        view: `PA`, or `LL` (from medial to lateral, of one knee).
        turn_deg: by which the picture is turned, counter-clockwise.
        cut_mm: taken off the top, bottom, left and right of the film.
        collimation_mm: unexposed border along top, bottom, left and right; 0 is none.
        collimation_deg: by which the border is turned.
        shutter: the border is blackened, as processing does, instead of white.
        markers: side letters: side, distance of its middle from the top and from the outer edge in mm, turn in degrees.
        beads_mm: bead column of the positioning frame: distance from the midline (lateral of the right knee is
            positive), height of the lowest bead; None is no column.
        label: corner of the burnt-in text, `top left` to `bottom right`; empty is none.
        implant: side of a knee replacement; empty is none.
    """

    sides: tuple[str, ...] = SIDES
    view: str = "PA"
    turn_deg: float = 0.0
    cut_mm: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    collimation_mm: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    collimation_deg: float = 0.0
    shutter: bool = False
    markers: tuple[tuple[str, float, float, float], ...] = ()
    beads_mm: tuple[float, float] | None = None
    label: str = ""
    implant: str = ""

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"`view` must be one of {', '.join(VIEWS)}, got {self.view!r}.")
        if self.sides not in (SIDES, *((side,) for side in SIDES)):
            raise ValueError(f"`sides` must be {SIDES}, ('R',) or ('L',), got {self.sides!r}.")
        if self.view == "LL" and len(self.sides) != 1:
            raise ValueError("`sides` must name one knee where `view` is LL; a lateral film shows one.")

    @property
    def margin_mm(self) -> float:
        """How far beyond the detector a turned picture reaches."""
        return 290.0 * math.sin(math.radians(abs(self.turn_deg)))

    def cut_px(self, spacing_mm: float) -> tuple[int, int, int, int]:
        """`cut_mm` in whole pixels."""
        top, bottom, left, right = (round(length / spacing_mm) for length in self.cut_mm)
        return top, bottom, left, right

    def move(self, points_px: np.ndarray, *, shape: tuple[int, int], spacing_mm: float) -> np.ndarray:
        """Where points of the uncut film are after turning and cutting it.

        Args:
            points_px: (..., 2) row and column.
            shape: rows and columns of the uncut film, `FilmGeometry.shape`.
            spacing_mm: detector pixel.

        Returns:
            (..., 2) row and column; outside the film where it was cut off.
        """
        middle = (np.array(shape) - 1) / 2
        top, _, left, _ = self.cut_px(spacing_mm)
        return (np.asarray(points_px, dtype=float) - middle) @ turn(self.turn_deg).T + middle - (top, left)


def turn(degrees: float) -> np.ndarray:
    """Counter-clockwise turn of a picture, on (row, column)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def draw_clutter(seed: int, index: int, share: float) -> Clutter | None:
    """Draw what is on participant `index`'s film besides the knees.

    Args:
        seed: of the cohort, from 0.
        index: participant, from 0.
        share: part of the films with clutter, 0 to 1. A film that has clutter at one share has the same at any larger.

    Returns:
        the clutter; None for the films without any.

    Raises:
        ValueError: when `share` is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"`share` must be from 0 to 1, got {share}.")
    rng = stream(seed, index, "film_clutter")
    if rng.random() >= share:
        return None
    # Everything is drawn, then gated, so that one chance never shifts another draw.
    chance = dict(zip(_CHANCES, rng.random(len(_CHANCES)), strict=True))
    one = SIDES[int(rng.integers(2))]
    lateral = chance["view"] < 0.06
    sides = (one,) if chance["view"] < 0.16 else SIDES
    turned, border_turn = rng.uniform(2, 8) * rng.choice([-1, 1]), float(np.clip(rng.normal(0, 0.8), -2, 2))
    cut, edge, border = rng.integers(4), rng.uniform(25, 130), rng.uniform(4, 34, size=4)
    shutter = bool(rng.random() < 0.4)
    heights, insets, tilts = rng.uniform(60, 240, size=2), rng.uniform(22, 40, size=2), rng.normal(0, 4, size=2)
    across, lowest = rng.normal(0, 6), rng.uniform(-70, -20)
    corner = ("top left", "top right", "bottom left", "bottom right")[int(rng.integers(4))]
    side_of_implant = SIDES[int(rng.integers(2))]
    both_marked = rng.random() < 0.6
    marked = sides if both_marked else sides[:1]
    # A cut from the side that leaves no knee would be another film; a third of the width leaves the joint's middle.
    deepest = (110.0, 130.0, 70.0, 70.0)[cut]
    return Clutter(
        sides=sides,
        view="LL" if lateral else "PA",
        turn_deg=float(turned) if chance["turn"] < 0.3 else 0.0,
        cut_mm=tuple(float(min(edge, deepest)) if chance["cut"] < 0.2 and k == cut else 0.0 for k in range(4)),  # type: ignore[arg-type]
        collimation_mm=tuple(float(b) for b in border) if chance["border"] < 0.6 else (0.0,) * 4,  # type: ignore[arg-type]
        collimation_deg=border_turn,
        shutter=shutter,
        markers=tuple(
            (side, float(heights[k]), float(insets[k]), float(tilts[k]))
            for k, side in enumerate(marked)
            if chance["marks"] < 0.8
        ),
        beads_mm=(float(across), float(lowest)) if chance["beads"] < 0.6 and sides == SIDES else None,
        label=corner if chance["label"] < 0.5 else "",
        implant=(side_of_implant if side_of_implant in sides else "") if chance["implant"] < 0.12 else "",
    )
