"""Signed distances of simple solids, in the unit of their coordinates; negative inside.

Coordinates are broadcastable tensors `x, y, z`; every function is elementwise, so any lattice will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

FAR = 1e3
"""Distance written where a structure is known to be absent."""


def smooth_union(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Union of two solids whose seam is filleted over about `k`.

    Source:
        Quilez, "Smooth minimum", quadratic polynomial form.
    """
    return torch.minimum(a, b) - torch.relu(k - (a - b).abs()).square() / (4 * k)


def smooth_cut(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Solid `a` without solid `b`, the edge rounded over about `k`."""
    return -smooth_union(-a, b, k)


def ellipse(u: Tensor, v: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """First-order distance to an ellipse of half-axes `a`, `b` around the origin of a plane."""
    p, q = u / a, v / b
    norm = torch.sqrt(p * p + q * q) + 1e-6
    return norm * (norm - 1) / (torch.sqrt((p / a).square() + (q / b).square()) + 1e-6)


def squircle(u: Tensor, v: Tensor, a: Tensor | float, b: Tensor | float, squareness: Tensor | float) -> Tensor:
    """First-order distance to an ellipse pushed out towards the corners of its box.

    Args:
        u: coordinate across, from its centre.
        v: coordinate along, from its centre.
        a: half-axis across.
        b: half-axis along.
        squareness: 0 is an ellipse, 1 the box itself.

    Source:
        Fernandez-Guasti, "Analytic geometry of some rectilinear figures", 1992: p^2 + q^2 - s p^2 q^2 = 1.
    """
    p, q = (u / a).square(), (v / b).square()
    # Outside its box the figure goes on as an ellipse, or it would close again further out.
    across, along = 1 - squareness * q.clamp(max=1), 1 - squareness * p.clamp(max=1)
    norm = torch.sqrt(p + q - (1 - along) * q.clamp(max=1)) + 1e-6
    slope = torch.sqrt(p * (across / a).square() + q * (along / b).square()) + 1e-6
    return norm * (norm - 1) / slope


def ellipsoid(x: Tensor, y: Tensor, z: Tensor, centre: Sequence[float], radii: Sequence[float]) -> Tensor:
    """First-order distance to an ellipsoid; exact on the surface, within a tenth in layers near it."""
    p, q, r = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1], (z - centre[2]) / radii[2]
    norm = torch.sqrt(p * p + q * q + r * r) + 1e-6
    slope = torch.sqrt((p / radii[0]).square() + (q / radii[1]).square() + (r / radii[2]).square()) + 1e-6
    return norm * (norm - 1) / slope


def capsule(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    start: Sequence[float],
    end: Sequence[float],
    radius: tuple[float, float],
    spread: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Distance to a rod with round ends.

    Args:
        x: first coordinate.
        y: second coordinate.
        z: third coordinate.
        start: where its axis begins.
        end: where its axis ends.
        radius: at either end.
        spread: factors on its thickness along x, y and z; one above 1 makes a band.
    """
    ax, ay, az = (end[i] - start[i] for i in range(3))
    px, py, pz = x - start[0], y - start[1], z - start[2]
    length = ax * ax + ay * ay + az * az
    along = (px * (ax / length) + py * (ay / length) + pz * (az / length)).clamp(0, 1)
    away = ((px - along * ax) / spread[0]).square() + ((py - along * ay) / spread[1]).square()
    away = away + ((pz - along * az) / spread[2]).square()
    return torch.sqrt(away) - (radius[0] + along * (radius[1] - radius[0]))


def rounded_extrusion(profile: Tensor, beyond: Tensor, radius: float) -> Tensor:
    """Extrude a plane figure and round its rim.

    Args:
        profile: signed distance in the plane of the figure.
        beyond: distance past the ends of the extrusion, negative between them.
        radius: of the rounded rim.
    """
    p, q = profile + radius, beyond + radius
    return torch.sqrt(torch.relu(p).square() + torch.relu(q).square()) + torch.maximum(p, q).clamp(max=0) - radius


def smoothstep(value: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, a cubic between."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


class Tube:
    """A curved, tapering tube along z: shafts, muscles, the limb's outline.

    Args:
        knots: rows of (z, centre x, centre y, half-width x, half-width y[, squareness]), any order of z; beyond the
            first and last knot the tube runs on with their values unless `closed`.
        closed: taper to a point at both ends.
    """

    _STEP = 0.5
    _REACH = 260.0
    _TIP = 28.0
    """Length over which a closed tube runs out."""

    def __init__(self, knots: Sequence[Sequence[float]], *, closed: bool = False) -> None:
        rows = np.asarray(sorted(knots, key=lambda row: row[0]), dtype=float)
        z = np.arange(-self._REACH, self._REACH + self._STEP, self._STEP)
        kernel = np.hanning(25)
        kernel /= kernel.sum()
        columns = []
        for column in rows.T[1:]:
            padded = np.pad(np.interp(z, rows[:, 0], column), 12, mode="edge")
            columns.append(np.convolve(padded, kernel, mode="valid"))
        self._ends = (float(rows[0, 0]), float(rows[-1, 0])) if closed else None
        if closed:
            left = np.clip(np.minimum(z - rows[0, 0], rows[-1, 0] - z) / self._TIP, 0, 1)
            tip = left * (2 - left)
            columns[2], columns[3] = (np.maximum(column * tip, 0.05) for column in columns[2:4])
        self._table = torch.tensor(np.stack(columns), dtype=torch.float32)

    def __call__(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Distance, shape of the broadcast coordinates."""
        index = ((z + self._REACH) * (1 / self._STEP) + 0.5).clamp(0, self._table.shape[1] - 1).to(torch.int64)
        cx, cy, a, b, *square = (row.take(index) for row in self._table)
        distance = squircle(x - cx, y - cy, a, b, square[0]) if square else ellipse(x - cx, y - cy, a, b)
        if self._ends is None:
            return distance
        return torch.maximum(distance, torch.maximum(self._ends[0] - z, z - self._ends[1]))


@lru_cache(maxsize=256)
def tube(knots: tuple[tuple[float, ...], ...], closed: bool = False) -> Tube:
    """The `Tube` through `knots`, built once for the slabs of a scan."""
    return Tube(knots, closed=closed)
