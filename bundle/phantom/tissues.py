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

ENERGIES_KEV = (25.0, 31.0, 37.0, 43.0, 50.0, 56.0, 62.0, 68.0, 74.0, 80.0, 86.0)
"""Middles of the energy bins of a film's spectrum."""
SPECTRUM = (0.07, 0.15, 0.18, 0.17, 0.15, 0.13, 0.10, 0.05, 0.0, 0.0, 0.0)
"""Share of the detected energy in those bins: 70 kVp, 12 degree tungsten anode, 2.5 mm aluminium (phantom.md 3.2)."""
LEAN_PER_MM = tuple(mu / 10 for mu in (0.583, 0.388, 0.302, 0.259, 0.238, 0.223, 0.212, 0.203, 0.198, 0.191, 0.187))
"""Attenuation of lean tissue in those bins, 1/mm (xraydb cross sections of ICRU-44 compositions, phantom.md 3.2; beyond
70 keV NIST's table of skeletal muscle times 1.05 g/cm3)."""
CORTICAL_PER_MM = tuple(mu / 10 for mu in (4.06, 2.13, 1.44, 1.06, 0.815, 0.681, 0.586, 0.507, 0.470, 0.428, 0.403))
"""Attenuation of cortical bone in those bins, 1/mm, same sources (NIST's cortical bone times 1.92 g/cm3)."""
_ALUMINIUM_PER_MM = (0.503, 0.282, 0.185, 0.133, 0.099, 0.083, 0.072, 0.065, 0.059, 0.055, 0.052)
"""Attenuation of aluminium in those bins, 1/mm (NIST, interpolated in the logarithms, times 2.699 g/cm3)."""
_FILTER_MM = 3.5
"""Aluminium of tube and filter together that brings Kramers' spectrum of 70 kV nearest to `SPECTRUM`."""


def kramers_spectrum(kv: float) -> tuple[float, ...]:
    """Share of a tube's energy in the bins of `ENERGIES_KEV`.

    Source:
        Kramers, Phil. Mag. 46, 1923: the energy between E and E + dE falls as kV - E; Beer-Lambert in the filter.
    """
    steps = [(ENERGIES_KEV[k + 1] - ENERGIES_KEV[k - 1]) / 2 for k in range(1, len(ENERGIES_KEV) - 1)]
    steps = [steps[0], *steps, steps[-1]]
    energy = []
    for middle, step, mu in zip(ENERGIES_KEV, steps, _ALUMINIUM_PER_MM, strict=True):
        low, high = middle - step / 2, min(middle + step / 2, kv)
        energy.append(max(high - low, 0.0) * max(kv - (low + high) / 2, 0.0) * math.exp(-mu * _FILTER_MM))
    return tuple(part / sum(energy) for part in energy)


SPECTRA: dict[int, tuple[float, ...]] = {60: kramers_spectrum(60), 70: SPECTRUM, 90: kramers_spectrum(90)}
"""Spectrum by tube voltage, kV: 70 as computed by spekpy, the others by Kramers' law."""
FAT_AS_LEAN = 0.835
"""A millimetre of fat attenuates as this many of lean tissue (0.208 / 0.249, phantom.md 3.2)."""
TRABECULAR_JOINT, TRABECULAR_SHAFT = 0.20, 0.05
"""Mineral of spongiosa as a fraction of cortical bone's, near the joint and in the shaft."""
METAL = 18.0
"""A millimetre of steel or cobalt-chromium attenuates as this many of cortical bone (NIST: iron at 50 keV,
1.54 / 0.0815 1/mm is 19)."""
CRYSTAL = 0.45
"""Calcium pyrophosphate deposits as a fraction of cortical bone (phantom.md 4)."""
