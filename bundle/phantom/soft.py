"""The flesh of the limb: its outline, the fascia under the fat, and the muscles of a posed knee.

What belongs to the thigh follows the femur, what belongs to the calf the tibia, so that bending the knee bends the
limb. Sizes are a woman's, in mm; `knee.scale`, `muscle`, `fat` and `girth` vary them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bundle.phantom.lattice import Box, Points, box_round
from bundle.phantom.pose import Posed, Rigid
from bundle.phantom.sdf import Tube, ellipsoid, smooth_union, smoothstep, tube

_Outline = tuple[float, float, float, float, float, float, float, float]

_THIGH: list[_Outline] = [
    (-30, 0, 7, 43, 47, 0.62, 0.45, 0.30),
    (0, 0, 4.5, 45, 51, 0.66, 0.45, 0.30),
    (25, 0, 3, 46.5, 53, 0.70, 0.50, 0.30),
    (50, 0, 3, 49, 52.5, 0.80, 0.62, 0.22),
    (90, 2, 4, 56, 54.5, 1.0, 0.85, 0.12),
    (180, 6, 4, 68, 64, 1.25, 1.1, 0.0),
]
_CALF: list[_Outline] = [
    (25, 0, 4, 45, 51, 0.66, 0.45, 0.30),
    (0, 0, 6, 44, 48.5, 0.66, 0.45, 0.30),
    (-20, 0.5, 8, 42.5, 46, 0.66, 0.45, 0.28),
    (-50, 2, 9.5, 42.5, 44.5, 0.65, 0.50, 0.20),
    (-90, 4, 11, 45, 46.5, 0.65, 0.55, 0.12),
    (-180, 4, 9, 38, 40, 0.6, 0.5, 0.0),
]
"""z, centre x, y, half-widths x, y of the fascia, share of `fat` over it at the sides and front to back, squareness."""

_Knots = list[tuple[float, float, float, float, float]]

_THIGH_MUSCLES: dict[str, _Knots] = {
    "vastus medialis": [
        (-6, -34, -20, 3, 6),
        (24, -34, -18, 11, 14),
        (45, -33, -16, 17, 21),
        (75, -30, -17, 22, 24),
        (190, -26, -14, 28, 30),
    ],
    "vastus lateralis": [
        (16, 32, -18, 3, 5),
        (48, 34, -14, 12, 17),
        (75, 33, -14, 20, 23),
        (120, 32, -12, 24, 30),
        (190, 34, -12, 26, 32),
    ],
    "vastus intermedius": [(48, 2, -27, 5, 3), (72, 3, -27, 18, 6), (100, 5, -26, 23, 10), (190, 8, -22, 26, 14)],
    "rectus femoris": [(72, 1, -41, 8, 3), (110, 3, -40, 24, 10), (190, 5, -36, 28, 17)],
    "sartorius": [
        (-40, -30, 6, 3, 6),
        (-10, -40, 13, 4.5, 10),
        (25, -43, 17, 6, 13),
        (60, -45, 18, 8, 14),
        (190, -46, 12, 9, 16),
    ],
    "gracilis": [(2, -38, 27, 3, 5), (50, -41, 31, 6, 9), (90, -42, 32, 8, 12), (190, -44, 26, 9, 12)],
    "biceps femoris": [
        (-10, 35, 20, 4, 6),
        (22, 35, 26, 8, 12),
        (45, 32, 29, 15, 17),
        (90, 27, 31, 22, 22),
        (190, 22, 36, 26, 24),
    ],
    "semimembranosus": [
        (-12, -27, 28, 5, 5),
        (20, -26, 34, 13, 10),
        (45, -23, 36, 19, 15),
        (90, -17, 37, 24, 19),
        (190, -14, 34, 24, 20),
    ],
    "semitendinosus": [(36, -20, 50, 4, 4), (75, -14, 51, 13, 8), (120, -7, 53, 17, 11), (190, -4, 56, 19, 12)],
    "adductor magnus": [(52, -14, 12, 5, 6), (110, -12, 14, 16, 14), (190, -10, 16, 22, 18)],
}
_CALF_MUSCLES: dict[str, _Knots] = {
    "gastrocnemius medial": [
        (40, -19, 27, 6, 5),
        (14, -20, 36, 12, 9),
        (-10, -21, 41, 18, 13),
        (-45, -21, 42, 24, 17),
        (-90, -19, 42, 25, 18),
        (-190, -12, 34, 20, 14),
    ],
    "gastrocnemius lateral": [
        (38, 20, 26, 6, 5),
        (12, 20, 35, 11, 8),
        (-10, 21, 40, 17, 12),
        (-45, 22, 41, 22, 16),
        (-90, 23, 42, 22, 16),
        (-190, 16, 32, 17, 12),
    ],
    "soleus": [(-18, 19, 26, 6, 5), (-45, 14, 29, 19, 8), (-80, 6, 28, 33, 12), (-190, 0, 24, 34, 15)],
    "popliteus": [(4, 18, 23, 7, 5), (-22, 4, 22, 18, 7), (-45, -8, 19, 17, 7), (-78, -14, 14, 6, 4)],
    "tibialis anterior": [
        (-12, 23, -14, 5, 5),
        (-45, 23, -13, 13, 13),
        (-90, 20, -14, 14, 17),
        (-190, 16, -12, 13, 14),
    ],
    "extensor digitorum": [(-16, 31, -6, 4, 5), (-50, 33, -5, 9, 13), (-90, 31, -6, 10, 14), (-190, 28, -6, 11, 14)],
    "peroneals": [(-18, 37, 8, 5, 6), (-60, 39, 8, 8, 12), (-110, 38, 8, 10, 15), (-190, 35, 8, 10, 14)],
    "tibialis posterior": [(-32, 13, 10, 5, 5), (-75, 13, 9, 13, 11), (-190, 10, 8, 15, 10)],
}


@dataclass(frozen=True)
class Structure:
    """A soft structure: its name, tissue, the frame of its bone (None: the scan's), distance, and boxes round it."""

    name: str
    tissue: str
    frame: Rigid | None
    distance: Callable[[Points], Tensor]
    boxes: Sequence[Box]


class Limb:
    """The outline of the posed limb and the fascia under its fat."""

    def __init__(self, posed: Posed) -> None:
        knee = posed.knee
        grow = knee.scale * (0.35 + 0.65 * knee.muscle) * knee.girth
        self._posed = posed
        self._fascia, self._skin = [], []
        self._rows = []
        for rows in (_THIGH, _CALF):
            inner = [
                (z * knee.scale, x, y * knee.scale, a * grow, b * grow, square) for z, x, y, a, b, _, _, square in rows
            ]
            # The fat is thickest on the inner side and in the hollow of the knee.
            outer = [
                (z, x - 0.12 * knee.fat, y + 0.06 * knee.fat, a + knee.fat * side, b + knee.fat * front, square)
                for (z, x, y, a, b, square), (*_, side, front, _) in zip(inner, rows, strict=True)
            ]
            self._fascia.append(tube(tuple(inner)))
            self._skin.append(tube(tuple(outer)))
            self._rows.append((np.array(sorted(inner)), np.array(sorted(outer))))

    def _limb(self, tubes: list[Tube], thigh: Points, calf: Points) -> Tensor:
        # A blend, not a union: where the two tubes coincide a union's fillet would bulge. Far from the knee only one
        # of them is measured.
        share = smoothstep(calf[2], -22.0, 22.0)
        highest, lowest = share.amax(dim=(0, 2)), share.amin(dim=(0, 2))
        distance = torch.empty(torch.broadcast_shapes(*(axis.shape for axis in (*thigh, *calf))))
        parts = {"thigh": lowest >= 1, "calf": highest <= 0}
        parts["both"] = ~(parts["thigh"] | parts["calf"])
        for part, held in parts.items():
            rows = torch.nonzero(held).flatten()
            if not len(rows):
                continue
            at = slice(int(rows[0]), int(rows[-1]) + 1)
            above, below = ([axis[:, at] if axis.shape[1] > 1 else axis for axis in p] for p in (thigh, calf))
            if part == "both":
                distance[:, at] = tubes[1](*below) * (1 - share[:, at]) + tubes[0](*above) * share[:, at]
            else:
                distance[:, at] = tubes[0](*above) if part == "thigh" else tubes[1](*below)
        return distance

    def distances(self, thigh: Points, calf: Points, kneecap: Points) -> tuple[Tensor, Tensor]:
        """Distance to skin and to fascia, for the same points in the femur's, tibia's and patella's frames.

        The second axis of the points is that of a slab's rows, so z rises or falls along it.
        """
        s = self._posed.knee.scale
        over = ellipsoid(*kneecap, (0.0, 4.0, -2.0), (26 * s, 22 * s, 30 * s))
        skin = smooth_union(self._limb(self._skin, thigh, calf), over - 3.5, 10.0)
        fascia = smooth_union(self._limb(self._fascia, thigh, calf), over + 1.5, 8.0)
        return skin, torch.maximum(fascia, skin + 2.5)

    def subcutaneous(self, part: str, z: float, angle_deg: float, depth: float) -> tuple[np.ndarray, float]:
        """A point in the fat between fascia and skin.

        Args:
            part: `thigh` or `calf`.
            z: height in the frame of that part's bone, mm.
            angle_deg: from lateral (0) through posterior (90) to medial (180).
            depth: 0 on the fascia, 1 on the skin.

        Returns:
            the point in the scan frame, (3,), mm, and the thickness of the fat there, mm.
        """
        bone = {"thigh": self._posed.femur, "calf": self._posed.tibia}[part]
        c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        ends = []
        for rows in self._rows[0 if part == "thigh" else 1]:
            cx, cy, a, b, square = (np.interp(z, rows[:, 0], column) for column in rows.T[1:])
            corner = square * c * c * s * s
            reach = math.sqrt((1 - math.sqrt(1 - 4 * corner)) / (2 * corner)) if corner > 1e-6 else 1.0
            ends.append(np.array([cx + reach * a * c, cy + reach * b * s, z]))
        inner, outer = ends
        return bone.apply(inner + depth * (outer - inner)), float(np.linalg.norm(outer - inner))


def muscles(posed: Posed) -> Iterator[Structure]:
    """Muscles, each tapering to its tendon."""
    knee = posed.knee
    s, m = knee.scale, knee.muscle * knee.scale * knee.girth
    for frame, group in ((posed.femur, _THIGH_MUSCLES), (posed.tibia, _CALF_MUSCLES)):
        for name, rows in group.items():
            knots = [(z * s, x * s, y * s, a * m, b * m) for z, x, y, a, b in rows]
            belly = tube(tuple(knots), closed=True)
            rims = [
                [frame.apply(np.array([x + i * a, y + j * b, z])) for i in (-1, 1) for j in (-1, 1)]
                for z, x, y, a, b in knots
            ]

            def distance(p: Points, belly: Tube = belly) -> Tensor:
                return belly(*p)

            boxes = [box_round([*one, *other], 3.0) for one, other in pairwise(rims)]
            yield Structure(name, "muscle", frame, distance, boxes)
