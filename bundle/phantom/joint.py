"""What lies between the bones of a posed knee: fluid, menisci, cartilages, and the crystals in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from bundle.phantom import bones
from bundle.phantom.anatomy import COMPARTMENTS
from bundle.phantom.lattice import Box, Slab, Window, occupancy
from bundle.phantom.layering import LABELS, Layer, Measured
from bundle.phantom.pose import Posed
from bundle.phantom.sdf import ellipse, ellipsoid, smoothstep

_CLEARANCE_MM = 0.25
"""Film of fluid between the cartilages at their contact."""
_BLOOM_MM = 0.4
"""How far a crystal's own field spoils the gradient echo beyond its surface."""
_LAMELLA_MM = 0.15
_DEEP_ZONE = 0.35
"""Share of the cartilage's thickness in which collagen stands upright and T2* is short."""
_NOTCH_FLUID = 0.4
"""Share of fluid and synovium in the notch; the rest is fat."""


def cartilage_mm(posed: Posed) -> dict[str, tuple[float, float]]:
    """Femoral and tibial thickness at the contact of each compartment, mm: they share the unloaded joint space."""
    split = posed.knee.cartilage_split
    layers = {}
    for compartment in COMPARTMENTS:
        room = max(posed.knee.joint_space_mri[compartment] - _CLEARANCE_MM, 0.0)
        layers[compartment] = (room * (1 - split), room * split)
    return layers


def _window(posed: Posed, slab: Slab) -> Window | None:
    s = posed.knee.scale
    joint = posed.tibia.shift
    return slab.window(
        Box((-48 * s, 48 * s), (joint[1] - 50 * s, joint[1] + 48 * s), (joint[2] - 14 * s, joint[2] + 58 * s))
    )


def cavity(posed: Posed, slab: Slab, pixel_mm: float, measured: Mapping[str, Measured]) -> Iterator[Layer]:
    """Synovial fluid between the bones, and the wet fat round the cruciate ligaments."""
    knee = posed.knee
    s = knee.scale
    joint = posed.tibia.shift
    window = slab.window(
        Box((-46 * s, 46 * s), (joint[1] - 34 * s, joint[1] + 36 * s), (joint[2] - 12 * s, joint[2] + 26 * s))
    )
    if window is None or not {"femur", "tibia"} <= set(measured):
        return
    x, y, z = slab.points(window, posed.tibia)
    notch = ellipsoid(x, y, z, (0.0, 3 * s, 9 * s), (12 * s, 19 * s, 15 * s))
    yield Layer("fluid", 0, _NOTCH_FLUID * occupancy(slab.refine(notch, window), 9.0), window)
    halves = (ellipse(x / s - cx, y / s - cy, rx, ry) for cx, cy, rx, ry in bones.PLATEAU.values())
    outline = reduce(torch.minimum, halves) * s - (0.6 + 0.5 * knee.effusion)
    away = torch.maximum(measured["femur"].over(window), measured["tibia"].over(window))
    fluid = torch.maximum(outline, away - (7.0 + 0.6 * knee.effusion))
    capsule = torch.maximum((outline - 0.9).abs() - 0.6, away - 11.0)
    yield Layer("tendon", 0, 0.8 * occupancy(slab.refine(capsule, window), pixel_mm), window)
    # Round the cruciates there is little of it, until an effusion swells the joint.
    share = 1 - max(0.75 - 0.2 * knee.effusion, 0.0) * (1 - smoothstep((x / s).abs(), 8.0, 16.0))
    yield Layer("fluid", 0, occupancy(slab.refine(fluid, window), pixel_mm) * slab.refine(share, window), window)


def joint_layers(
    posed: Posed, slab: Slab, pixel_mm: float, sharp: bool, measured: Mapping[str, Measured]
) -> Iterator[Layer]:
    """Menisci, cartilages and crystals; arguments as `composition.layers`, and the measured bones of the slab."""
    knee = posed.knee
    s = knee.scale
    joint = posed.tibia.shift
    window = slab.window(
        Box((-48 * s, 48 * s), (joint[1] - 50 * s, joint[1] + 48 * s), (joint[2] - 14 * s, joint[2] + 58 * s))
    )
    if window is None or not {"femur", "tibia"} <= set(measured):
        return
    (femur_medial, tibia_medial), (femur_lateral, tibia_lateral) = (cartilage_mm(posed)[c] for c in COMPARTMENTS)
    in_femur, in_tibia = slab.points(window, posed.femur), slab.points(window, posed.tibia)
    over_femur = bones.femoral_cartilage_thickness(knee, *in_femur, medial=femur_medial, lateral=femur_lateral)
    over_tibia = bones.tibial_cartilage_thickness(knee, *in_tibia, medial=tibia_medial, lateral=tibia_lateral)
    femur = _Covered(slab, window, measured["femur"].over(window), over_femur, pixel_mm, sharp)
    tibia = _Covered(slab, window, measured["tibia"].over(window), over_tibia, pixel_mm, sharp)
    bone = torch.maximum(femur.inside, tibia.inside)
    femoral = torch.minimum(femur.cartilage, 1 - bone)
    tibial = torch.minimum(tibia.cartilage, 1 - torch.maximum(bone, femoral))
    free = 1 - torch.maximum(bone, torch.maximum(femoral, tibial))
    between = torch.maximum(-femur.to_cartilage, -tibia.to_cartilage)
    height = torch.maximum(tibia.to_cartilage - 6.8 * s, femur.to_cartilage - 6.4 * s)
    gap = torch.maximum(between, height)
    for compartment in COMPARTMENTS:
        ring = bones.meniscus_ring(knee, compartment, *in_tibia[:2]).expand(gap.shape[0], *over_tibia.shape[1:])
        wedge = torch.maximum(slab.refine(ring, window), gap)
        # A dark lamella covers a meniscus: towards the fluid it reaches a little further than its body.
        share = torch.minimum(occupancy(wedge - (0.0 if sharp else _LAMELLA_MM), pixel_mm), free)
        yield Layer("meniscus", LABELS[f"meniscus_{compartment}"], share, window)
    yield Layer("cartilage", LABELS["femoral_cartilage"], femoral, window)
    across = slab.refine(in_tibia[0].expand(over_tibia.shape), window)
    for compartment, sign in zip(COMPARTMENTS, (-1.0, 1.0), strict=True):
        yield Layer("cartilage", LABELS[f"tibial_cartilage_{compartment}"], tibial * (across * sign > 0), window)
    if not sharp:
        yield Layer("deep_cartilage", 0, torch.minimum(femur.deep, femoral), window)
        yield Layer("deep_cartilage", 0, torch.minimum(tibia.deep, tibial), window)
    yield from _patellar_cartilage(slab, pixel_mm, sharp, measured, posed)
    yield from _crystals(posed, slab, pixel_mm)


class _Covered:
    """A bone and the cartilage on it, at the pixels of a window.

    Attributes:
        inside: share of bone; cartilage: share within the layer over it; deep: of that, next to the bone.
        to_cartilage: distance to the layer's free surface, mm.
    """

    def __init__(
        self, slab: Slab, window: Window, distance: Tensor, thickness: Tensor, pixel_mm: float, sharp: bool
    ) -> None:
        width: Tensor | float = pixel_mm if sharp else slab.refine(slab.blur_mm(distance, pixel_mm), window)
        to_bone, over = slab.refine(distance, window), slab.refine(thickness, window)
        self.to_cartilage = to_bone - over
        self.inside = occupancy(to_bone, width)
        self.cartilage = torch.relu(occupancy(self.to_cartilage, width) - self.inside)
        self.deep = torch.relu(occupancy(to_bone - _DEEP_ZONE * over, width) - self.inside)


def _patellar_cartilage(
    slab: Slab, pixel_mm: float, sharp: bool, measured: Mapping[str, Measured], posed: Posed
) -> Iterator[Layer]:
    knee = posed.knee
    s = knee.scale
    if "patella" not in measured or knee.patellar_cartilage <= 0:
        return
    window, (x, y, z), distance = measured["patella"]
    if float(distance.min()) > pixel_mm + knee.patellar_cartilage:
        return
    cover = smoothstep(y, 0.0, 3.0 * s) * smoothstep(z, -13 * s, -8 * s) * (1 - smoothstep(x.abs(), 15 * s, 20 * s))
    cap = _Covered(slab, window, distance, knee.patellar_cartilage * cover, pixel_mm, True)
    yield Layer("cartilage", LABELS["patellar_cartilage"], cap.cartilage, window)
    if not sharp:
        yield Layer("deep_cartilage", 0, cap.deep, window)


def crystal_balls(posed: Posed) -> np.ndarray:
    """Deposits of the posed knee: (n, 4) of centre in the scan frame and radius, mm."""
    knee = posed.knee
    s = knee.scale
    balls = []
    for compartment, deposits in knee.crystals.items():
        if not len(deposits):
            continue
        cx, cy, rx, ry = bones.PLATEAU[compartment]
        x, y = cx + 0.9 * rx * deposits[:, 0], cy + 0.9 * ry * deposits[:, 1]
        height = bones.plateau_height(knee, torch.tensor(x), torch.tensor(y)).numpy() * s
        # The gap opens towards the rim, where the menisci are.
        gap = knee.joint_space_mri[compartment] + 2.5 * (deposits[:, 0] ** 2 + deposits[:, 1] ** 2)
        points = np.stack([x * s * knee.aspect, y * s / knee.aspect, height + deposits[:, 2] * gap], axis=1)
        balls.append(np.concatenate([posed.tibia.apply(points), deposits[:, 3:]], axis=1))
    return np.concatenate(balls) if balls else np.zeros((0, 4))


def _crystals(posed: Posed, slab: Slab, pixel_mm: float) -> Iterator[Layer]:
    balls = crystal_balls(posed)
    if not len(balls):
        return
    low, high = balls[:, :3].min(axis=0) - 2, balls[:, :3].max(axis=0) + 2
    window = slab.window(Box(*((float(a), float(b)) for a, b in zip(low, high, strict=True))))
    if window is None:
        return
    x, y, z = slab.points(window)
    planes = slab.y[window.nodes[0]].flatten()
    nearest = None
    for bx, by, bz, radius in balls:
        if float((planes - by).abs().min()) > radius + 1.0:
            continue
        distance = torch.sqrt((x - bx).square() + (y - by).square() + (z - bz).square()) - radius - _BLOOM_MM
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
    if nearest is not None:
        yield Layer("cortex", 0, occupancy(slab.refine(nearest, window), max(pixel_mm, 0.9)), window)
