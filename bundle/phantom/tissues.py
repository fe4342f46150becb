"""What each tissue does to X-rays and to the water-excited gradient-echo signal; every number with its source."""

from __future__ import annotations

import math
from dataclasses import dataclass

TR_MS, TE_MS, FLIP_DEG = 20.0, 7.57, 12.0
"""COR T1W 3D FLASH WE at 3 T (PMC5871621, table 1)."""
FAT_EXCITATION = 0.08
"""Share of the fat signal that water excitation lets through (0.05-0.15; phantom.md 3.1)."""
_FAT = (0.90, 371.0, 25.0)


@dataclass(frozen=True)
class Relaxation:
    """Proton density relative to water, relaxation times in ms, fat fraction."""

    density: float
    t1_ms: float
    t2_star_ms: float
    fat: float = 0.0


RELAXATION: dict[str, Relaxation] = {
    "cartilage": Relaxation(0.80, 1016, 26),
    "deep_cartilage": Relaxation(0.76, 960, 21),
    "blood": Relaxation(0.90, 1600, 60),
    "fluid": Relaxation(1.00, 2564, 90),
    "muscle": Relaxation(0.80, 1256, 19, 0.04),
    "skin": Relaxation(0.70, 900, 12),
    "marrow_lesion": Relaxation(0.75, 1200, 18, 0.45),
    "granulation": Relaxation(0.85, 1300, 30, 0.10),
    "meniscus": Relaxation(0.70, 1000, 6),
    "hoffa_fat": Relaxation(0.90, 371, 25, 0.86),
    "intermuscular_fat": Relaxation(0.90, 371, 25, 0.90),
    "subcutaneous_fat": Relaxation(0.90, 371, 25, 0.92),
    "ligament": Relaxation(0.65, 900, 4.5),
    "tendon": Relaxation(0.60, 800, 2.0),
    "nerve": Relaxation(0.75, 1300, 16, 0.55),
    "marrow": Relaxation(0.85, 365, 12, 0.90),
    "cortex": Relaxation(0.15, 500, 0.5),
}
"""T1 of cartilage, muscle and fluid: Jordan et al. 2013 (PMC3310288); fat and marrow: Gold et al. 2004; the short T2*
are orders of magnitude (phantom.md 3.1)."""


def spoiled_gradient_echo(density: float, t1_ms: float, t2_star_ms: float) -> float:
    """Steady-state signal of one compartment, relative to the density of water.

    Source:
        Ernst equation with T2* decay: PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE/T2*), E1 = exp(-TR/T1).
    """
    e1 = math.exp(-TR_MS / t1_ms)
    flip = math.radians(FLIP_DEG)
    return density * math.sin(flip) * (1 - e1) / (1 - math.cos(flip) * e1) * math.exp(-TE_MS / t2_star_ms)


def compartments(tissue: str) -> tuple[float, float]:
    """Signal of the water of a tissue of `RELAXATION`, and of its fat were none of it suppressed."""
    t = RELAXATION[tissue]
    if t.fat > 0.8:
        # The table gives the times of the fat; the little water between its cells relaxes as muscle's does.
        water = spoiled_gradient_echo(t.density, RELAXATION["muscle"].t1_ms, t.t2_star_ms)
        fat = spoiled_gradient_echo(t.density, t.t1_ms, t.t2_star_ms)
    else:
        water = spoiled_gradient_echo(t.density, t.t1_ms, t.t2_star_ms)
        fat = spoiled_gradient_echo(*_FAT)
    return (1 - t.fat) * water, t.fat * fat


def signal(tissue: str) -> float:
    """Water-excited signal of a tissue of `RELAXATION`: its water, and the share of its fat that is excited."""
    water, fat = compartments(tissue)
    return water + FAT_EXCITATION * fat


SIGNAL: dict[str, float] = {tissue: signal(tissue) for tissue in RELAXATION}
"""Signal of each tissue; cartilage is 0.059, muscle 0.046."""

SPECTRUM = (0.07, 0.15, 0.18, 0.17, 0.15, 0.13, 0.10, 0.05)
"""Share of the detected energy in eight bins from 25 to 68 keV: 70 kVp, 12 degree tungsten anode, 2.5 mm aluminium."""
LEAN_PER_MM = tuple(mu / 10 for mu in (0.583, 0.388, 0.302, 0.259, 0.238, 0.223, 0.212, 0.203))
"""Attenuation of lean tissue in those bins, 1/mm (xraydb cross sections of ICRU-44 compositions, phantom.md 3.2)."""
CORTICAL_PER_MM = tuple(mu / 10 for mu in (4.06, 2.13, 1.44, 1.06, 0.815, 0.681, 0.586, 0.507))
"""Attenuation of cortical bone in those bins, 1/mm, same source."""
FAT_AS_LEAN = 0.835
"""A millimetre of fat attenuates as this many of lean tissue (0.208 / 0.249, phantom.md 3.2)."""
TRABECULAR_JOINT, TRABECULAR_SHAFT = 0.20, 0.05
"""Mineral of spongiosa as a fraction of cortical bone's, near the joint and in the shaft."""
CRYSTAL = 0.45
"""Calcium pyrophosphate deposits as a fraction of cortical bone (phantom.md 4)."""
