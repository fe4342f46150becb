"""From two standing knees to one bilateral PA fixed-flexion film: point source, polychromatic beam, scatter, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from bundle.geometry import KNEE_DETECTOR_MM, SIDES, SOURCE_DETECTOR_MM
from bundle.phantom import bones, composition
from bundle.phantom.anatomy import OSTEOPHYTE_SITES, Person
from bundle.phantom.lattice import Slab, Window, occupancy, single_threaded, value_noise
from bundle.phantom.pose import Posed, solve_pose
from bundle.phantom.sdf import ellipsoid, smoothstep
from bundle.phantom.soft import Limb, muscles
from bundle.phantom.streams import stream
from bundle.phantom.tissues import (
    CORTICAL_PER_MM,
    CRYSTAL,
    FAT_AS_LEAN,
    LEAN_PER_MM,
    SPECTRUM,
    TRABECULAR_JOINT,
    TRABECULAR_SHAFT,
)

FIELD_MM = (307.2, 409.6)
"""Height and width of the detector, near 14 x 17 inches lying on its side."""
SPACINGS = {"test": 1.6, "demo": 0.4, "native": 0.2}
"""Detector pixel, mm."""
CAUDAL_DEG = 10.0
BITS = 12
_PLANE_MM = 2.0
_DEPTH_MM = 76.0
_SLAB_PLANES = 8
_BONE_LATTICE_MM, _SOFT_LATTICE_MM = 1.6, 3.2
_PHOTONS = 1300.0
"""Photons in a 0.4 mm pixel behind the middle of the knee; exposure control keeps it (2.5e4 in air, phantom.md 3.2)."""
_SCATTER, _SCATTER_MM = 0.35, 35.0
_BLUR_MM = 0.22
_EQUALISE, _EQUALISE_MM = 0.4, 25.0
"""Share of the slow part of the density that processing takes off, so that thigh and shin fit one window; its scale."""
_GAMMA, _MIDDLE = 4.0, 0.55
"""Slope and middle of the display's sigmoid, on the window from 0 to 1."""


@dataclass(frozen=True)
class FilmGeometry:
    """Where source, knees and detector are; LPS axes, origin midway between the knees at joint height, mm.

    Args:
        spacing_mm: detector pixel.
        separation_mm: of each knee's joint centre from the midline.
        centre_z_mm: height of the detector's middle.
    """

    spacing_mm: float
    separation_mm: float
    centre_z_mm: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the film."""
        return round(FIELD_MM[0] / self.spacing_mm), round(FIELD_MM[1] / self.spacing_mm)

    @property
    def source_y_mm(self) -> float:
        """The source stands behind the patient."""
        return SOURCE_DETECTOR_MM - KNEE_DETECTOR_MM

    @property
    def source_z_mm(self) -> float:
        """Height of the source, so that the ray through the joint runs 10 degrees caudal."""
        return self.source_y_mm * math.tan(math.radians(CAUDAL_DEG))

    def project(self, points: np.ndarray, side: str) -> np.ndarray:
        """Shadow of points of a knee.

        Args:
            points: (..., 3), scan frame of that knee (x lateral), mm.
            side: `R` or `L`.

        Returns:
            (..., 2) row and column on the film, in pixels.
        """
        points = np.asarray(points, dtype=float)
        magnify = SOURCE_DETECTOR_MM / (self.source_y_mm - points[..., 1])
        away = (points[..., 0] + self.separation_mm) * magnify
        z = self.source_z_mm + (points[..., 2] - self.source_z_mm) * magnify
        rows, columns = self.shape
        u = -away if side == "R" else away
        return np.stack(
            [(self.centre_z_mm - z) / self.spacing_mm + (rows - 1) / 2, u / self.spacing_mm + (columns - 1) / 2],
            axis=-1,
        )

    def slab(self, y: np.ndarray, lattice_mm: float) -> Slab:
        """Planes of a right knee, seen from the source through the pixels of the film's left half."""
        rows, columns = self.shape
        shrink = (self.source_y_mm - y) / SOURCE_DETECTOR_MM
        first_u = -(columns - 1) / 2 * self.spacing_mm
        first_v = self.centre_z_mm + (rows - 1) / 2 * self.spacing_mm
        return Slab(
            y,
            (-shrink * first_u - self.separation_mm, -shrink * self.spacing_mm),
            (self.source_z_mm + shrink * (first_v - self.source_z_mm), -shrink * self.spacing_mm),
            height=rows,
            width=columns // 2,
            factor=max(round(lattice_mm / self.spacing_mm), 1),
        )


def film_geometry(person: Person, spacing_mm: float) -> FilmGeometry:
    """How this person stands at the detector."""
    rng = stream(person.seed, person.index, "film_pose_R").spawn(1)[0]
    apart, height = np.clip(rng.normal(size=2), -2, 2)
    girth = max(knee.scale * knee.girth for knee in person.knees.values())
    return FilmGeometry(spacing_mm, float(92 + 8 * (girth - 1) / 0.1 + 4 * apart), float(-11 + 9 * height))


def render_film(
    person: Person, *, spacing_mm: float = 0.4, posed: dict[str, Posed] | None = None
) -> tuple[np.ndarray, float]:
    """Expose a bilateral film.

    Args:
        person: both knees; texture and noise follow its seed.
        spacing_mm: detector pixel.
        posed: the two knees by side, where their standing poses are already solved.

    Returns:
        pixels (H, W) uint16 of 12 bits, bone bright, the patient's right knee on the image's left; and the spacing on
        the detector, mm.
    """
    with single_threaded():
        geometry = film_geometry(person, spacing_mm)
        halves = []
        for side in SIDES:
            held = posed[side] if posed else solve_pose(person.knees[side], "film")
            texture = stream(person.seed, person.index, f"film_texture_{side}")
            lean, mineral = _paths(held, geometry, texture)
            primary = _primary(lean, mineral)
            halves.append(primary if side == "R" else primary.flip(-1))
        primary = torch.cat(halves, dim=-1)
        pixels = _detect(primary, spacing_mm, stream(person.seed, person.index, "film_noise"))
    return pixels, spacing_mm


def _paths(posed: Posed, geometry: FilmGeometry, texture: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Millimetres of lean tissue and of cortical bone along each ray of the film's left half; (H, W / 2) both."""
    rows, columns = geometry.shape
    shape = (rows, columns // 2)
    mineral, spongy = torch.zeros(shape), torch.zeros(shape)
    lean_slabs = []
    planes = np.arange(_DEPTH_MM, -_DEPTH_MM, -_PLANE_MM)
    for first in range(0, len(planes), _SLAB_PLANES):
        y = planes[first : first + _SLAB_PLANES]
        slab = geometry.slab(y, _BONE_LATTICE_MM)
        _add_bones(posed, slab, geometry.spacing_mm, mineral, spongy)
        soft = geometry.slab(y, _SOFT_LATTICE_MM)
        lean_slabs.append(_lean(posed, soft).sum(dim=0, keepdim=True))
    flat = soft.whole
    single = Window((slice(0, 1), *flat.nodes[1:]), (slice(0, 1), *flat.pixels[1:]))
    lean = soft.refine(torch.stack(lean_slabs).sum(dim=0), single)[0]
    pixel = geometry.spacing_mm
    # Trabeculae run along the load: streaks twice as long as wide, of a size that a film resolves.
    streaks = value_noise(texture, (1, *shape), (1, 3.6 / pixel, 1.1 / pixel))[0]
    clouds = value_noise(texture, (1, *shape), (1, 9.0 / pixel, 7.0 / pixel))[0]
    mineral = mineral + spongy * (1 + 0.085 * streaks + 0.07 * clouds)
    mineral = mineral + _small_balls(posed, geometry) / _PLANE_MM
    v = torch.linspace((rows - 1) / 2, -(rows - 1) / 2, rows)[:, None] * pixel + geometry.centre_z_mm
    u = torch.linspace(-(columns - 1) / 2 * pixel, -pixel / 2, columns // 2)[None, :]
    slant = torch.sqrt(
        1 + (u / SOURCE_DETECTOR_MM).square() + ((v - geometry.source_z_mm) / SOURCE_DETECTOR_MM).square()
    )
    length = _PLANE_MM * slant
    return lean * length, torch.relu(mineral) * length


def _lean(posed: Posed, slab: Slab) -> Tensor:
    """Lean-equivalent share of each node: fat counts 0.835 of muscle, skin and joint count as lean."""
    window = slab.whole
    thigh, calf, cap = (slab.points(window, frame) for frame in (posed.femur, posed.tibia, posed.patella))
    width = max(_SOFT_LATTICE_MM, 2.5)
    skin, fascia = Limb(posed).distances(thigh, calf, cap)
    within = occupancy(fascia, width)
    flesh = torch.zeros_like(skin)
    for muscle in muscles(posed):
        part = slab.window(muscle.box)
        if part is not None:
            share = occupancy(muscle.distance(slab.points(part, muscle.frame)), width)
            target = flesh[part.nodes]
            torch.maximum(target, share, out=target)
    s = posed.knee.scale
    joint = occupancy(ellipsoid(*calf, (0.0, 2 * s, 3 * s), (36 * s, 25 * s, 9 * s)), width)
    flesh = torch.maximum(flesh, joint) * within
    limb = occupancy(skin, width)
    rind = limb - occupancy(skin + 1.8, width)
    return limb * FAT_AS_LEAN + (1 - FAT_AS_LEAN) * torch.maximum(flesh, rind)


def _add_bones(posed: Posed, slab: Slab, spacing_mm: float, mineral: Tensor, spongy: Tensor) -> None:
    """Add each plane's cortical and spongy mineral, as fractions of cortical bone."""
    s = posed.knee.scale
    frames = {"femur": posed.femur, "tibia": posed.tibia, "fibula": posed.tibia, "patella": posed.patella}
    edge = max(spacing_mm, 0.7)
    for bone, box in composition.bone_boxes(posed).items():
        window = slab.window(box)
        if window is None:
            continue
        x, y, z = slab.points(window, frames[bone])
        distance = getattr(bones, bone)(posed.knee, x, y, z)
        if float(distance.min()) > edge:
            continue
        shell = composition.cortex_mm(posed, bone, x, y, z)
        width = slab.blur_mm(distance, edge)
        whole = occupancy(slab.refine(distance / width, window), 1.0)
        inner = occupancy(slab.refine((distance + shell) / width, window), 1.0)
        away = z.abs()
        fraction = TRABECULAR_JOINT + (TRABECULAR_SHAFT - TRABECULAR_JOINT) * smoothstep(away, 18 * s, 70 * s)
        # Spongiosa is densest under the surface that bears the load.
        fraction = fraction + 0.10 * (1 - smoothstep(-distance, 1.0, 9.0)) * (1 - smoothstep(away, 12 * s, 26 * s))
        if bone == "patella":
            fraction = torch.full_like(distance, 0.13)
        grade = composition.sclerosis_depth(posed, bone, x, z)
        if grade is not None:
            fraction = fraction + 0.16 * grade
        at = window.pixels[1:]
        mineral[at] += (whole - inner).sum(dim=0)
        spongy[at] += (inner * slab.refine(fraction, window)).sum(dim=0)


def _small_balls(posed: Posed, geometry: FilmGeometry) -> Tensor:
    """Cortical-equivalent millimetres of cysts (less spongiosa, more rim) and crystals, as chords through balls."""
    rows, columns = geometry.shape
    image = torch.zeros((rows, columns // 2))
    balls: list[tuple[np.ndarray, float, float]] = []
    for site in OSTEOPHYTE_SITES:
        cyst = posed.knee.cysts[site]
        if cyst.present:
            frame = posed.femur if site[0] == "F" else posed.tibia
            centre = frame.apply(np.array(bones.subchondral_centre(posed.knee, site, cyst)))
            balls.append((centre, cyst.radius_mm + 0.7, 0.30))
            balls.append((centre, cyst.radius_mm, -0.30 - TRABECULAR_JOINT))
    balls += [(ball[:3], float(ball[3]), CRYSTAL) for ball in composition.crystal_balls(posed)]
    for centre, radius, density in balls:
        row, column = geometry.project(centre, "R")
        scale = SOURCE_DETECTOR_MM / (geometry.source_y_mm - centre[1]) / geometry.spacing_mm
        reach = math.ceil(radius * scale) + 1
        r = torch.arange(max(round(row) - reach, 0), min(round(row) + reach + 1, rows))
        c = torch.arange(max(round(column) - reach, 0), min(round(column) + reach + 1, columns // 2))
        if not len(r) or not len(c):
            continue
        away = ((r[:, None] - row).square() + (c[None, :] - column).square()) / scale**2
        image[r[0] : r[-1] + 1, c[0] : c[-1] + 1] += density * 2 * torch.sqrt(torch.relu(radius**2 - away)).float()
    return image


def _primary(lean: Tensor, mineral: Tensor) -> Tensor:
    """Share of the beam's energy that passes: Beer-Lambert in eight energy bins."""
    passed = torch.zeros_like(lean)
    for share, mu_lean, mu_cortical in zip(SPECTRUM, LEAN_PER_MM, CORTICAL_PER_MM, strict=True):
        passed += share * torch.exp(-(mu_lean * lean + mu_cortical * mineral))
    return passed


def _gaussian(image: Tensor, sigma: float) -> Tensor:
    """Blur by `sigma` pixels, edges replicated; (H, W)."""
    reach = max(math.ceil(3 * sigma), 1)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = kernel / kernel.sum()
    image = image[None, None]
    image = conv2d(pad(image, (0, 0, reach, reach), mode="replicate"), kernel[None, None, :, None])
    return conv2d(pad(image, (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None, :])[0, 0]


def _equalise(density: np.ndarray, coarse: int, spacing_mm: float) -> np.ndarray:
    """Compress the dynamic range as a film's processing does: less of what varies slowly, edges as they are."""
    rows, columns = density.shape
    image = torch.from_numpy(np.maximum(density, 0).astype(np.float32))[None, None]
    small = interpolate(image, size=(rows // coarse, columns // coarse), mode="area")[0, 0]
    slow = _gaussian(small, _EQUALISE_MM / (coarse * spacing_mm))[None, None]
    slow = interpolate(slow, size=(rows, columns), mode="bilinear", align_corners=False)[0, 0]
    return density - _EQUALISE * slow.numpy().astype(np.float64)


def _detect(primary: Tensor, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Scatter, blur, photons, logarithm, and the window that exposure control and reader's display choose."""
    rows, columns = primary.shape
    coarse = max(round(6.4 / spacing_mm), 1)
    small = interpolate(primary[None, None], size=(rows // coarse, columns // coarse), mode="area")[0, 0]
    small = _gaussian(small, _SCATTER_MM / (coarse * spacing_mm))
    # In air the scatter comes from the limb beside it: bound it by what the limb itself lets through.
    haze = _SCATTER * small.clamp(max=0.25)
    haze = interpolate(haze[None, None], size=(rows, columns), mode="bilinear", align_corners=False)[0, 0]
    energy = _gaussian(primary + haze, max(_BLUR_MM / spacing_mm, 0.3)) if spacing_mm < 1 else primary + haze
    image = energy.numpy().astype(np.float64)
    limb = image < 0.45
    middle = np.median(image[limb]) if limb.any() else 0.05
    photons = _PHOTONS * (spacing_mm / 0.4) ** 2 / middle
    counts = np.maximum(rng.poisson(image * photons), 1) / photons
    density = _equalise(-np.log(counts), coarse, spacing_mm)
    low, high = np.percentile(density[limb], [1.0, 99.9]) if limb.any() else (0.0, 5.0)
    level = (density - low) / (high - low)
    toe, shoulder = (1 / (1 + np.exp(-_GAMMA * (end - _MIDDLE))) for end in (-0.05, 1.02))
    display = 1 / (1 + np.exp(-_GAMMA * (level - _MIDDLE)))
    scaled = np.clip((display - toe) / (shoulder - toe), 0, 1)
    return np.round(scaled * (2**BITS - 1)).astype(np.uint16)
