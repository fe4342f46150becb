"""Tendons, ligaments, vessels and nerves of a posed knee: rods and bands between points of its bones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bundle.phantom.lattice import Points, box_round
from bundle.phantom.pose import Posed
from bundle.phantom.sdf import FAR, capsule
from bundle.phantom.soft import Limb, Structure

ROUND = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class _Path:
    """Points as (bone, x, y, z), template mm; radius at the first and last; factors on thickness along x, y, z."""

    tissue: str
    points: tuple[tuple[str, float, float, float], ...]
    radius: tuple[float, float]
    spread: tuple[float, float, float] = ROUND


_LIGAMENTS: dict[str, _Path] = {
    "quadriceps tendon": _Path("tendon", (("F", 2, -43, 100), ("P", 0, -4, 16)), (2.4, 2.6), (5.5, 1, 1)),
    "patellar tendon": _Path("tendon", (("P", 0, -4, -16), ("T", 3, -28, -34)), (2.1, 2.1), (5.5, 1, 1)),
    "prepatellar fascia": _Path("tendon", (("P", 0, -11.5, 14), ("P", 0, -11.5, -14)), (1.0, 1.0), (12, 1, 1)),
    "medial collateral ligament": _Path(
        "tendon", (("F", -38.5, 4, 27), ("T", -36.5, 1, -4), ("T", -26, -3, -50)), (1.1, 1.0), (1, 5, 1)
    ),
    "lateral collateral ligament": _Path("tendon", (("F", 38.5, 5, 25), ("T", 34.5, 14.5, -12)), (1.9, 1.9)),
    "iliotibial band": _Path(
        "tendon", (("F", 45, -6, 100), ("F", 41.5, -8, 20), ("T", 31, -15, -12)), (0.9, 1.2), (1, 6, 1)
    ),
    "biceps tendon": _Path("tendon", (("F", 35, 25, 34), ("F", 36, 22, 8), ("T", 33.5, 15, -14)), (1.2, 2.8)),
    "semimembranosus tendon": _Path("tendon", (("F", -26, 33, 26), ("F", -27, 30, 8), ("T", -26, 22, -13)), (1.4, 2.9)),
    "semitendinosus tendon": _Path(
        "tendon",
        (("F", -18, 51, 62), ("F", -27, 44, 20), ("T", -31, 32, -14), ("T", -28, 12, -36), ("T", -16, -10, -50)),
        (2.0, 1.6),
    ),
    "gracilis tendon": _Path(
        "tendon", (("F", -38, 28, 22), ("T", -35, 24, -12), ("T", -29, 8, -34), ("T", -16, -11, -46)), (1.8, 1.4)
    ),
    "sartorius tendon": _Path("tendon", (("T", -33, 10, -22), ("T", -28, 0, -38), ("T", -17, -12, -48)), (1.2, 1.0)),
    "adductor tendon": _Path("tendon", (("F", -20, 12, 80), ("F", -35, 6, 36)), (1.6, 1.8)),
    "popliteus tendon": _Path("tendon", (("F", 36, 5, 13), ("F", 33, 20, 6), ("T", 22, 24, -8)), (1.8, 2.0)),
    "gastrocnemius tendon medial": _Path("tendon", (("F", -18, 24, 30), ("T", -20, 40, -6)), (1.4, 0.6)),
    "gastrocnemius tendon lateral": _Path("tendon", (("F", 20, 23, 28), ("T", 21, 38, -6)), (1.4, 0.6)),
    "transverse ligament": _Path("tendon", (("T", -13, -20, 3.5), ("T", 13, -19, 3.5)), (1.2, 1.2)),
    "posterior cruciate ligament": _Path(
        "tendon", (("T", 0, 22, -7), ("T", -1, 17, 4), ("F", -2, 8, 11), ("F", -6, -2, 12)), (3.6, 4.0)
    ),
    "anterior cruciate ligament": _Path("ligament", (("T", -1, -9, 0), ("F", 7, 12, 17)), (3.4, 3.2)),
    "anterior cruciate strand": _Path("tendon", (("T", -1, -9, 1), ("F", 6, 11, 18)), (1.2, 1.0)),
    "tibial nerve": _Path("nerve", (("F", 7, 48, 110), ("F", 6, 44, 20), ("T", 5, 40, -30)), (2.2, 1.8)),
    "peroneal nerve": _Path(
        "nerve", (("F", 12, 46, 90), ("F", 28, 42, 20), ("T", 36, 24, -16), ("T", 38, 12, -32)), (1.6, 1.4)
    ),
}
_VESSELS: dict[str, _Path] = {
    "popliteal vein": _Path(
        "blood",
        (
            ("F", -3, 28, 110),
            ("F", 1, 33, 75),
            ("F", 4, 38, 42),
            ("F", 3, 38, 12),
            ("T", 1, 34, -14),
            ("T", 0, 31, -44),
            ("T", -2, 26, -120),
        ),
        (3.1, 2.4),
    ),
    "popliteal artery": _Path(
        "artery",
        (
            ("F", -12, 20, 110),
            ("F", -7, 25, 78),
            ("F", -2, 30, 46),
            ("F", 0, 31.5, 18),
            ("T", -1, 29, -8),
            ("T", 1, 27, -32),
            ("T", 4, 24, -54),
            ("T", 1, 22, -120),
        ),
        (2.7, 1.9),
    ),
    "anterior tibial artery": _Path(
        "artery", (("T", 4, 24, -54), ("T", 15, 13, -62), ("T", 17, 2, -80), ("T", 17, -2, -120)), (1.2, 1.0)
    ),
    "superior genicular medial": _Path("blood", (("F", -2, 30, 46), ("F", -22, 23, 41), ("F", -35, 6, 40)), (1.0, 0.7)),
    "superior genicular lateral": _Path("blood", (("F", 0, 31, 44), ("F", 25, 18, 42), ("F", 38, 0, 42)), (1.0, 0.7)),
    "inferior genicular lateral": _Path("blood", (("T", 0, 29, -2), ("T", 24, 24, 0), ("T", 35, 8, 2)), (0.9, 0.6)),
    "inferior genicular medial": _Path(
        "blood", (("T", 0, 28, -20), ("T", -26, 18, -22), ("T", -33, -4, -26)), (0.9, 0.6)
    ),
    "sural vein medial": _Path("blood", (("F", 3, 39, 14), ("T", -12, 42, -14), ("T", -19, 43, -70)), (0.9, 0.7)),
    "sural vein lateral": _Path("blood", (("F", 4, 39, 16), ("T", 16, 42, -18), ("T", 22, 42, -70)), (0.9, 0.7)),
}


def cords(posed: Posed, limb: Limb) -> Iterator[Structure]:
    """Tendons, ligaments, nerves and vessels, in the order in which they cover each other."""
    s = posed.knee.scale
    bones = {"F": posed.femur, "T": posed.tibia, "P": posed.patella}
    dx, dy = posed.knee.vessel_shift
    for group, shift in ((_VESSELS, np.array([dx, dy, 0.0])), (_LIGAMENTS, np.zeros(3))):
        for name, path in group.items():
            points = [bones[bone].apply(s * np.array(at) + shift) for bone, *at in path.points]
            if group is _VESSELS:
                points = _curve(points)
            yield _cord(name, path.tissue, points, (path.radius[0] * s, path.radius[1] * s), path.spread)
    yield from _superficial_veins(posed, limb)


def _curve(points: list[np.ndarray]) -> list[np.ndarray]:
    """A smooth course through points, three times as finely divided: a Catmull-Rom spline."""
    held = [2 * points[0] - points[1], *points, 2 * points[-1] - points[-2]]
    course = [points[0]]
    for before, start, end, after in zip(held, held[1:], held[2:], held[3:], strict=False):
        for t in (1 / 3, 2 / 3, 1.0):
            bend = (2 * before - 5 * start + 4 * end - after) * t**2 + (3 * start - before - 3 * end + after) * t**3
            course.append(start + 0.5 * ((end - before) * t + bend))
    return course


def _superficial_veins(posed: Posed, limb: Limb) -> Iterator[Structure]:
    """Veins in the fat under the skin: they follow the limb, however thin it is."""
    courses = {
        "great saphenous vein": (
            1.6,
            (("thigh", 110, 150), ("thigh", 30, 152), ("thigh", 4, 155), ("calf", -30, 160), ("calf", -110, 172)),
        ),
        "small saphenous vein": (1.3, (("calf", -22, 84), ("calf", -60, 82), ("calf", -110, 84))),
        "anterior accessory vein": (1.0, (("thigh", 110, 215), ("thigh", 60, 196), ("thigh", 30, 176))),
    }
    for name, (radius, course) in courses.items():
        places = [limb.subcutaneous(part, z * posed.knee.scale, angle, 0.4) for part, z, angle in course]
        held = min(radius * posed.knee.scale, 0.3 * min(room for _, room in places))
        yield _cord(name, "blood", [place for place, _ in places], (held, held), ROUND)


def _cord(
    name: str, tissue: str, points: list[np.ndarray], radius: tuple[float, float], spread: tuple[float, float, float]
) -> Structure:
    along = np.cumsum([0.0] + [float(np.linalg.norm(b - a)) for a, b in pairwise(points)])
    radii = np.interp(along, along[[0, -1]], radius)
    reach = max(radius) * max(spread) + 3.0
    rods = list(zip(pairwise(points), pairwise(radii), strict=True))
    boxes = [box_round(list(ends), reach) for ends, _ in rods]

    def distance(p: Points) -> Tensor:
        first, last = float(p[1].min()), float(p[1].max())
        near = [
            capsule(*p, tuple(a), tuple(b), (float(ends[0]), float(ends[1])), spread)
            for ((a, b), ends), box in zip(rods, boxes, strict=True)
            if box.y[0] <= last and box.y[1] >= first
        ]
        return reduce(torch.minimum, near, torch.tensor(FAR))

    return Structure(name, tissue, None, distance, boxes)
