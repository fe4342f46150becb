"""A total knee replacement on a film: a metal shell over the condyles, a tray and stem in the sawn tibia."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bundle.phantom import bones
from bundle.phantom.lattice import Box, Slab, occupancy
from bundle.phantom.pose import Posed
from bundle.phantom.sdf import capsule, ellipse, smooth_union

_SHELL_MM = 8.0
_SAW_MM, _TRAY_MM = 8.5, 4.0
"""Bone taken off the plateau, whose room the tray and the polyethylene (which casts no shadow) fill."""
_STEM_MM = 42.0


class Implant:
    """The components on a posed knee; sizes are a woman's, grown by its scale.

    Args:
        posed: the knee in the frame of the beam.
    """

    def __init__(self, posed: Posed) -> None:
        self._posed = posed

    def sawn(self, bone: str, distance: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Distance to what is left of a bone, in its own frame, mm."""
        if bone != "tibia":
            return distance
        return torch.maximum(distance, (z + _SAW_MM * self._posed.knee.scale).expand(distance.shape))

    def add(self, slab: Slab, spacing_mm: float, metal: Tensor) -> None:
        """Add each plane's share of metal, (H, w)."""
        s = self._posed.knee.scale
        edge = max(spacing_mm, 0.7)
        for frame, distance, reach in (
            (self._posed.femur, self._femoral, (0.0, -2.0 * s, 14.0 * s)),
            (self._posed.tibia, self._tibial, (0.0, 0.0, -26.0 * s)),
        ):
            middle = frame.apply(np.array(reach))
            window = slab.window(Box(*((float(m) - 48 * s, float(m) + 48 * s) for m in middle)))
            if window is None:
                continue
            to_metal = distance(*slab.points(window, frame))
            width = slab.blur_mm(to_metal, edge)
            metal[window.pixels[1:]] += occupancy(slab.refine(to_metal / width, window), 1.0).sum(dim=0)

    def _femoral(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Distance to the femoral component: lined condyles, a flange in front, two pegs."""
        s = self._posed.knee.scale
        surface = bones.femur(self._posed.knee, x, y, z)
        # The flange in front reaches higher than the posterior condyles.
        top = (z - (26.0 * s + 0.45 * torch.relu(-y - 8 * s))).expand(surface.shape)
        radius = sum(self._posed.knee.condyle_radius) / 2 * s
        behind, height = bones.femur_axis_centre(self._posed.knee)
        forward, up = (c * s for c in bones.TROCHLEA_CENTRE)
        posterior = torch.sqrt((y - behind).square() + (z - height).square()) - radius
        anterior = torch.sqrt((y - forward).square() + (z - up).square()) - bones.TROCHLEA_RADIUS * s
        # Cut on the saw's planes, seen from the side: metal lines the profile and leaves the flanks bare.
        within = smooth_union(posterior, anterior, 5.0 * s) + _SHELL_MM * s
        shell = torch.maximum(torch.maximum(surface - 0.5, -within), top)
        shell = torch.maximum(shell, (x.abs() - 33.0 * s).expand(shell.shape))
        for middle in bones.CONDYLE_X:
            shell = torch.minimum(
                shell, capsule(x, y, z, (middle * s, 2 * s, 6 * s), (middle * s, 2 * s, 20 * s), (3.2 * s, 3.2 * s))
            )
        return shell

    def _tibial(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Distance to the tray, a disc as the sawn tibia's outline, and its keeled stem."""
        s = self._posed.knee.scale
        halves = [
            ellipse(x - cx * s, y - cy * s, (rx - 0.8) * s, (ry - 1.5) * s) for cx, cy, rx, ry in bones.PLATEAU.values()
        ]
        disc = smooth_union(halves[0], halves[1], 9.0 * s)
        top = -_SAW_MM * s + _TRAY_MM
        tray = torch.maximum(disc, (z - top + _TRAY_MM / 2).abs() - _TRAY_MM / 2)
        stem = capsule(
            x, y, z, (0.0, -2 * s, top - 4), (-1.0 * s, -3 * s, -(_SAW_MM + _STEM_MM) * s), (6.5 * s, 6.5 * s)
        )
        keel = torch.maximum(
            torch.maximum((y + 3 * s).abs() - 1.6, x.abs() - (17 * s + 0.55 * (z + _SAW_MM * s))),
            (z + (_SAW_MM + 10) * s).abs() - 11 * s,
        )
        return torch.minimum(torch.minimum(tray, stem), keel)
