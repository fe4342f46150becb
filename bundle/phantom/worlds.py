"""The statistics that a cohort is drawn from, and shifted ones that no model has been trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class World:
    """What varies between clinics, scanners and populations rather than between people.

    Args:
        film_tilt_deg: mean and SD of the shin's lean at the film.
        film_flexion_deg: mean and SD of the standing knee's flexion.
        film_rotation_deg: mean and SD of its rotation about z.
        mri_flexion_deg: mean and SD of the supine knee's flexion.
        mri_rotation_deg: mean and SD of its rotation about z.
        tube_kv: tube voltage, one of `tissues.SPECTRA`.
        film_photons: photons in a 0.4 mm pixel behind the middle of the knee.
        film_scatter: scattered against primary radiation.
        film_blur_mm: SD of the detector's blur.
        mri_noise: SD of each channel at 0.625 mm, in units of `tissues.SIGNAL`.
        fat_excitation: share of the fat signal that water excitation lets through.
        coil_falloff: loss of the coil's sensitivity at the ends of the field of view.
        bone_scale: factor on every length of the bones.
        bone_aspect: factor on width against depth of the bones.
        warp_mm: SD of the bones' smooth displacement.
        unread: share of readings that are missing beyond OAI's pattern.
        all_read: share of participants whose films are read for every finding, against OAI's pattern.
        certain: readings, without their last letter, that every reader writes down as they are.
    """

    film_tilt_deg: tuple[float, float] = (17.0, 2.5)
    film_flexion_deg: tuple[float, float] = (22.5, 1.5)
    film_rotation_deg: tuple[float, float] = (-6.0, 3.0)
    mri_flexion_deg: tuple[float, float] = (8.0, 1.2)
    mri_rotation_deg: tuple[float, float] = (-4.0, 1.0)
    tube_kv: int = 70
    film_photons: float = 1300.0
    film_scatter: float = 0.35
    film_blur_mm: float = 0.22
    mri_noise: float = 0.0022
    fat_excitation: float = 0.08
    coil_falloff: float = 0.16
    bone_scale: float = 1.0
    bone_aspect: float = 1.0
    warp_mm: float = 0.45
    unread: float = 0.0
    all_read: float = 0.0
    certain: tuple[str, ...] = ()


NATURAL = World()
WORLDS: dict[str, World] = {
    "natural": NATURAL,
    "pose": replace(
        NATURAL,
        film_tilt_deg=(13.0, 4.0),
        film_flexion_deg=(28.0, 4.0),
        film_rotation_deg=(2.0, 6.0),
        mri_flexion_deg=(14.0, 4.0),
        mri_rotation_deg=(4.0, 4.0),
    ),
    "exposure": replace(NATURAL, tube_kv=60, film_photons=400.0, film_scatter=0.7, film_blur_mm=0.4),
    "scanner": replace(NATURAL, mri_noise=0.0044, fat_excitation=0.16, coil_falloff=0.35),
    "anatomy": replace(NATURAL, bone_scale=0.93, bone_aspect=1.05, warp_mm=0.9),
    "missing": replace(NATURAL, unread=0.5),
}
"""Values of `--shift`; design values, each well outside what the natural world draws."""
