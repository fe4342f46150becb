"""Standing and supine: where each bone lies in a scan, with the contact of the bones solved for the joint space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from bundle.phantom import bones
from bundle.phantom.anatomy import COMPARTMENTS, Knee, KneePose

SCANS = ("film", "mri")
_CONTACT_X = (15.0, 29.0)
"""Distance from the midline of the bearing part of a condyle, template mm; the flanks of the spines lie inside it."""
_ITERATIONS = 12
_TRACES = 5
_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class Rigid:
    """A rigid motion, bone frame to scan frame: `rotation @ p + shift`; rotation (3, 3), shift (3,) in mm."""

    rotation: np.ndarray
    shift: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Move points, shape (..., 3)."""
        return np.asarray(points) @ self.rotation.T + self.shift

    def into(self, points: np.ndarray) -> np.ndarray:
        """Scan frame to bone frame."""
        return (np.asarray(points) - self.shift) @ self.rotation

    def then(self, outer: Rigid) -> Rigid:
        """This motion, then `outer`."""
        return Rigid(outer.rotation @ self.rotation, outer.apply(self.shift))


@dataclass(frozen=True)
class Posed:
    """A knee held for one scan.

    Args:
        knee: the shape; scan: `film` or `mri`.
        femur, tibia, patella: bone frame to scan frame, whose origin is the middle of the field of view.
        joint_space_mm: smallest gap between the bones along the tibia, by compartment, as solved.
    """

    knee: Knee
    scan: str
    femur: Rigid
    tibia: Rigid
    patella: Rigid
    joint_space_mm: dict[str, float]


def _about_x(degrees: float) -> np.ndarray:
    """Rotation that moves superior points backwards (+y) for positive angles."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def _about_y(degrees: float) -> np.ndarray:
    """Rotation that moves superior points laterally for positive angles."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _about_z(degrees: float) -> np.ndarray:
    """Rotation that moves anterior points medially for negative angles, laterally for positive ones."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _condyle_surface(knee: Knee) -> dict[str, np.ndarray]:
    """Points of the weight-bearing femur, femur frame, by compartment, (n, 3): rays cast upwards onto it."""
    s = knee.scale
    across = torch.arange(_CONTACT_X[0], _CONTACT_X[1], 1.5) * s
    along = torch.arange(-24.0, 27.0, 1.5) * s
    # Both compartments at once: what costs is the number of operations, not of points.
    signs = torch.tensor([-1.0, 1.0])
    x, y = torch.broadcast_tensors(signs[:, None, None] * across[:, None], along)
    z = torch.full_like(x, -12.0)
    for _ in range(14):
        z = z + 0.9 * bones.femur(knee, x, y, z).clamp(max=25)
    on_bone = bones.femur(knee, x, y, z).abs() < 0.15
    points = torch.stack([x, y, z], dim=-1)
    return {
        compartment: part[held].numpy().astype(float)
        for compartment, part, held in zip(COMPARTMENTS, points, on_bone, strict=True)
    }


def _gaps(knee: Knee, surfaces: dict[str, np.ndarray], femur_in_tibia: Rigid) -> np.ndarray:
    """Smallest gap between femur and tibia along the tibia's axis, medial and lateral, mm; negative where they overlap.

    Along the axis, as joint space is read: the flank of a spine beside a condyle is no joint space.
    """
    points = np.concatenate([surfaces[compartment] for compartment in COMPARTMENTS])
    x, y, z = torch.tensor(femur_in_tibia.apply(points), dtype=torch.float32).T
    gap = torch.zeros_like(z)
    for _ in range(_TRACES):
        gap = gap + bones.tibia(knee, x, y, z - gap)
    parts = gap.split([len(surfaces[compartment]) for compartment in COMPARTMENTS])
    return np.array([float(part.min()) for part in parts])


def solve_pose(knee: Knee, scan: str) -> Posed:
    """Hold the knee for a scan so that each compartment has the joint space its readings ask for.

    The femur flexes about its posterior condyles; then its height and its angle in the frontal plane are solved, so
    that narrowing on one side makes real varus or valgus.

    Args:
        knee: the shape, with `joint_space_film` and `joint_space_mri`.
        scan: `film` (standing, loaded) or `mri` (supine).

    Returns:
        the poses of the bones.

    Raises:
        ValueError: on an unknown `scan`.
        RuntimeError: when no height and angle give the joint spaces.
    """
    if scan not in SCANS:
        raise ValueError(f"`scan` must be one of {', '.join(SCANS)}, got {scan!r}.")
    held: KneePose = knee.film_pose if scan == "film" else knee.mri_pose
    wanted = knee.joint_space_film if scan == "film" else knee.joint_space_mri
    target = np.array([wanted[compartment] for compartment in COMPARTMENTS])
    surfaces = _condyle_surface(knee)
    axis_y, axis_z = bones.femur_axis_centre(knee)
    axis = np.array([0.0, axis_y, axis_z])
    roll_back = np.array([0.0, 0.06 * held.flexion, 0.0])

    height, angle = float(target.mean()) + 1.0, 0.0
    lever = 20.0 * knee.scale

    def femur_in_tibia() -> Rigid:
        rotation = _about_y(angle) @ _about_x(held.flexion)
        return Rigid(rotation, axis - rotation @ axis + roll_back + np.array([0.0, 0.0, height]))

    for _ in range(_ITERATIONS):
        error = _gaps(knee, surfaces, femur_in_tibia()) - target
        if np.abs(error).max() < _TOLERANCE_MM:
            break
        height -= float(error.mean())
        # A positive angle swings the medial condyle (x < 0) up and the lateral one down.
        angle -= float(np.degrees((error[0] - error[1]) / (2 * lever))) * 0.9
    gaps = _gaps(knee, surfaces, femur_in_tibia())
    if np.abs(gaps - target).max() > 0.1:
        raise RuntimeError(
            f"No {scan} pose gives the joint spaces {target.round(2)} mm (reached {gaps.round(2)}); "
            "the shape is outside what the generator draws."
        )
    # Half of the frontal angle goes to either bone.
    lean = _about_z(held.rotation) @ _about_y(held.abduction - angle / 2) @ _about_x(-held.tibia_tilt)
    tibia = Rigid(lean, np.asarray(held.offset_mm) - lean @ np.array([0.0, 0.0, float(target.mean()) / 2]))
    femur = femur_in_tibia().then(tibia)
    return Posed(
        knee,
        scan,
        femur,
        tibia,
        _patella_pose(knee, held, femur),
        dict(zip(COMPARTMENTS, map(float, gaps), strict=True)),
    )


def _patella_pose(knee: Knee, held: KneePose, femur: Rigid) -> Rigid:
    """The patella glides round the trochlea by two thirds of the flexion and turns with it."""
    s = knee.scale
    centre_y, centre_z = bones.TROCHLEA_CENTRE
    above = 26.0 - 0.7 * held.flexion + knee.patella_height * 0.9
    reach = bones.TROCHLEA_RADIUS - knee.groove_depth + 8.0 + knee.patellar_cartilage + 2.6
    middle = s * np.array(
        [1.5, centre_y - reach * math.cos(math.radians(above)), centre_z + reach * math.sin(math.radians(above)) * 0.9]
    )
    turn = _about_x(-0.75 * held.flexion + 4.0)
    return Rigid(turn, middle).then(femur)
