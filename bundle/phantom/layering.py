"""Layers of tissue, and the windows of a slab in which each bone is measured once for all that touches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bundle.phantom import bones
from bundle.phantom.lattice import Box, Points, Window, box_round
from bundle.phantom.pose import Posed, Rigid
from bundle.phantom.sdf import FAR

LABELS = {
    "femur": 1,
    "tibia": 2,
    "fibula": 3,
    "patella": 4,
    "femoral_cartilage": 5,
    "tibial_cartilage_medial": 6,
    "tibial_cartilage_lateral": 7,
    "patellar_cartilage": 8,
    "meniscus_medial": 9,
    "meniscus_lateral": 10,
}
"""Values of the truth's label volumes (design.md 9)."""


@dataclass(frozen=True)
class Layer:
    """A tissue to lay over what is there: `occupancy` 0 to 1 in `window`; `label` 0 has no label."""

    tissue: str
    label: int
    occupancy: Tensor
    window: Window


class Measured(NamedTuple):
    """A bone in a slab: its window, the window's nodes in the bone's frame, their distances in mm."""

    window: Window
    points: Points
    distance: Tensor

    def over(self, other: Window) -> Tensor:
        """Distances on the nodes of another window; `FAR` where this one does not reach."""
        shape = tuple(part.stop - part.start for part in other.nodes)
        result = torch.full(shape, FAR)
        shared = [
            slice(max(a.start, b.start), min(a.stop, b.stop))
            for a, b in zip(self.window.nodes, other.nodes, strict=True)
        ]
        if all(part.stop > part.start for part in shared):
            result[relative(shared, other.nodes)] = self.distance[relative(shared, self.window.nodes)]
        return result


def bone_boxes(posed: Posed, margin_mm: float = 0.0) -> dict[str, list[Box]]:
    """Parts of the scan frame that hold each bone, piece by piece along it: shafts lean, and most planes miss them.

    Args:
        posed: the knee, in any frame.
        margin_mm: how far beyond the bone they reach.
    """
    boxes: dict[str, list[Box]] = {}
    for bone, pieces in bones.EXTENTS.items():
        frame = bone_frame(posed, bone)
        boxes[bone] = []
        for low, high, *sides in pieces:
            corners = np.array(list(product(sides[:2], sides[2:], (low, high)))) * posed.knee.scale
            boxes[bone].append(box_round(list(frame.apply(corners)), margin_mm))
    return boxes


def bone_frame(posed: Posed, bone: str) -> Rigid:
    """Frame in which a bone is described; the fibula shares the tibia's."""
    return {"femur": posed.femur, "tibia": posed.tibia, "fibula": posed.tibia, "patella": posed.patella}[bone]


def clip(part: Window, window: Window) -> Window | None:
    """The part of a window inside another; None when less than a cell of the lattice is left."""
    nodes, pixels = (
        tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(mine, theirs, strict=True))
        for mine, theirs in ((part.nodes, window.nodes), (part.pixels, window.pixels))
    )
    if nodes[0].stop <= nodes[0].start or any(n.stop - n.start < 2 for n in nodes[1:]):
        return None
    return Window(nodes, pixels)  # type: ignore[arg-type]


def relative(inner: Sequence[slice], outer: Sequence[slice]) -> tuple[slice, ...]:
    """Slices of a whole as slices of its part `outer`."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
