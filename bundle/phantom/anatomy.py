"""From a seed to the shape of a person's two knees: every latent drawn first, then gated by the readings.

The canonical frame of a knee is millimetres with x lateral, y posterior, z superior; in patient coordinates (LPS) that
is a left knee, and a right knee is its mirror, by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bundle.geometry import SIDES, check_side
from bundle.phantom.population import Covariates, derive_kl, sample_covariates, sample_readings
from bundle.phantom.streams import stream
from bundle.phantom.worlds import NATURAL, World
from bundle.readings import grade_table

COMPARTMENTS = ("medial", "lateral")
MALE_SCALE = 1.115
"""Men's bones against women's (JOSR 2021, s13018-021-02708-8: 74.9 / 67.3 and 76.0 / 67.3 mm)."""
_JOINT_SPACE_MM = {"medial": (4.9, 3.7, 2.2, 0.9), "lateral": (6.2, 4.6, 2.8, 0.9)}
_JOINT_SPACE_SD = (0.55, 0.35, 0.35, 0.2)
"""Film joint space by narrowing grade, clipped at 1.4 SD so that grades stay in order; grade 3 is the middle of what
OARSI's atlas calls so (a loss of 67 to 100 %). Bone on bone would leave no edge for a measurement to stand on."""
_OSTEOPHYTE_MM = (0.0, 2.2, 4.2, 7.0)
OSTEOPHYTE_SITES = ("FM", "FL", "TM", "TL")
_WARP_MODES = 5
_ONE_FRAME = 0.9
"""Correlation of the two shins' lean at the film; a design value."""


@dataclass(frozen=True)
class Warp:
    """Smooth displacement of a bone: sine waves of long wavelength, amplitudes of tenths of a millimetre.

    Args:
        amplitude: (modes, 3), mm; frequency: (modes, 3), radians a mm; phase: (modes,), radians.
    """

    amplitude: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, sd_mm: float) -> Warp:
        """Draw five modes with wavelengths of 60 to 140 mm."""
        direction = rng.normal(size=(_WARP_MODES, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        wavelength = rng.uniform(60, 140, size=(_WARP_MODES, 1))
        return cls(
            rng.normal(0, sd_mm, size=(_WARP_MODES, 3)),
            direction * 2 * np.pi / wavelength,
            rng.uniform(0, 2 * np.pi, size=_WARP_MODES),
        )


@dataclass(frozen=True)
class Osteophyte:
    """A marginal spur: `size_mm` 0 is none; the rest is where it would sit."""

    size_mm: float
    along_mm: float
    half_length_mm: float
    lift_mm: float


@dataclass(frozen=True)
class Lesion:
    """A ball in the subchondral bone: radius, centre (x, y of the compartment, depth under the surface), mm."""

    present: bool
    radius_mm: float
    across_mm: float
    along_mm: float
    depth_mm: float


@dataclass(frozen=True)
class KneePose:
    """How a knee is held in a scan, before the bones' contact is solved; degrees and mm, canonical frame.

    Args:
        tibia_tilt: the top of the tibia leans forward by this much.
        flexion: of the femur against the tibia.
        rotation: of the whole knee about z, front of the knee medial-wards when positive.
        abduction: of the whole knee about y.
        offset_mm: of the joint from the middle of the field of view.
    """

    tibia_tilt: float
    flexion: float
    rotation: float
    abduction: float
    offset_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Knee:
    """Everything that makes one knee: build, shape, findings, and its two poses. Lengths in mm unless said."""

    side: str
    readings: Mapping[str, int]
    scale: float
    aspect: float
    condyle_radius: tuple[float, float]
    condyle_width: tuple[float, float]
    notch_half_width: float
    groove_depth: float
    plateau_dish: tuple[float, float]
    plateau_slope: float
    spine_height: tuple[float, float]
    valgus: float
    shaft: float
    patella_width: float
    patella_height: float
    fibula: tuple[float, float, float]
    warps: Mapping[str, Warp]
    joint_space_film: Mapping[str, float]
    joint_space_mri: Mapping[str, float]
    cartilage_split: float
    patellar_cartilage: float
    osteophytes: Mapping[str, Osteophyte]
    sclerosis: Mapping[str, int]
    cysts: Mapping[str, Lesion]
    marrow_lesions: Mapping[str, Lesion]
    attrition_mm: Mapping[str, float]
    attrition_along_mm: Mapping[str, float]
    meniscus_extrusion: Mapping[str, float]
    crystals: Mapping[str, np.ndarray]
    effusion: float
    muscle: float
    fat: float
    girth: float
    vessel_shift: tuple[float, float]
    film_pose: KneePose
    mri_pose: KneePose


@dataclass(frozen=True)
class Person:
    """A participant: covariates and both knees.

    Args:
        seed: of the cohort; index: in it. Renderers draw texture and noise from these.
        knees: `R` and `L`.
        world: the statistics of pose, exposure, scanner and shape they were drawn from.
        draw: which MRI of the knees: 0 is the participant's own, others have other texture, field, coil and noise.
        enrich: whether rare findings were raised to one knee in four.
    """

    seed: int
    index: int
    covariates: Covariates
    knees: Mapping[str, Knee]
    world: World = NATURAL
    draw: int = 0
    enrich: bool = False


def sample_person(
    seed: int,
    index: int,
    *,
    enrich: bool = False,
    readings: Mapping[str, Mapping[str, int]] | None = None,
    world: World = NATURAL,
) -> Person:
    """Draw participant `index` of cohort `seed`; no other participant has a say in it.

    Args:
        seed: of the cohort, from 0.
        index: participant, from 0.
        enrich: raise every rare finding to one knee in four.
        readings: grades that replace drawn ones, by side; all else stays as drawn. KL follows and may not be given.
        world: the statistics to draw from; the underlying draws are the same in every world.

    Returns:
        the person; the same arguments give the same one in any process.

    Raises:
        ValueError: on a negative seed or index, an unknown side, reading or grade, or a given KL.
    """
    covariates = sample_covariates(seed, index)
    grades = sample_readings(seed, index, covariates, enrich=enrich)
    for side, given in (readings or {}).items():
        check_side(side)
        grade_table("oai").validate(given, where=f"`readings` of side {side}")
        if "XRKL" in given:
            raise ValueError("`readings` may not hold XRKL: it follows from narrowing and osteophytes.")
        grades[side] |= given
        grades[side]["XRKL"] = derive_kl(grades[side])
    shared = stream(seed, index, "identity").normal(size=12)
    knees = {side: draw_knee(seed, index, side, covariates, grades[side], shared, world=world) for side in SIDES}
    return Person(seed, index, covariates, knees, world, enrich=enrich)


def draw_knee(
    seed: int,
    index: int,
    side: str,
    covariates: Covariates,
    readings: Mapping[str, int],
    shared: np.ndarray,
    *,
    world: World = NATURAL,
    draw: int = 0,
) -> Knee:
    """Draw one knee.

    Args:
        seed: of the cohort.
        index: participant.
        side: `R` or `L`.
        covariates: whose sex, height and BMI set the build.
        readings: true grades, which gate the findings.
        shared: 12 normals that make the two sides of a person alike.
        world: the statistics to draw from.
        draw: 0 for the participant's own knee, from 1 for other knees with the same arguments.
    """
    rng = stream(seed, index, f"shape_{side}", draw)
    male = covariates.sex == "M"

    def latent(k: int, likeness: float = 0.9) -> float:
        return likeness * shared[k] + np.sqrt(1 - likeness**2) * rng.normal()

    mean_height = 1765.0 if male else 1625.0
    by_height = 0.7 * (covariates.height_mm / mean_height - 1)
    scale = (MALE_SCALE if male else 1.0) * (1 + by_height + 0.03 * np.clip(latent(0, 0.97), -2.2, 2.2))
    scale *= world.bone_scale
    grown = 1.07 if male else 1.0
    film, mri, attrition, extrusion = {}, {}, {}, {}
    attrition_along = {}
    for compartment, letter in zip(COMPARTMENTS, "ML", strict=True):
        grade = readings[f"XRJS{letter}"]
        width = _JOINT_SPACE_MM[compartment][grade] + _JOINT_SPACE_SD[grade] * float(np.clip(rng.normal(), -1.4, 1.4))
        film[compartment] = width * (grown if grade < 3 else 1.0)
        mri[compartment] = film[compartment] * 1.04 + 0.10 + 0.06 * abs(float(rng.normal()))
        depth, along = float(np.clip(rng.normal(), -1.5, 1.5)), float(np.clip(rng.normal(2, 6), -8, 12))
        level = readings[f"XRATT{letter}"]
        attrition[compartment] = max(1.6 * level + 0.5 * depth, 0.8) if level else 0.0
        attrition_along[compartment] = along
        extrusion[compartment] = 0.8 + 1.3 * grade + 0.4 * float(np.clip(rng.normal(), -1.5, 1.5))
    spurs, cysts, lesions = {}, {}, {}
    for site in OSTEOPHYTE_SITES:
        size, along, half, lift = rng.normal(size=4)
        full = _OSTEOPHYTE_MM[readings[f"XROS{site}"]]
        spurs[site] = Osteophyte(
            full * (1 + 0.10 * float(np.clip(size, -1.5, 1.5))),
            float(np.clip(5 * along, -9, 9)),
            float(np.clip(11 + 2 * half, 7, 15)),
            float(np.clip(0.8 * lift, -1.2, 1.2)),
        )
        radius, along, across, depth = rng.normal(size=4)
        grade = readings[f"XRCY{site}"]
        cysts[site] = Lesion(
            grade > 0,
            float(np.clip(3.6 + 0.4 * radius, 3.2, 4.5)) * (1.25 if grade > 1 else 1.0),
            float(np.clip(4 * across, -6, 6)),
            float(np.clip(2 + 7 * along, -9, 13)),
            float(np.clip(5.5 + 0.8 * depth, 4.0, 7.0)),
        )
        chance, radius, along, across = rng.random(), *rng.normal(size=3)
        likely = 0.03 + 0.22 * readings[f"XRSC{site}"] + 0.35 * grade
        lesions[site] = Lesion(
            bool(chance < likely),
            float(np.clip(8 + 1.8 * radius, 5, 12)),
            float(np.clip(4 * across, -7, 7)),
            float(np.clip(2 + 7 * along, -10, 13)),
            5.0,
        )
    effusion = (0.8 + 0.9 * readings["XRKL"]) * float(np.exp(0.25 * np.clip(rng.normal(), -2, 2)))
    fat = max(7 + 0.75 * (covariates.bmi - 25) + (0 if male else 5) + 1.2 * latent(9), 3.0)
    muscle = (1.06 if male else 0.97) * (1 + 0.012 * (covariates.bmi - 28) + 0.04 * latent(10))
    return Knee(
        side=side,
        readings=dict(readings),
        scale=float(scale),
        aspect=float(world.bone_aspect * np.exp(0.03 * np.clip(latent(1), -2.2, 2.2))),
        condyle_radius=(19.6 + 0.7 * latent(2), 19.2 + 0.7 * latent(3)),
        condyle_width=(12.6 + 0.6 * latent(4), 13.2 + 0.6 * latent(4)),
        notch_half_width=float(np.clip(9.6 + 0.9 * latent(5), 7.6, 11.6)),
        groove_depth=float(np.clip(5.0 + 0.8 * latent(5), 3.2, 6.8)),
        plateau_dish=(1.5 + 0.4 * float(rng.normal()), -0.6 + 0.3 * float(rng.normal())),
        plateau_slope=float(np.clip(7 + 2 * latent(6), 2.5, 11.5)),
        spine_height=(9.0 + 0.8 * float(rng.normal()), 7.8 + 0.8 * float(rng.normal())),
        valgus=float(np.clip(5.5 + 1.3 * latent(7), 2.5, 8.5)),
        shaft=float(np.exp(0.05 * latent(8))),
        patella_width=21.0 + 0.9 * latent(8),
        patella_height=float(np.clip(2.5 * rng.normal(), -5, 5)),
        fibula=(1.2 * float(rng.normal()), 1.5 * float(rng.normal()), 2.2 * float(rng.normal())),
        warps={bone: Warp.draw(rng, world.warp_mm) for bone in ("femur", "tibia", "patella")},
        joint_space_film=film,
        joint_space_mri=mri,
        cartilage_split=float(np.clip(0.5 + 0.03 * rng.normal(), 0.43, 0.57)),
        patellar_cartilage=float(2.7 * grown * (1 - 0.12 * readings["XRKL"]) * np.exp(0.08 * rng.normal())),
        osteophytes=spurs,
        sclerosis={site: readings[f"XRSC{site}"] for site in OSTEOPHYTE_SITES},
        cysts=cysts,
        marrow_lesions=lesions,
        attrition_mm=attrition,
        attrition_along_mm=attrition_along,
        meniscus_extrusion=extrusion,
        crystals=_draw_crystals(stream(seed, index, f"crystals_{side}", draw), readings),
        effusion=effusion,
        muscle=float(muscle),
        fat=float(fat),
        girth=float(np.exp(0.03 * latent(11))),
        vessel_shift=(2.5 * float(rng.normal()), 1.5 * float(rng.normal())),
        film_pose=_film_pose({name: stream(seed, index, f"film_pose_{name}", draw) for name in SIDES}, side, world),
        mri_pose=_mri_pose(stream(seed, index, f"mri_pose_{side}", draw), world),
    )


def _draw_crystals(rng: np.random.Generator, readings: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Deposits of each compartment: (n, 4) of across and along in the plateau's unit ellipse, share of the gap, radius.

    All are drawn; a compartment without chondrocalcinosis gets an empty array.
    """
    crystals = {}
    for compartment, letter in zip(COMPARTMENTS, "ML", strict=True):
        count = 90
        angle, reach = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0.08, 0.95, count))
        drawn = np.stack(
            [
                reach * np.cos(angle),
                reach * np.sin(angle),
                rng.uniform(0.25, 0.75, count),
                rng.uniform(0.5, 0.9, count),
            ],
            axis=1,
        )
        crystals[compartment] = drawn if readings[f"XRCH{letter}"] else drawn[:0]
    return crystals


def _film_pose(rngs: Mapping[str, np.random.Generator], side: str, world: World) -> KneePose:
    """Standing, fixed flexion: knee and thigh against the frame, so that the shin leans forward about 17 degrees.

    Then a plateau that slopes back by 7 degrees lies along the beam, 10 degrees caudal; what remains of that tilt,
    3 degrees SD, is what makes measured joint space noisy (phantom.md 3.2). Both legs stand against one frame, so the
    left shin leans much as the right one does.
    """
    draws = {name: np.clip(rng.normal(size=6), -2, 2) for name, rng in rngs.items()}
    tilt, flexion, rotation, abduction, lateral, up = draws[side]
    if side == "L":
        tilt = _ONE_FRAME * draws["R"][0] + np.sqrt(1 - _ONE_FRAME**2) * tilt
    return KneePose(
        tibia_tilt=_normal(world.film_tilt_deg, tilt),
        flexion=_normal(world.film_flexion_deg, flexion),
        rotation=_normal(world.film_rotation_deg, rotation),
        abduction=float(1.2 * abduction),
        offset_mm=(float(4 * lateral), 0.0, float(6 * up)),
    )


def _mri_pose(rng: np.random.Generator, world: World) -> KneePose:
    """Supine in the coil, nearly straight; a technologist centres the field of view to a millimetre.

    The film tells nothing of this pose, so what it adds is lost to any model: with spreads half as wide again, ridge
    regression from films came within 1 dB of the oracle (docs/phantom.md).
    """
    tilt, flexion, rotation, abduction, lateral, deep, up = np.clip(rng.normal(size=7), -2.2, 2.2)
    return KneePose(
        tibia_tilt=float(3 + 1.0 * tilt),
        flexion=max(_normal(world.mri_flexion_deg, flexion), 2.0),
        rotation=_normal(world.mri_rotation_deg, rotation),
        abduction=float(0.5 * abduction),
        offset_mm=(float(0.5 * lateral), float(0.5 * deep), float(0.8 * up)),
    )


def _normal(mean_sd: tuple[float, float], drawn: float) -> float:
    mean, sd = mean_sd
    return float(mean + sd * drawn)
