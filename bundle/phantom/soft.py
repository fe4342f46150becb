"""The soft parts of the limb: outline, fascia, muscles, tendons, ligaments and vessels of a posed knee.

What belongs to the thigh follows the femur, what belongs to the calf the tibia, so that bending the knee bends the
limb. Sizes are a woman's, in mm; `knee.scale`, `muscle`, `fat` and `girth` vary them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bundle.phantom.lattice import Box, Points
from bundle.phantom.pose import Posed, Rigid
from bundle.phantom.sdf import Tube, capsule, ellipsoid, smooth_union, smoothstep, tube

_THIGH = [
    (-30, 0, 3, 43, 46, 0.62, 0.45),
    (0, 0, 1, 45, 49, 0.66, 0.42),
    (25, 0, 0, 46.5, 51, 0.70, 0.42),
    (50, 0, 2, 49, 51, 0.80, 0.60),
    (90, 2, 4, 56, 55, 1.0, 0.85),
    (180, 6, 4, 68, 64, 1.25, 1.1),
]
_CALF = [
    (25, 0, 1, 45, 49, 0.66, 0.42),
    (0, 0, 3, 44, 46.5, 0.66, 0.45),
    (-20, 0, 6, 42, 43, 0.66, 0.45),
    (-50, 1, 9, 42.5, 43, 0.65, 0.50),
    (-90, 2, 10, 46, 47, 0.65, 0.55),
    (-180, 2, 8, 38, 40, 0.6, 0.5),
]
"""z, centre x, y, half-widths x, y of the fascia, and the share of `fat` over it at the sides and front to back."""

_THIGH_MUSCLES: dict[str, list[tuple[float, float, float, float, float]]] = {
    "vastus medialis": [
        (10, -31, -20, 2, 3),
        (24, -34, -17, 8, 11),
        (45, -33, -17, 14, 17),
        (75, -30, -16, 19, 22),
        (190, -26, -14, 24, 26),
    ],
    "vastus lateralis": [
        (30, 30, -16, 2, 3),
        (48, 32, -15, 9, 13),
        (75, 32, -13, 15, 21),
        (120, 32, -12, 20, 27),
        (190, 34, -12, 23, 30),
    ],
    "rectus femoris": [(46, 0, -36, 3, 2), (70, 1, -38, 15, 6), (110, 3, -38, 24, 12), (190, 5, -36, 27, 16)],
    "sartorius": [(-40, -36, 12, 2, 5), (-10, -42, 14, 4, 9), (40, -42, 18, 6, 12), (190, -46, 12, 8, 14)],
    "gracilis": [(0, -38, 26, 2, 3), (50, -38, 29, 5, 8), (190, -44, 26, 8, 11)],
    "biceps femoris": [
        (-12, 35, 19, 2, 3),
        (12, 35, 25, 7, 8),
        (45, 30, 31, 13, 13),
        (90, 25, 34, 18, 16),
        (190, 22, 38, 22, 20),
    ],
    "semimembranosus": [
        (-8, -27, 27, 4, 3),
        (12, -26, 34, 11, 8),
        (40, -23, 36, 17, 13),
        (90, -19, 37, 20, 16),
        (190, -16, 34, 20, 18),
    ],
    "semitendinosus": [(35, -21, 50, 2, 2), (70, -15, 51, 9, 6), (120, -9, 53, 14, 9), (190, -6, 56, 17, 11)],
}
_CALF_MUSCLES: dict[str, list[tuple[float, float, float, float, float]]] = {
    "gastrocnemius medial": [
        (32, -19, 29, 4, 3),
        (14, -20, 37, 11, 8),
        (-10, -21, 43, 16, 11),
        (-45, -22, 43, 21, 15),
        (-90, -22, 40, 24, 18),
        (-190, -14, 34, 18, 12),
    ],
    "gastrocnemius lateral": [
        (30, 20, 28, 4, 3),
        (12, 20, 35, 10, 8),
        (-10, 20, 41, 14, 10),
        (-45, 21, 42, 18, 13),
        (-90, 22, 38, 20, 16),
        (-190, 14, 32, 16, 10),
    ],
    "soleus": [(-26, 16, 27, 4, 3), (-45, 10, 29, 18, 7), (-80, 4, 28, 31, 12), (-190, 0, 24, 34, 15)],
    "popliteus": [(-6, 16, 22, 5, 3), (-22, 4, 22, 17, 6), (-45, -8, 19, 15, 6), (-75, -14, 14, 5, 3)],
    "tibialis anterior": [
        (-24, 24, -10, 3, 3),
        (-45, 25, -10, 10, 10),
        (-90, 24, -10, 14, 15),
        (-190, 18, -12, 12, 12),
    ],
    "peroneals": [(-30, 38, 8, 3, 4), (-60, 39, 6, 7, 11), (-110, 36, 5, 9, 15), (-190, 34, 6, 8, 13)],
    "tibialis posterior": [(-50, 12, 10, 3, 3), (-80, 12, 10, 11, 8), (-190, 10, 8, 14, 9)],
}


@dataclass(frozen=True)
class Structure:
    """A soft structure: its name, tissue, the frame of its bone (None: the scan's), distance and bounding box."""

    name: str
    tissue: str
    frame: Rigid | None
    distance: Callable[[Points], Tensor]
    box: Box


class Limb:
    """The outline of the posed limb and the fascia under its fat."""

    def __init__(self, posed: Posed) -> None:
        knee = posed.knee
        grow = knee.scale * (0.35 + 0.65 * knee.muscle) * knee.girth
        self._posed = posed
        self._fascia, self._skin = [], []
        for rows in (_THIGH, _CALF):
            inner = [(z * knee.scale, x, y * knee.scale, a * grow, b * grow) for z, x, y, a, b, _, _ in rows]
            outer = [
                (z, x, y, a + knee.fat * side, b + knee.fat * front)
                for (z, x, y, a, b), (*_, side, front) in zip(inner, rows, strict=True)
            ]
            self._fascia.append(tube(tuple(inner)))
            self._skin.append(tube(tuple(outer)))

    def _limb(self, tubes: list[Tube], thigh: Points, calf: Points) -> Tensor:
        # A blend, not a union: where the two tubes coincide a union's fillet would bulge.
        share = smoothstep(calf[2], -22.0, 22.0)
        return tubes[1](*calf) * (1 - share) + tubes[0](*thigh) * share

    def distances(self, thigh: Points, calf: Points, kneecap: Points) -> tuple[Tensor, Tensor]:
        """Distance to skin and to fascia, for the same points in the femur's, tibia's and patella's frames."""
        s = self._posed.knee.scale
        over = ellipsoid(*kneecap, (0.0, 4.0, -2.0), (26 * s, 22 * s, 30 * s))
        skin = smooth_union(self._limb(self._skin, thigh, calf), over - 3.5, 10.0)
        fascia = smooth_union(self._limb(self._fascia, thigh, calf), over + 1.5, 8.0)
        return skin, torch.maximum(fascia, skin + 2.5)


def _scan_box(points: list[np.ndarray], margin: float) -> Box:
    low, high = np.min(points, axis=0) - margin, np.max(points, axis=0) + margin
    return Box(*((float(a), float(b)) for a, b in zip(low, high, strict=True)))


def muscles(posed: Posed) -> Iterator[Structure]:
    """Muscles, each tapering to its tendon."""
    knee = posed.knee
    s, m = knee.scale, knee.muscle * knee.scale * knee.girth
    for frame, group in ((posed.femur, _THIGH_MUSCLES), (posed.tibia, _CALF_MUSCLES)):
        for name, rows in group.items():
            knots = [(z * s, x * s, y * s, a * m, b * m) for z, x, y, a, b in rows]
            belly = tube(tuple(knots), closed=True)
            ends = [
                frame.apply(np.array([x + i * a, y + j * b, z]))
                for z, x, y, a, b in knots
                for i in (-1, 1)
                for j in (-1, 1)
            ]

            def distance(p: Points, belly: Tube = belly) -> Tensor:
                return belly(*p)

            yield Structure(name, "muscle", frame, distance, _scan_box(ends, 4.0))


def cords(posed: Posed) -> Iterator[Structure]:
    """Tendons, ligaments and vessels: rods and bands between points of the posed bones."""
    s = posed.knee.scale

    def femur(*p: float) -> np.ndarray:
        return posed.femur.apply(s * np.array(p))

    def tibia(*p: float) -> np.ndarray:
        return posed.tibia.apply(s * np.array(p))

    def patella(*p: float) -> np.ndarray:
        return posed.patella.apply(s * np.array(p))

    dx, dy = posed.knee.vessel_shift
    bands: list[tuple[str, str, list[np.ndarray], float, float]] = [
        (
            "popliteal vein",
            "blood",
            [
                femur(dx - 1, 44 + dy, 110),
                femur(dx + 3, 37 + dy, 30),
                tibia(dx + 3, 34 + dy, -15),
                tibia(dx + 5, 27 + dy, -120),
            ],
            3.6,
            1.0,
        ),
        (
            "popliteal artery",
            "artery",
            [
                femur(dx - 7, 32 + dy, 110),
                femur(dx - 2, 31 + dy, 30),
                tibia(dx - 2, 28.5 + dy, -15),
                tibia(dx + 1, 25 + dy, -120),
            ],
            2.9,
            1.0,
        ),
        (
            "tibial nerve",
            "ligament",
            [femur(dx + 9, 50 + dy, 110), femur(dx + 6, 45 + dy, 20), tibia(dx + 5, 40 + dy, -30)],
            2.2,
            1.0,
        ),
        ("great saphenous vein", "blood", [femur(-52, 20, 110), femur(-50, 20, 10), tibia(-47, 14, -110)], 1.6, 1.0),
        ("quadriceps tendon", "ligament", [femur(2, -42, 95), patella(0, -5, 17)], 2.2, 5.0),
        ("patellar tendon", "ligament", [patella(0, -3, -17), tibia(3, -27, -36)], 2.0, 5.5),
        (
            "medial collateral ligament",
            "ligament",
            [femur(-38.5, 4, 27), tibia(-36, 1, -4), tibia(-25, -2, -50)],
            1.5,
            1.0,
        ),
        ("lateral collateral ligament", "ligament", [femur(38, 5, 25), tibia(34.5, 14.5, -12)], 1.9, 1.0),
        ("iliotibial band", "ligament", [femur(43, -4, 90), femur(41, -6, 20), tibia(31, -14, -10)], 1.6, 1.0),
        ("biceps tendon", "ligament", [femur(35, 23, 15), tibia(34, 15, -14)], 2.4, 1.0),
        ("semimembranosus tendon", "ligament", [femur(-27, 30, 8), tibia(-24, 22, -12)], 2.6, 1.0),
        (
            "posterior cruciate ligament",
            "ligament",
            [tibia(0, 21, -6), tibia(-1, 14, 5), femur(-5.5, -1, 13)],
            3.8,
            1.0,
        ),
        ("anterior cruciate ligament", "ligament", [tibia(-1, -8, 1), femur(7, 11, 17)], 3.2, 1.0),
    ]
    for name, tissue, path, radius, flat in bands:

        def distance(
            p: Points, path: list[np.ndarray] = path, radius: float = radius * s, flat: float = flat
        ) -> Tensor:
            parts = [capsule(*p, tuple(a), tuple(b), radius, flat) for a, b in pairwise(path)]
            nearest = parts[0]
            for part in parts[1:]:
                nearest = torch.minimum(nearest, part)
            return nearest

        yield Structure(name, tissue, None, distance, _scan_box(path, radius * flat * s + 4.0))
