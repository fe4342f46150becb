"""What a posed knee is made of, layer over layer, from the skin inwards: the one description behind MRI and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bundle.phantom import bones
from bundle.phantom.anatomy import COMPARTMENTS, OSTEOPHYTE_SITES
from bundle.phantom.lattice import Box, Slab, Window, occupancy
from bundle.phantom.pose import Posed, Rigid
from bundle.phantom.sdf import ellipsoid, smoothstep
from bundle.phantom.soft import Limb, Structure, cords, muscles

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
_SKIN_MM = 1.8
_PLATE_MM, _PLATE_PER_GRADE_MM = 0.9, 0.5
"""Subchondral plate, and what a grade of sclerosis adds (phantom.md 3.2)."""
_CLEARANCE_MM = 0.25
"""Film of fluid between the cartilages at their contact."""


@dataclass(frozen=True)
class Layer:
    """A tissue to lay over what is there: `occupancy` 0 to 1 in `window`; `label` 0 has no label."""

    tissue: str
    label: int
    occupancy: Tensor
    window: Window


def bone_boxes(posed: Posed) -> dict[str, Box]:
    """Part of the scan frame that holds each bone."""
    s = posed.knee.scale
    knee = posed.tibia.apply(np.zeros(3))
    cap = posed.patella.shift
    y = (knee[1] - 62 * s, knee[1] + 62 * s)
    return {
        "femur": Box((-56 * s, 56 * s), y, (knee[2] - 14 * s, 1e4)),
        "tibia": Box((-52 * s, 52 * s), y, (-1e4, knee[2] + 22 * s)),
        "fibula": Box((10 * s, 60 * s), y, (-1e4, knee[2] + 10 * s)),
        "patella": Box(*((c - 27 * s, c + 27 * s) for c in cap)),
    }


def cortex_mm(posed: Posed, bone: str, x: Tensor, y: Tensor, z: Tensor) -> Tensor | float:
    """Thickness of cortical bone under the surface, mm: a plate at the joint, thick in the shaft, plus sclerosis."""
    knee = posed.knee
    s = knee.scale
    if bone == "patella":
        return 0.9
    if bone == "fibula":
        return 1.0 + 0.9 * smoothstep(-z, 28 * s, 60 * s)
    away = z if bone == "femur" else -z
    thickness = _PLATE_MM + (3.4 if bone == "femur" else 3.1) * smoothstep(away, 34 * s, 85 * s)
    for site, grade in knee.sclerosis.items():
        if grade and site[0] == bone[0].upper():
            thickness = thickness + _PLATE_PER_GRADE_MM * grade * _compartment(posed, site, x, away)
    return thickness


def sclerosis_depth(posed: Posed, bone: str, x: Tensor, z: Tensor) -> Tensor | None:
    """Grade of sclerosis felt at a point, fading with depth from the joint; None without sclerosis."""
    total = None
    for site, grade in posed.knee.sclerosis.items():
        if grade and site[0] == bone[0].upper():
            away = z if bone == "femur" else -z
            reach = (4 + 2.2 * grade) * posed.knee.scale
            part = grade * _compartment(posed, site, x, away) * (1 - smoothstep(away, 0.6 * reach, 1.5 * reach))
            total = part if total is None else total + part
    return total


def _compartment(posed: Posed, site: str, x: Tensor, away: Tensor) -> Tensor:
    """1 in the weight-bearing part of a compartment of a bone, 0 elsewhere, soft between."""
    s = posed.knee.scale
    across = -x if site.endswith("M") else x
    inside = smoothstep(across, 6.0 * s, 12.0 * s) * (1 - smoothstep(across, 26.0 * s, 34.0 * s))
    return inside * (1 - smoothstep(away, 10.0 * s, 18.0 * s))


def cartilage_mm(posed: Posed) -> dict[str, tuple[float, float]]:
    """Femoral and tibial thickness at the contact of each compartment, mm: they share the unloaded joint space."""
    split = posed.knee.cartilage_split
    layers = {}
    for compartment in COMPARTMENTS:
        room = max(posed.knee.joint_space_mri[compartment] - _CLEARANCE_MM, 0.0)
        layers[compartment] = (room * (1 - split), room * split)
    return layers


def layers(posed: Posed, slab: Slab, pixel_mm: float, *, sharp: bool = False) -> Iterator[Layer]:
    """Lay the tissues of a posed knee over a slab, in the order in which they cover each other.

    Args:
        posed: the knee in its scan.
        slab: planes and lattice.
        pixel_mm: width over which a surface's occupancy goes from 0 to 1.
        sharp: for labels: no partial volume over the thickness of a plane, and no skin, fat, muscles, vessels and
            ligaments.
    """
    if not sharp:
        yield from _soft_layers(posed, slab, pixel_mm)
    yield from _bone_layers(posed, slab, pixel_mm, sharp)
    yield from _joint_layers(posed, slab, pixel_mm, sharp)


def _soft_layers(posed: Posed, slab: Slab, pixel_mm: float) -> Iterator[Layer]:
    whole = slab.whole
    thigh, calf, cap = (slab.points(whole, frame) for frame in (posed.femur, posed.tibia, posed.patella))
    skin, fascia = Limb(posed).distances(thigh, calf, cap)
    skin, fascia = slab.refine(skin, whole), slab.refine(fascia, whole)
    yield Layer("skin", 0, occupancy(skin, pixel_mm), whole)
    yield Layer("subcutaneous_fat", 0, occupancy(skin + _SKIN_MM, pixel_mm), whole)
    inside = occupancy(fascia, pixel_mm)
    yield Layer("intermuscular_fat", 0, inside, whole)
    for structure in muscles(posed):
        yield from _structure(structure, slab, pixel_mm, inside)
    yield from _fluid(posed, slab, pixel_mm)
    for structure in cords(posed):
        yield from _structure(structure, slab, pixel_mm, None)


def _structure(structure: Structure, slab: Slab, pixel_mm: float, inside: Tensor | None) -> Iterator[Layer]:
    window = slab.window(structure.box)
    if window is None:
        return
    distance = structure.distance(slab.points(window, structure.frame))
    if float(distance.min()) > pixel_mm:
        return
    share = occupancy(slab.refine(distance, window), pixel_mm)
    if inside is not None:
        share = share * inside[window.pixels]
    yield Layer(structure.tissue, 0, share, window)


def _fluid(posed: Posed, slab: Slab, pixel_mm: float) -> Iterator[Layer]:
    """Hoffa's pad, and the synovial fluid of the joint and the suprapatellar pouch."""
    knee = posed.knee
    s = knee.scale
    joint, cap = posed.tibia.shift, posed.patella.shift
    pad = Structure(
        "hoffa",
        "hoffa_fat",
        posed.tibia,
        lambda p: ellipsoid(*p, (0.0, -27 * s, 3 * s), (23 * s, 10 * s, 17 * s)),
        Box((-30 * s, 30 * s), (joint[1] - 55 * s, joint[1] + 5), (joint[2] - 25 * s, joint[2] + 35 * s)),
    )
    capsule_ = Structure(
        "joint",
        "fluid",
        posed.tibia,
        lambda p: ellipsoid(
            *p, (0.0, 3 * s, 2 * s), ((31 + 0.5 * knee.effusion) * s, 19 * s, (2.6 + 0.5 * knee.effusion) * s)
        ),
        Box((-42 * s, 42 * s), (joint[1] - 32 * s, joint[1] + 36 * s), (joint[2] - 14 * s, joint[2] + 18 * s)),
    )
    pouch = Structure(
        "pouch",
        "fluid",
        posed.femur,
        lambda p: ellipsoid(*p, (1.0, -27.5 * s, 55 * s), (17 * s, (1.2 + knee.effusion) * s, 15 * s)),
        Box((-28 * s, 28 * s), (cap[1] - 20 * s, cap[1] + 42 * s), (cap[2] - 12 * s, cap[2] + 55 * s)),
    )
    for structure in (pad, capsule_, pouch):
        yield from _structure(structure, slab, pixel_mm, None)


def _width(slab: Slab, distance: Tensor, pixel_mm: float, sharp: bool) -> Tensor | float:
    return pixel_mm if sharp else slab.blur_mm(distance, pixel_mm)


def _bone_layers(posed: Posed, slab: Slab, pixel_mm: float, sharp: bool) -> Iterator[Layer]:
    frames = {"femur": posed.femur, "tibia": posed.tibia, "fibula": posed.tibia, "patella": posed.patella}
    boxes = bone_boxes(posed)
    for bone, frame in frames.items():
        window = slab.window(boxes[bone])
        if window is None:
            continue
        points = slab.points(window, frame)
        distance = getattr(bones, bone)(posed.knee, *points)
        if float(distance.min()) > pixel_mm:
            continue
        width = _width(slab, distance, pixel_mm, sharp)
        whole = occupancy(slab.refine(distance / width, window), 1.0)
        yield Layer("cortex", LABELS[bone], whole, window)
        inner = occupancy(slab.refine((distance + cortex_mm(posed, bone, *points)) / width, window), 1.0)
        yield Layer("marrow", 0, inner, window)
        if bone in ("femur", "tibia"):
            yield from _lesions(posed, bone, frame, slab, pixel_mm, window, inner)


def _lesions(
    posed: Posed, bone: str, frame: Rigid, slab: Slab, pixel_mm: float, window: Window, inner: Tensor
) -> Iterator[Layer]:
    """Marrow lesions and cysts with their sclerotic rim, inside the bone."""
    knee = posed.knee
    for site in OSTEOPHYTE_SITES:
        if site[0] != bone[0].upper():
            continue
        for lesion, kind in ((knee.marrow_lesions[site], "marrow_lesion"), (knee.cysts[site], "cyst")):
            if not lesion.present:
                continue
            centre = bones.subchondral_centre(knee, site, lesion)
            middle = frame.apply(np.array(centre))
            reach = 2 * lesion.radius_mm + 2
            part = slab.window(Box(*((float(c) - reach, float(c) + reach) for c in middle)))
            if part is None:
                continue
            part = _clip(part, window, slab)
            if part is None:
                continue
            x, y, z = slab.points(part, frame)
            radius = torch.sqrt((x - centre[0]).square() + (y - centre[1]).square() + (z - centre[2]).square())
            radius = slab.refine(radius, part)
            held = inner[_relative(part.pixels, window.pixels)]
            if kind == "marrow_lesion":
                yield Layer(kind, 0, held * torch.exp(-0.5 * (radius / (0.62 * lesion.radius_mm)).square()), part)
            else:
                yield Layer("cortex", 0, held * occupancy(radius - lesion.radius_mm - 0.7, pixel_mm), part)
                yield Layer("fluid", 0, held * occupancy(radius - lesion.radius_mm, pixel_mm), part)


def _clip(part: Window, window: Window, slab: Slab) -> Window | None:
    """The part of a window inside another."""
    nodes, pixels = [], []
    for a, b in zip(part.nodes, window.nodes, strict=True):
        nodes.append(slice(max(a.start, b.start), min(a.stop, b.stop)))
    for a, b in zip(part.pixels, window.pixels, strict=True):
        pixels.append(slice(max(a.start, b.start), min(a.stop, b.stop)))
    if nodes[0].stop <= nodes[0].start or any(n.stop - n.start < 2 for n in nodes[1:]):
        return None
    return Window(tuple(nodes), tuple(pixels))  # type: ignore[arg-type]


def _relative(inner: tuple[slice, ...], outer: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))


def _joint_layers(posed: Posed, slab: Slab, pixel_mm: float, sharp: bool) -> Iterator[Layer]:
    """Cartilages, menisci and their crystals; what is between the bones."""
    knee = posed.knee
    s = knee.scale
    joint = posed.tibia.shift
    contact = cartilage_mm(posed)
    (femur_medial, tibia_medial), (femur_lateral, tibia_lateral) = (contact[c] for c in COMPARTMENTS)
    window = slab.window(
        Box((-48 * s, 48 * s), (joint[1] - 50 * s, joint[1] + 48 * s), (joint[2] - 14 * s, joint[2] + 58 * s))
    )
    if window is None:
        return
    in_femur, in_tibia = slab.points(window, posed.femur), slab.points(window, posed.tibia)
    to_femur, to_tibia = bones.femur(knee, *in_femur), bones.tibia(knee, *in_tibia)
    over_femur = slab.refine(
        bones.femoral_cartilage_thickness(knee, *in_femur, medial=femur_medial, lateral=femur_lateral), window
    )
    over_tibia = slab.refine(
        bones.tibial_cartilage_thickness(knee, *in_tibia, medial=tibia_medial, lateral=tibia_lateral), window
    )
    fine_femur, fine_tibia = slab.refine(to_femur, window), slab.refine(to_tibia, window)
    width_femur: Tensor | float = pixel_mm
    width_tibia: Tensor | float = pixel_mm
    if not sharp:
        width_femur = slab.refine(slab.blur_mm(to_femur, pixel_mm), window)
        width_tibia = slab.refine(slab.blur_mm(to_tibia, pixel_mm), window)
    in_femur_share, in_tibia_share = occupancy(fine_femur, width_femur), occupancy(fine_tibia, width_tibia)
    bone = torch.maximum(in_femur_share, in_tibia_share)
    femoral = occupancy(fine_femur - over_femur, width_femur) - in_femur_share
    femoral = torch.minimum(torch.relu(femoral), 1 - bone)
    tibial = torch.relu(occupancy(fine_tibia - over_tibia, width_tibia) - in_tibia_share)
    tibial = torch.minimum(tibial, 1 - torch.maximum(bone, femoral))
    free = 1 - torch.maximum(bone, torch.maximum(femoral, tibial))
    across = slab.refine(in_tibia[0].expand(to_tibia.shape), window)
    for compartment in COMPARTMENTS:
        ring = slab.refine(bones.meniscus_ring(knee, compartment, *in_tibia[:2]).expand(to_tibia.shape), window)
        between = torch.maximum(over_tibia - fine_tibia, over_femur - fine_femur)
        height = torch.maximum(fine_tibia - over_tibia - 6.5 * s, fine_femur - over_femur - 6.0 * s)
        wedge = torch.maximum(torch.maximum(ring, between), height)
        yield Layer(
            "meniscus", LABELS[f"meniscus_{compartment}"], torch.minimum(occupancy(wedge, pixel_mm), free), window
        )
    yield Layer("cartilage", LABELS["femoral_cartilage"], femoral, window)
    for compartment, sign in zip(COMPARTMENTS, (-1.0, 1.0), strict=True):
        half = tibial * (across * sign > 0)
        yield Layer("cartilage", LABELS[f"tibial_cartilage_{compartment}"], half, window)
    yield from _patellar_cartilage(posed, slab, pixel_mm)
    yield from _crystals(posed, slab, pixel_mm)


def _patellar_cartilage(posed: Posed, slab: Slab, pixel_mm: float) -> Iterator[Layer]:
    knee = posed.knee
    s = knee.scale
    window = slab.window(bone_boxes(posed)["patella"])
    if window is None or knee.patellar_cartilage <= 0:
        return
    x, y, z = slab.points(window, posed.patella)
    distance = bones.patella(knee, x, y, z)
    if float(distance.min()) > pixel_mm + knee.patellar_cartilage:
        return
    cover = smoothstep(y, 0.0, 3.0 * s) * smoothstep(z, -13 * s, -8 * s) * (1 - smoothstep(x.abs(), 15 * s, 20 * s))
    thickness = slab.refine(knee.patellar_cartilage * cover, window)
    fine = slab.refine(distance, window)
    yield Layer(
        "cartilage",
        LABELS["patellar_cartilage"],
        torch.relu(occupancy(fine - thickness, pixel_mm) - occupancy(fine, pixel_mm)),
        window,
    )


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
        distance = torch.sqrt((x - bx).square() + (y - by).square() + (z - bz).square()) - radius
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
    if nearest is not None:
        yield Layer("cortex", 0, occupancy(slab.refine(nearest, window), max(pixel_mm, 0.9)), window)
