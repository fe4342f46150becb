"""How much lean tissue and mineral each ray of a film crosses: limb, bones and their texture, cysts and crystals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from bundle.geometry import SOURCE_DETECTOR_MM
from bundle.phantom import bones, composition
from bundle.phantom.anatomy import OSTEOPHYTE_SITES
from bundle.phantom.film_geometry import FilmGeometry
from bundle.phantom.film_implant import Implant
from bundle.phantom.lattice import Box, Slab, Window, occupancy, value_noise
from bundle.phantom.layering import bone_boxes, bone_frame
from bundle.phantom.pose import Posed
from bundle.phantom.sdf import ellipsoid, smoothstep
from bundle.phantom.soft import Limb, Structure, muscles
from bundle.phantom.tissues import CRYSTAL, FAT_AS_LEAN, METAL, TRABECULAR_JOINT, TRABECULAR_SHAFT

Ball = tuple[np.ndarray, float, float]
"""Centre (3,) in mm, radius in mm, mineral as a fraction of cortical bone's."""
_PLANE_MM = 2.0
_BEHIND_MM, _BEFORE_MM = 92.0, -76.0
"""Planes rendered: a shin that leans forward at the knee ends far behind it."""
_SLAB_PLANES = 8
_BONE_LATTICE_MM, _SOFT_LATTICE_MM = 1.6, 3.2
_BEAD_PITCH_MM = 12.5
_TRABECULAE: tuple[tuple[float, float, float], ...] = (
    (0.085, 3.6, 1.1),
    (0.045, 0.9, 2.4),
    (0.05, 0.8, 0.7),
    (0.07, 9.0, 7.0),
)
"""Unevenness of projected spongiosa: share, height and width in mm. Struts along the load, ties across it, the mesh
that a film just resolves, and clouds."""


def paths(
    posed: Posed, geometry: FilmGeometry, texture: np.random.Generator, *, implant: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Millimetres along each ray of the part of the film that shows a knee, seen as a right one.

    Args:
        posed: the knee, standing.
        geometry: of the film.
        texture: of the spongiosa.
        implant: with a knee replacement.

    Returns:
        lean tissue, cortical bone and metal, each (H, w), `geometry.knee_shape`, in mm of that material.
    """
    shape = geometry.knee_shape
    mineral, spongy, metal = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    lean_slabs = []
    beamed = geometry.into_beam(posed)
    prosthesis = Implant(beamed) if implant else None
    limb, bellies = Limb(beamed), tuple(muscles(beamed))
    boxes = bone_boxes(beamed)
    for y in _planes():
        slab = geometry.slab(y, _BONE_LATTICE_MM)
        _add_bones(beamed, slab, boxes, geometry.spacing_mm, prosthesis, mineral, spongy)
        if prosthesis is not None:
            prosthesis.add(slab, geometry.spacing_mm, metal)
        soft = geometry.slab(y, _SOFT_LATTICE_MM)
        lean_slabs.append(_lean(beamed, limb, bellies, soft).sum(dim=0, keepdim=True))
    flat = soft.whole
    single = Window((slice(0, 1), *flat.nodes[1:]), (slice(0, 1), *flat.pixels[1:]))
    lean = soft.refine(torch.stack(lean_slabs).sum(dim=0), single)[0]
    mineral = mineral + spongy * _trabeculae(texture, shape, geometry.spacing_mm)
    balls = torch.zeros(shape)
    if prosthesis is None:
        add_balls(balls, _small_balls(beamed), geometry)
    length = _PLANE_MM * _slant(geometry)
    return lean * length, torch.relu(mineral * length + balls), metal * length


def bone_shadow(posed: Posed, geometry: FilmGeometry) -> np.ndarray:
    """Where the rays of a film meet bone.

    Args:
        posed: the knee, in any pose.
        geometry: of the film; of both knees, the half with the patient's right, on which a left knee is mirrored.

    Returns:
        (H, w) bool, `geometry.knee_shape`.
    """
    shadow = torch.zeros(geometry.knee_shape, dtype=torch.bool)
    beamed = geometry.into_beam(posed)
    boxes = bone_boxes(beamed)
    for y in _planes():
        slab = geometry.slab(y, _BONE_LATTICE_MM)
        for bone, held in boxes.items():
            window = slab.window_round(held)
            if window is not None:
                distance = getattr(bones, bone)(posed.knee, *slab.points(window, bone_frame(beamed, bone)))
                shadow[window.pixels[1:]] |= (slab.refine(distance, window) < 0).any(dim=0)
    return shadow.numpy()


def _planes() -> Iterable[np.ndarray]:
    """Planes across the beam, from the source's side, in slabs of eight."""
    planes = np.arange(_BEHIND_MM, _BEFORE_MM, -_PLANE_MM)
    return (planes[first : first + _SLAB_PLANES] for first in range(0, len(planes), _SLAB_PLANES))


def _trabeculae(texture: np.random.Generator, shape: tuple[int, int], pixel_mm: float) -> Tensor:
    """Mean 1; trabeculae run along the load and are tied across it, of sizes that a film resolves; (H, W)."""
    pattern = torch.ones(shape)
    for share, height, width in _TRABECULAE:
        pattern += share * value_noise(texture, (1, *shape), (1, height / pixel_mm, width / pixel_mm))[0]
    return pattern


def _slant(geometry: FilmGeometry) -> Tensor:
    """How much longer a ray is in a plane's thickness than that thickness; (H, w)."""
    (rows, columns), pixel = geometry.shape, geometry.spacing_mm
    v = torch.linspace((rows - 1) / 2, -(rows - 1) / 2, rows)[:, None] * pixel + geometry.centre_z_mm
    u = ((torch.arange(geometry.knee_shape[1]) - (columns - 1) / 2) * pixel)[None, :]
    away = (u / SOURCE_DETECTOR_MM).square() + ((v - geometry.source_z_mm) / SOURCE_DETECTOR_MM).square()
    return torch.sqrt(1 + away)


def _lean(posed: Posed, limb: Limb, bellies: Sequence[Structure], slab: Slab) -> Tensor:
    """Lean-equivalent share of each node: fat counts 0.835 of muscle, skin and joint count as lean."""
    window = slab.whole
    thigh, calf, cap = (slab.points(window, frame) for frame in (posed.femur, posed.tibia, posed.patella))
    width = max(_SOFT_LATTICE_MM, 2.5)
    skin, fascia = limb.distances(thigh, calf, cap)
    within = occupancy(fascia, width)
    flesh = torch.zeros_like(skin)
    for muscle in bellies:
        part = slab.window_round(muscle.boxes)
        if part is not None:
            share = occupancy(muscle.distance(slab.points(part, muscle.frame)), width)
            target = flesh[part.nodes]
            torch.maximum(target, share, out=target)
    s = posed.knee.scale
    joint = occupancy(ellipsoid(*calf, (0.0, 2 * s, 3 * s), (36 * s, 25 * s, 9 * s)), width)
    flesh = torch.maximum(flesh, joint) * within
    whole = occupancy(skin, width)
    rind = whole - occupancy(skin + 1.8, width)
    return whole * FAT_AS_LEAN + (1 - FAT_AS_LEAN) * torch.maximum(flesh, rind)


def _add_bones(
    posed: Posed,
    slab: Slab,
    boxes: Mapping[str, Sequence[Box]],
    pixel_mm: float,
    implant: Implant | None,
    mineral: Tensor,
    spongy: Tensor,
) -> None:
    """Add each plane's cortical and spongy mineral, as fractions of cortical bone."""
    s = posed.knee.scale
    edge = max(pixel_mm, 0.35)
    for bone, held in boxes.items():
        window = slab.window_round(held)
        if window is None:
            continue
        x, y, z = slab.points(window, bone_frame(posed, bone))
        distance = getattr(bones, bone)(posed.knee, x, y, z)
        if implant is not None:
            distance = implant.sawn(bone, distance, x, y, z)
        if float(distance.min()) > edge:
            continue
        shell = composition.cortex_mm(posed, bone, x, y, z)
        away = z.abs()
        fraction = TRABECULAR_JOINT + (TRABECULAR_SHAFT - TRABECULAR_JOINT) * smoothstep(away, 18 * s, 70 * s)
        # Plate and spongiosa are densest under the surface that bears the load, and thin at the plateau's rim.
        bearing: Tensor | float = 0.7
        if bone == "tibia":
            bearing = _bearing(x / s, y / s)
            head = 1 - smoothstep(away, 9 * s, 16 * s)
            shell = shell * (1 + (0.65 * bearing - 0.5) * head)
            fraction = fraction * (1 - 0.4 * (1 - bearing) * head)
        dense = (1 - smoothstep(-distance, 1.0, 9.0)) * (1 - smoothstep(away, 12 * s, 26 * s))
        fraction = fraction + 0.15 * bearing * dense
        if bone == "patella":
            shell, fraction = 0.55 * shell, torch.full_like(distance, 0.10)
        grade = composition.sclerosis_depth(posed, bone, x, z)
        if grade is not None:
            fraction = fraction + 0.16 * grade
        width = slab.blur_mm(distance, edge)
        whole = occupancy(slab.refine(distance / width, window), 1.0)
        inner = occupancy(slab.refine((distance + shell) / width, window), 1.0)
        at = window.pixels[1:]
        mineral[at] += (whole - inner).sum(dim=0)
        spongy[at] += (inner * slab.refine(fraction, window)).sum(dim=0)


def _bearing(x: Tensor, y: Tensor) -> Tensor:
    """1 in the middle of either plateau, 0 at its rim, template units.

    Source:
        Milz and Putz, J. Anat. 185, 1994: the tibia's subchondral plate is thickest in the middle of the plateaus and
        thins towards their margins.
    """
    reaches = (
        torch.sqrt(((x - cx) / rx).square() + ((y - cy) / ry).square()) for cx, cy, rx, ry in bones.PLATEAU.values()
    )
    return 1 - smoothstep(reduce(torch.minimum, reaches), 0.3, 0.95)


_FAINT = 0.05
"""Share of a cyst's and a deposit's contrast that is left on a film, so that it hides them (docs/phantom.md): smooth
balls under smooth trabeculae would be plain to one who knows where to look; ragged ones in real bone are not."""


def _small_balls(beamed: Posed) -> list[Ball]:
    """Cysts (less spongiosa, more rim) and crystals of a knee in the beam's frame."""
    balls: list[Ball] = []
    for site in OSTEOPHYTE_SITES:
        cyst = beamed.knee.cysts[site]
        if cyst.present:
            frame = beamed.femur if site[0] == "F" else beamed.tibia
            centre = frame.apply(np.array(bones.subchondral_centre(beamed.knee, site, cyst)))
            balls.append((centre, cyst.radius_mm + 0.7, _FAINT * 0.30))
            balls.append((centre, cyst.radius_mm, -_FAINT * (0.30 + TRABECULAR_JOINT)))
    return balls + [(ball[:3], float(ball[3]), _FAINT * CRYSTAL) for ball in composition.crystal_balls(beamed)]


def bead_column(across_mm: float, lowest_mm: float, geometry: FilmGeometry) -> list[Ball]:
    """The positioning frame's column of steel balls, one above the other, in a right knee's frame.

    Args:
        across_mm: from the midline.
        lowest_mm: of the lowest ball from the joint's height.
        geometry: of the film.
    """
    x = across_mm - geometry.separation_mm
    return [(np.array([x, -45.0, lowest_mm + _BEAD_PITCH_MM * k]), 1.6, METAL) for k in range(12)]


def add_balls(image: Tensor, balls: list[Ball], geometry: FilmGeometry) -> None:
    """Add the chords of rays through balls to an image of the film, or of its first columns, in mm times mineral."""
    rows, columns = image.shape
    for centre, radius, density in balls:
        row, column = map(float, geometry.shadow(centre))
        scale = float(geometry.magnification(centre[1])) / geometry.spacing_mm
        reach = math.ceil(radius * scale) + 1
        r = torch.arange(max(round(row) - reach, 0), min(round(row) + reach + 1, rows))
        c = torch.arange(max(round(column) - reach, 0), min(round(column) + reach + 1, columns))
        if not len(r) or not len(c):
            continue
        away = ((r[:, None] - row).square() + (c[None, :] - column).square()) / scale**2
        image[r[0] : r[-1] + 1, c[0] : c[-1] + 1] += density * 2 * torch.sqrt(torch.relu(radius**2 - away)).float()
