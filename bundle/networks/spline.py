"""A cubic spline over depth: its basis at any depth, and the spline nearest to values at given depths."""

from __future__ import annotations

import torch
from torch import Tensor

DEGREE = 3


def spline_basis(depth: Tensor, knots: int) -> Tensor:
    """Uniform cubic B-splines on [0, 1].

    Args:
        depth: (...) in [0, 1]; what lies outside is taken as the nearer end.
        knots: number of basis functions, at least 4; their centres are 1 / (`knots` - 3) apart.

    Returns:
        (..., knots) float32; four of them are not zero, and all sum to 1.

    Raises:
        ValueError: if there are fewer than 4 basis functions.

    Source:
        de Boor, "A Practical Guide to Splines", revised edition 2001, chapter X; the uniform case written out.
    """
    if knots <= DEGREE:
        raise ValueError(f"`knots` must be at least {DEGREE + 1} for a cubic spline, got {knots}.")
    intervals = knots - DEGREE
    place = depth.clamp(0, 1).double() * intervals
    first = place.floor().clamp(max=intervals - 1)
    u = place - first
    weights = torch.stack(
        [(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], dim=-1
    ).float()
    where = first.long()[..., None] + torch.arange(DEGREE + 1, device=depth.device)
    return torch.zeros(*depth.shape, knots, device=depth.device).scatter(-1, where, weights / 6)


def fit_spline(values: Tensor, depth: Tensor, knots: int) -> Tensor:
    """Coefficients of the spline nearest to values in the least squares; the smallest where there are many.

    Args:
        values: (S, ...).
        depth: (S,) in [0, 1].
        knots: number of coefficients.

    Returns:
        (knots, ...).
    """
    basis = spline_basis(depth, knots).double()
    solved = torch.linalg.pinv(basis) @ values.double().flatten(1)
    return solved.unflatten(1, values.shape[1:]).to(values.dtype)
