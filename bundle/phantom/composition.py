"""What a posed knee is made of, layer over layer, from the skin inwards: the one description behind MRI and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bundle.phantom import bones
from bundle.phantom.anatomy import OSTEOPHYTE_SITES
from bundle.phantom.cords import cords
from bundle.phantom.joint import cavity, crystal_balls, joint_layers
from bundle.phantom.lattice import Box, Points, Slab, Window, occupancy
from bundle.phantom.layering import LABELS, Layer, Measured, bone_boxes, bone_frame, clip, relative
from bundle.phantom.pose import Posed, Rigid
from bundle.phantom.sdf import FAR, ellipsoid, smoothstep
from bundle.phantom.soft import Limb, Structure, muscles

__all__ = ["LABELS", "compartment_share", "cortex_mm", "crystal_balls", "layers", "sclerosis_depth"]

_SKIN_MM = 1.8
_AIR_REACH_MM = 9.0
"""How deep under the skin the air's effect on the field is felt."""
_SEPTUM_MM = 0.55
"""Half the thickness of the fat between two muscles."""
_FASCIA_SHARE = 0.4
"""The deep fascia is thinner than a pixel: its share of one."""
_PLATE_MM, _PLATE_PER_GRADE_MM = 0.9, 0.5
"""Subchondral plate, and what a grade of sclerosis adds (phantom.md 3.2)."""
_HALO_MM, _HALO_SHARE = 1.3, 0.8
"""Oedema round a cyst's rim: the depth over which it fades, and how much of the marrow it takes at the rim."""
_SOFT_LATTICE_MM = 2.5
"""Of skin and fascia, which are smoother than bone."""
_AROUND_BONE_MM = 14.0
"""How far from a bone its distance is asked for: by the joint's capsule."""
_GRANULATION_PER_GRADE_MM = 0.7
"""Depth of the fibrous tissue that grows under a sclerotic plate."""


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
            thickness = thickness + _PLATE_PER_GRADE_MM * grade * compartment_share(posed, site, x, away)
    return thickness


def sclerosis_depth(posed: Posed, bone: str, x: Tensor, z: Tensor) -> Tensor | None:
    """Grade of sclerosis felt at a point, fading with depth from the joint; None without sclerosis."""
    total = None
    for site, grade in posed.knee.sclerosis.items():
        if grade and site[0] == bone[0].upper():
            away = z if bone == "femur" else -z
            reach = (4 + 2.2 * grade) * posed.knee.scale
            part = grade * compartment_share(posed, site, x, away) * (1 - smoothstep(away, 0.6 * reach, 1.5 * reach))
            total = part if total is None else total + part
    return total


def compartment_share(posed: Posed, site: str, x: Tensor, away: Tensor) -> Tensor:
    """1 in the weight-bearing part of a compartment of a bone, 0 elsewhere, soft between."""
    s = posed.knee.scale
    across = -x if site.endswith("M") else x
    inside = smoothstep(across, 6.0 * s, 12.0 * s) * (1 - smoothstep(across, 26.0 * s, 34.0 * s))
    return inside * (1 - smoothstep(away, 10.0 * s, 18.0 * s))


class Flesh:
    """The soft parts of a posed knee, built once for the slabs of a scan."""

    def __init__(self, posed: Posed) -> None:
        self.limb = Limb(posed)
        self.muscles = tuple(muscles(posed))
        self.cords = tuple(cords(posed, self.limb))


def layers(
    posed: Posed, slab: Slab, pixel_mm: float, *, flesh: Flesh | None = None, sharp: bool = False
) -> Iterator[Layer]:
    """Lay the tissues of a posed knee over a slab, in the order in which they cover each other.

    Args:
        posed: the knee in its scan.
        slab: planes and lattice.
        pixel_mm: width over which a surface's occupancy goes from 0 to 1.
        flesh: of the same posed knee; built here where it is not given.
        sharp: for labels: no partial volume over the thickness of a plane, and no skin, fat, muscles, vessels and
            ligaments.
    """
    measured = _measure(posed, slab)
    if not sharp:
        yield from _soft_layers(posed, flesh or Flesh(posed), slab, pixel_mm, measured)
    yield from _bone_layers(posed, slab, pixel_mm, sharp, measured)
    yield from joint_layers(posed, slab, pixel_mm, sharp, measured)


def _measure(posed: Posed, slab: Slab) -> dict[str, Measured]:
    """Distance to each bone that meets the slab, once for all that lies on, in and between them."""
    measured = {}
    for bone, boxes in bone_boxes(posed, _AROUND_BONE_MM).items():
        window = slab.window_round(boxes)
        if window is None:
            continue
        points = slab.points(window, bone_frame(posed, bone))
        measured[bone] = Measured(window, points, getattr(bones, bone)(posed.knee, *points))
    return measured


def _soft_layers(
    posed: Posed, flesh: Flesh, slab: Slab, pixel_mm: float, measured: Mapping[str, Measured]
) -> Iterator[Layer]:
    smooth = slab.coarser(_SOFT_LATTICE_MM)
    nodes = smooth.whole
    thigh, calf, cap = (smooth.points(nodes, frame) for frame in (posed.femur, posed.tibia, posed.patella))
    to_skin, to_fascia = flesh.limb.distances(thigh, calf, cap)
    body = smooth.where(to_skin < 2 * pixel_mm)
    if body is None:
        return
    surface, sheath = smooth.refine(to_skin, nodes), smooth.refine(to_fascia, nodes)
    skin, fascia = surface[body.pixels], sheath[body.pixels]
    yield Layer("skin", 0, occupancy(skin, pixel_mm), body)
    under = occupancy(skin + _SKIN_MM, pixel_mm)
    yield Layer("subcutaneous_fat", 0, under, body)
    # Air beside the skin bends the field: there the suppression of fat fails first.
    yield Layer("edge_fat", 0, under * (1 + skin / _AIR_REACH_MM).clamp(0, 1), body)
    yield Layer("intermuscular_fat", 0, occupancy(fascia, pixel_mm), body)
    meat = _muscle_distance(flesh, slab)
    part = slab.where(meat < pixel_mm)
    if part is not None:
        inside = torch.maximum(slab.refine(meat[part.nodes], part), sheath[part.pixels] + 0.6)
        yield Layer("muscle", 0, occupancy(inside, pixel_mm), part)
    yield Layer("tendon", 0, _FASCIA_SHARE * occupancy(fascia.abs() - 0.4, pixel_mm), body)
    yield from _retinaculum(posed, smooth, pixel_mm, to_fascia, calf)
    yield from _pads(posed, slab, pixel_mm)
    yield from cavity(posed, slab, pixel_mm, measured)
    for structure in flesh.cords:
        for layer in _structure(structure, slab, pixel_mm):
            # Where a lean limb has no room for a tendon it runs under the skin all the same.
            within = occupancy(surface[layer.window.pixels] + _SKIN_MM, pixel_mm)
            yield replace(layer, occupancy=torch.minimum(layer.occupancy, within))


def _muscle_distance(flesh: Flesh, slab: Slab) -> Tensor:
    """Distance to the nearest muscle, nodes of the slab; muscles that meet keep a septum between them."""
    nearest = torch.full((slab.planes, slab.z.shape[1], slab.x.shape[2]), FAR)
    second = nearest.clone()
    for structure in flesh.muscles:
        window = slab.window_round(structure.boxes)
        if window is None:
            continue
        distance = structure.distance(slab.points(window, structure.frame))
        first, next_ = nearest[window.nodes], second[window.nodes]
        torch.minimum(next_, torch.maximum(first, distance), out=next_)
        torch.minimum(first, distance, out=first)
    return torch.maximum(nearest, _SEPTUM_MM - (second - nearest) / 2)


def _retinaculum(posed: Posed, slab: Slab, pixel_mm: float, to_fascia: Tensor, calf: Points) -> Iterator[Layer]:
    """The sheet that runs from the patella's sides to the epicondyles, under the fascia."""
    s = posed.knee.scale
    _, y, z = calf
    depth, reach = to_fascia + 2.2, torch.maximum(y + 2 * s, (z - 12 * s).abs() - 30 * s).expand(to_fascia.shape)
    part = slab.where(torch.maximum(depth.abs() - 0.8, reach) < _SOFT_LATTICE_MM)
    if part is not None:
        # The sheet is thinner than the lattice: its distance is folded at the pixels.
        sheet = slab.refine(depth[part.nodes], part).abs() - 0.8
        sheet = torch.maximum(sheet, slab.refine(reach[part.nodes], part))
        yield Layer("tendon", 0, 0.5 * occupancy(sheet, pixel_mm), part)


def _structure(structure: Structure, slab: Slab, pixel_mm: float) -> Iterator[Layer]:
    window = slab.window_round(structure.boxes)
    if window is None:
        return
    distance = structure.distance(slab.points(window, structure.frame))
    if float(distance.min()) > pixel_mm:
        return
    yield Layer(structure.tissue, 0, occupancy(slab.refine(distance, window), pixel_mm), window)


def _pads(posed: Posed, slab: Slab, pixel_mm: float) -> Iterator[Layer]:
    """Hoffa's pad under the patella, and the pouch of synovial fluid above it."""
    knee = posed.knee
    s = knee.scale
    joint, cap = posed.tibia.shift, posed.patella.shift
    pad = Structure(
        "hoffa",
        "hoffa_fat",
        posed.tibia,
        lambda p: ellipsoid(*p, (0.0, -27 * s, 3 * s), (23 * s, 10 * s, 17 * s)),
        [Box((-30 * s, 30 * s), (joint[1] - 55 * s, joint[1] + 5), (joint[2] - 25 * s, joint[2] + 35 * s))],
    )

    def pouch(p: Points) -> Tensor:
        # A slit between the femur with its pad of fat and the quadriceps tendon; it fills as fluid gathers.
        slit = (bones.femur(knee, *p) - (2.2 + 0.55 * knee.effusion) * s).abs() - 0.45 * knee.effusion * s
        bounds = ellipsoid(
            *p, (1.0, -26 * s, 46 * s), ((13 + 2.2 * knee.effusion) * s, 24 * s, (12 + 2.2 * knee.effusion) * s)
        )
        return torch.maximum(torch.maximum(slit, bounds), p[1] + 10 * s)

    effusion = Structure(
        "pouch",
        "fluid",
        posed.femur,
        pouch,
        [Box((-28 * s, 28 * s), (cap[1] - 20 * s, cap[1] + 42 * s), (cap[2] - 20 * s, cap[2] + 60 * s))],
    )
    for structure in (pad, effusion):
        yield from _structure(structure, slab, pixel_mm)


def _bone_layers(
    posed: Posed, slab: Slab, pixel_mm: float, sharp: bool, measured: Mapping[str, Measured]
) -> Iterator[Layer]:
    for bone, (window, points, distance) in measured.items():
        if float(distance.min()) > pixel_mm:
            continue
        width = pixel_mm if sharp else slab.blur_mm(distance, pixel_mm)
        whole = occupancy(slab.refine(distance / width, window), 1.0)
        yield Layer("cortex", LABELS[bone], whole, window)
        if sharp:
            continue
        depth = distance + cortex_mm(posed, bone, *points)
        inner = occupancy(slab.refine(depth / width, window), 1.0)
        yield Layer("marrow", 0, inner, window)
        if bone in ("femur", "tibia"):
            yield from _scar(posed, bone, slab, window, inner)
            yield from _granulation(posed, bone, slab, points, depth, window, inner)
            yield from _lesions(posed, bone, bone_frame(posed, bone), slab, pixel_mm, window, inner)


def _scar(posed: Posed, bone: str, slab: Slab, window: Window, inner: Tensor) -> Iterator[Layer]:
    """The scar of the closed growth plate: a thin wavy sheet of dense bone."""
    s = posed.knee.scale
    level, wave = {"femur": (31.0, 3.0), "tibia": (-17.0, 1.6)}[bone]
    frame = bone_frame(posed, bone)
    middle = float(frame.apply(np.array([0.0, 0.0, level * s]))[2])
    part = slab.window(Box(z=(middle - 9 * s, middle + 9 * s)))
    part = None if part is None else clip(part, window)
    if part is None:
        return
    x, y, z = slab.points(part, frame)
    sheet = z - s * (level + wave * torch.cos(x * (0.15 / s)) + 1.2 * torch.cos(y * (0.22 / s) + x * (0.07 / s)))
    held = inner[relative(part.pixels, window.pixels)]
    yield Layer("cortex", 0, 0.8 * held * occupancy(slab.refine(sheet.abs() - 0.45, part), 0.9), part)


def _granulation(
    posed: Posed, bone: str, slab: Slab, points: Points, depth: Tensor, window: Window, inner: Tensor
) -> Iterator[Layer]:
    """Patches of vascular fibrous tissue that line the marrow under a sclerotic plate."""
    s = posed.knee.scale
    x, y, z = points
    away = z if bone == "femur" else -z
    total = None
    for site, grade in posed.knee.sclerosis.items():
        if grade and site[0] == bone[0].upper():
            thick = _GRANULATION_PER_GRADE_MM * grade
            share = compartment_share(posed, site, x, away)
            band = occupancy((depth + thick / 2).abs() - thick / 2, 0.6) * share
            total = band if total is None else torch.maximum(total, band)
    if total is None:
        return
    patches = torch.sin(x * (0.55 / s) + 1.4 * torch.sin(y * (0.21 / s))) + torch.sin(
        y * (0.47 / s) + 1.2 * torch.sin(x * (0.33 / s))
    )
    total = total * smoothstep(patches, -0.7, 0.1)
    yield Layer("granulation", 0, slab.refine(total, window) * inner, window)


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
            part = clip(part, window)
            if part is None:
                continue
            x, y, z = slab.points(part, frame)
            radius = torch.sqrt((x - centre[0]).square() + (y - centre[1]).square() + (z - centre[2]).square())
            radius = slab.refine(radius, part)
            held = inner[relative(part.pixels, window.pixels)]
            if kind == "marrow_lesion":
                yield Layer(kind, 0, held * torch.exp(-0.5 * (radius / (0.62 * lesion.radius_mm)).square()), part)
            else:
                halo = torch.exp(-torch.relu(radius - lesion.radius_mm - 0.7) / _HALO_MM)
                yield Layer("granulation", 0, _HALO_SHARE * held * halo, part)
                yield Layer("cortex", 0, held * occupancy(radius - lesion.radius_mm - 0.7, pixel_mm), part)
                yield Layer("fluid", 0, held * occupancy(radius - lesion.radius_mm, pixel_mm), part)
