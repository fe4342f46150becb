"""The four bones as signed distances, each in its own frame: mm, x lateral, y posterior, z superior.

The femur's origin lies between the lowest points of its condyles, the tibia's in the middle of its plateau, the
patella's in its centre; the fibula shares the tibia's frame. Sizes are a woman's; `knee.scale` grows them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bundle.phantom.anatomy import COMPARTMENTS, Knee, Lesion, Warp
from bundle.phantom.sdf import ellipse, ellipsoid, rounded_extrusion, smooth_cut, smooth_union, smoothstep, tube

CONDYLE_X = (-22.3, 22.3)
"""Middle of the medial and lateral condyle."""
_POSTERIOR_Y = 8.5
_ANTERIOR_Y, _ANTERIOR_RADIUS = -4.0, 25.0
_CROWN_RADIUS = 22.0
"""Of a condyle's curve from side to side."""
PLATEAU = {"medial": (-15.5, 2.0, 18.6, 23.0), "lateral": (15.5, 0.0, 18.0, 20.5)}
"""Ellipse of each half of the plateau: centre x, y, half-axes x, y."""
TROCHLEA_CENTRE, TROCHLEA_RADIUS = (_ANTERIOR_Y, 25.0), _ANTERIOR_RADIUS
"""Centre (y, z) and radius of the circle on which the patella glides, femur frame."""

EXTENTS: dict[str, tuple[tuple[float, ...], ...]] = {
    "femur": (
        (-20, 40, -50, 50, -36, 34),
        (40, 70, -46, 46, -32, 24),
        (70, 100, -24, 36, -28, 17),
        (100, 130, -20, 38, -29, 15),
        (130, 160, -18, 42, -29, 14),
        (160, 190, -17, 46, -29, 14),
        (190, 260, -17, 56, -29, 14),
    ),
    "tibia": (
        (-24, 20, -50, 50, -31, 32),
        (-50, -24, -38, 38, -32, 25),
        (-80, -50, -27, 25, -27, 18),
        (-110, -80, -23, 20, -27, 18),
        (-140, -110, -23, 19, -26, 18),
        (-170, -140, -23, 18, -24, 20),
        (-260, -170, -23, 18, -24, 22),
    ),
    "fibula": ((-30, 5, 12, 46, -4, 32), (-60, -30, 17, 44, -1, 29), (-260, -60, 14, 44, -3, 28)),
    "patella": ((-30, 30, -30, 30, -20, 16),),
}
"""Template mm, along z: lowest and highest z, and the least and greatest x and y of the bone between them, with some
4 mm to spare over what was drawn in 24 knees of the natural world and of the one with other anatomy."""


def femur_axis_centre(knee: Knee) -> tuple[float, float]:
    """Centre (y, z) of the posterior condyles' circle, about which the femur flexes, mm."""
    return _POSTERIOR_Y * knee.scale, sum(knee.condyle_radius) / 2 * knee.scale


def _normalised(knee: Knee, warp: Warp, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Undo warp, scale and aspect: mm to the woman's template."""
    for amplitude, frequency, phase in zip(warp.amplitude, warp.frequency, warp.phase, strict=True):
        wave = torch.sin(x * float(frequency[0]) + y * float(frequency[1]) + (z * float(frequency[2]) + float(phase)))
        x, y, z = x + float(amplitude[0]) * wave, y + float(amplitude[1]) * wave, z + float(amplitude[2]) * wave
    across = knee.scale * knee.aspect
    return x / across, y * (knee.aspect / knee.scale), z / knee.scale


def femur(knee: Knee, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Distance to the femur, mm."""
    x, y, z = _normalised(knee, knee.warps["femur"], x, y, z)
    anterior = torch.sqrt((y - _ANTERIOR_Y).square() + (z - _ANTERIOR_RADIUS).square()) - _ANTERIOR_RADIUS
    condyles = []
    for middle_x, radius, half_width in zip(CONDYLE_X, knee.condyle_radius, knee.condyle_width, strict=True):
        posterior = torch.sqrt((y - _POSTERIOR_Y).square() + (z - radius).square()) - radius
        # Condyles diverge backwards by a few degrees.
        middle = middle_x + math.copysign(0.07, middle_x) * y
        # Round from side to side as well, so that the gap to the plateau widens into the wedge of the meniscus.
        across = x - middle
        profile = smooth_union(posterior, anterior, 5.0) + across.square() * (1 / (2 * _CROWN_RADIUS))
        condyles.append(rounded_extrusion(profile, across.abs() - half_width, 8.5))
    body = smooth_union(condyles[0], condyles[1], 3.0)
    groove = rounded_extrusion(anterior + knee.groove_depth, x.abs() - 20.0, 4.0)
    body = smooth_union(body, groove, 6.0)
    lean = math.tan(math.radians(knee.valgus))
    shaft = knee.shaft
    cone = tube(
        (
            (14, 0, -1, 31, 17, 0.7),
            (30, 0.5, -2, 31.5, 19, 0.85),
            (42, 1.2, -4, 27.5, 17.4, 0.85),
            (56, 2.2, -5.5, 22.5, 15.8, 0.6),
            (72, 3.8, -6.8, 18.5 * shaft, 14.6 * shaft, 0.3),
            (92, 92 * lean - 4.4, -7.6, 15.6 * shaft, 13.8 * shaft, 0.1),
            (118, 118 * lean - 5, -8.2, 13.9 * shaft, 13.4 * shaft, 0),
            (200, 200 * lean - 6, -9, 13.2 * shaft, 13.5 * shaft, 0),
        )
    )(x, y, z)
    body = smooth_union(body, torch.maximum(cone, 14.0 - z), 9.0)
    for centre, radii in (((-34.0, 6.0, 27.0), (5.0, 10.0, 9.0)), ((34.5, 6.0, 25.0), (4.5, 9.0, 8.0))):
        body = smooth_union(body, ellipsoid(x, y, z, centre, radii), 5.0)
    # The roof of the notch slopes down and forwards to the trochlea, as Blumensaat's line does.
    roof = (7.0 + 0.62 * (y + 9.0)).clamp(0.5, 25.0)
    body = smooth_cut(body, ellipse(x, z, knee.notch_half_width * (0.55 + 0.018 * roof), roof), 3.0)
    body = body * knee.scale
    for site, sign in (("FM", -1), ("FL", 1)):
        spur = knee.osteophytes[site]
        if spur.size_mm > 0:
            edge = sign * (abs(CONDYLE_X[0]) + knee.condyle_width[0 if sign < 0 else 1] - 2.0)
            size = spur.size_mm / knee.scale
            centre = (edge + sign * 0.45 * size, spur.along_mm, 8.5 + spur.lift_mm)
            ridge = ellipsoid(x, y, z, centre, (size, spur.half_length_mm, 1.4 + 0.42 * size))
            body = smooth_union(body, ridge * knee.scale, 3.0)
    return body


def plateau_height(knee: Knee, x: Tensor, y: Tensor) -> Tensor:
    """Height of the tibial plateau over its mean plane, template units, without spines."""
    height = -math.tan(math.radians(knee.plateau_slope)) * y
    for compartment, dish in zip(COMPARTMENTS, knee.plateau_dish, strict=True):
        cx, cy, rx, _ = PLATEAU[compartment]
        hollow = torch.exp(
            -0.5 * (((x - cx - 0.12 * rx * (1 if cx > 0 else -1)) / 9).square() + ((y - cy) / 13).square())
        )
        height = height - dish * (hollow - 0.4)
        depth = knee.attrition_mm[compartment] / knee.scale
        if depth > 0:
            along = knee.attrition_along_mm[compartment]
            height = height - depth * torch.exp(
                -0.5 * (((x - cx * 1.25) / 8).square() + ((y - cy - along) / 10).square())
            )
    return height


def tibia(knee: Knee, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Distance to the tibia, mm."""
    x, y, z = _normalised(knee, knee.warps["tibia"], x, y, z)
    halves = [ellipse(x - cx, y - cy, rx, ry) for cx, cy, rx, ry in PLATEAU.values()]
    outline = smooth_union(halves[0], halves[1], 9.0)
    level = z - plateau_height(knee, x, y)
    # The head narrows below its rim, like a funnel.
    flank = (outline + 0.45 * torch.relu(-6.0 - level)) * 0.9
    head = rounded_extrusion(flank, (level + 14.0).abs() - 14.0, 2.6)
    shaft = knee.shaft
    cone = tube(
        (
            (-2, 0, -1, 31.5, 18.5, 0.75),
            (-14, 0, -1, 30.5, 18, 0.75),
            (-24, 0, -2.5, 27, 16.5, 0.65),
            (-36, -0.5, -4, 21, 15.5, 0.4),
            (-52, -1, -5, 16.5 * shaft, 15.5 * shaft, 0.1),
            (-75, -2, -5, 13.5 * shaft, 15.0 * shaft, 0),
            (-120, -2.5, -3.5, 12.0 * shaft, 14.0 * shaft, 0),
            (-200, -3, -1.5, 11.5 * shaft, 13.0 * shaft, 0),
        )
    )(x, y, z)
    body = smooth_union(head, torch.maximum(cone, z + 6.0), 7.0)
    body = smooth_union(body, ellipsoid(x, y, z, (0.2, 0.5, -2.0), (7.0, 11.0, 5.0)), 2.5)
    for spine_x, height in zip((-4.0, 4.6), knee.spine_height, strict=True):
        body = smooth_union(body, ellipsoid(x, y, z, (spine_x, 1.0, -1.5), (3.4, 7.5, height)), 3.0)
    body = smooth_union(body, ellipsoid(x, y, z, (3.0, -19.0, -33.0), (9.0, 6.5, 15.0)), 6.0)
    body = body * knee.scale
    for site, sign, compartment in (("TM", -1, "medial"), ("TL", 1, "lateral")):
        spur = knee.osteophytes[site]
        if spur.size_mm > 0:
            cx, _, rx, _ = PLATEAU[compartment]
            size = spur.size_mm / knee.scale
            centre = (cx + sign * (rx - 1.0 + 0.45 * size), spur.along_mm, -3.2 + spur.lift_mm)
            ridge = ellipsoid(x, y, z, centre, (size, spur.half_length_mm, 1.2 + 0.36 * size))
            body = smooth_union(body, ridge * knee.scale, 3.0)
    return body


def fibula(knee: Knee, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Distance to the fibula, mm, in the tibia's frame."""
    dx, dy, dz = knee.fibula
    x, y, z = (x - dx) / knee.scale, (y - dy) / knee.scale, (z - dz) / knee.scale
    head = ellipsoid(x, y, z, (29.5, 14.5, -19.0), (8.5, 9.5, 10.0))
    styloid = ellipsoid(x, y, z, (31.5, 17.0, -11.0), (3.5, 4.0, 5.0))
    shaft = tube(
        ((-20, 30, 14.5, 6, 6.5), (-38, 31, 14, 4.9, 5.4), (-70, 30.5, 13, 5.4, 6.0), (-200, 27, 12, 6.0, 6.6))
    )(x, y, z)
    body = smooth_union(head, styloid, 3.0)
    return smooth_union(body, torch.maximum(shaft, z + 19.0), 5.0) * knee.scale


def patella(knee: Knee, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Distance to the patella, mm."""
    x, y, z = _normalised(knee, knee.warps["patella"], x, y, z)
    width = knee.patella_width * (1 + 0.011 * z.clamp(-18, 8))
    body = ellipsoid(x * (knee.patella_width / width), y, z, (0.0, 0.0, 0.0), (knee.patella_width, 11.5, 20.5))
    facets = y - 8.6 + 0.36 * (x - 2.0).abs()
    return smooth_cut(body, -facets, 4.0) * knee.scale


def subchondral_centre(knee: Knee, site: str, lesion: Lesion) -> tuple[float, float, float]:
    """Centre of a cyst or marrow lesion, mm, in the frame of its bone."""
    medial = site.endswith("M")
    if site.startswith("F"):
        x = CONDYLE_X[0 if medial else 1] + lesion.across_mm
        radius = knee.condyle_radius[0 if medial else 1]
        y = lesion.along_mm
        past = max(y - _POSTERIOR_Y, 0.0) if y > 0 else 0.0
        z = radius - math.sqrt(max(radius**2 - past**2, 1.0)) + lesion.depth_mm
    else:
        cx, cy, _, _ = PLATEAU["medial" if medial else "lateral"]
        x, y = cx * 1.2 + lesion.across_mm * 0.7, cy + lesion.along_mm
        height = plateau_height(knee, torch.tensor(x), torch.tensor(y))
        z = float(height) - lesion.depth_mm
    across = knee.scale * knee.aspect
    return x * across, y * knee.scale / knee.aspect, z * knee.scale


def femoral_cartilage_thickness(knee: Knee, x: Tensor, y: Tensor, z: Tensor, medial: float, lateral: float) -> Tensor:
    """Thickness of the femoral cartilage over the nearest bone, mm; 0 outside the articular surface."""
    s = knee.scale
    x, y, z = x / (s * knee.aspect), y * knee.aspect / s, z / s
    side = smoothstep(x, -5.0, 5.0)
    bearing = medial * (1 - side) + lateral * side
    trochlear = smoothstep(-y, 10.0, 20.0)
    # Away from the worn contact the layer regains some of its height.
    behind = smoothstep(y, 14.0, 24.0)
    thickness = bearing + (2.3 - bearing) * torch.maximum(trochlear, 0.6 * behind)
    width = abs(CONDYLE_X[0]) + min(knee.condyle_width) - 1.5
    edge = smoothstep(width + 0.07 * y - x.abs(), 0.0, 3.5)
    top = smoothstep(torch.where(y > 0, 31.0 - z, 41.0 - z), 0.0, 5.0)
    walls = torch.maximum(smoothstep(x.abs(), knee.notch_half_width - 1.5, knee.notch_half_width + 1.5), trochlear)
    return thickness * edge * top * walls


def tibial_cartilage_thickness(knee: Knee, x: Tensor, y: Tensor, z: Tensor, medial: float, lateral: float) -> Tensor:
    """Thickness of the tibial cartilage, mm; 0 between the spines and at the rim, where attrition wore it off."""
    s = knee.scale
    x, y, z = x / (s * knee.aspect), y * knee.aspect / s, z / s
    upper = smoothstep(z + math.tan(math.radians(knee.plateau_slope)) * y, -6.0, -3.5)
    total = torch.zeros_like(upper)
    for compartment, thickness, sign in (("medial", medial, -1.0), ("lateral", lateral, 1.0)):
        cx, cy, rx, ry = PLATEAU[compartment]
        inside = -ellipse(x - cx, y - cy, rx, ry)
        cover = smoothstep(inside, 0.8, 4.5) * smoothstep(sign * x, 6.0, 9.5)
        if knee.attrition_mm[compartment] > 0:
            worn = torch.exp(
                -0.5 * (((x - cx * 1.25) / 7).square() + ((y - cy - knee.attrition_along_mm[compartment]) / 9).square())
            )
            cover = cover * (1 - 0.9 * worn)
        total = total + thickness * cover
    return total * upper


def meniscus_ring(knee: Knee, compartment: str, x: Tensor, y: Tensor) -> Tensor:
    """Distance, in the plane of the plateau, to the C of a meniscus, mm; its horns turn in towards the spines."""
    s = knee.scale
    x, y = x / (s * knee.aspect), y * knee.aspect / s
    cx, cy, rx, ry = PLATEAU[compartment]
    sign = 1.0 if cx > 0 else -1.0
    reach = ellipse(x - cx, y - cy, rx - 1.0, ry - 1.0)
    opening = 10.5 - 6.5 * smoothstep((y - cy).abs(), 8.0, 16.0)
    outer = reach - knee.meniscus_extrusion[compartment] * smoothstep(sign * (x - cx), 0.0, 10.0)
    return torch.maximum(torch.maximum(outer, -(reach + 9.5)), opening - sign * x) * s
