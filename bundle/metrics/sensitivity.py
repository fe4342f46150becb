"""Where a film matters: how a number of the generated volume changes as patches of the film are covered."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data import MetaTensor
from torch import Tensor


def occlusion_map(
    function: Callable[[Tensor], float | Tensor],
    film: Tensor,
    *,
    patch: int,
    stride: int | None = None,
    fill: float | None = None,
) -> Tensor:
    """Cover patch after patch of a film and note by how much a number changes.

    Args:
        function: a film (1, 1, H, W) to a number of its volume, such as the mean of a region, or to several, (K,); the
            network inside must draw the same noise each time.
        film: (1, H, W).
        patch: pixels along a patch's edge.
        stride: pixels between patches; None is half a patch, at least 1.
        fill: grey value of a covered patch; None is the film's mean, which is not an edge on average.

    Returns:
        covered minus uncovered, mean over the patches that hide a pixel: (1, H, W) float32, or (K, H, W), with the
        film's affine where it has one.

    Raises:
        ValueError: if the film has another shape, a patch does not fit, or the stride would leave gaps.

    Source:
        Zeiler and Fergus, ECCV 2014, doi:10.1007/978-3-319-10590-1_53, section 4.2.
    """
    if film.ndim != 3 or film.shape[0] != 1:
        raise ValueError(f"`film` must have shape (1, H, W), got {tuple(film.shape)}.")
    rows, columns = film.shape[1:]
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= patch <= min(rows, columns) or not 1 <= stride <= patch:
        raise ValueError(
            f"`patch` must fit into {rows} x {columns} pixels and `stride` be at most `patch`, got {patch} and "
            f"{stride}."
        )
    plain = (film.as_tensor() if isinstance(film, MetaTensor) else film).detach().float()
    grey = float(plain.mean()) if fill is None else float(fill)

    def measured(film: Tensor) -> Tensor:
        return torch.as_tensor(function(film), dtype=torch.float32).cpu().reshape(-1, 1, 1)

    before = measured(plain[None])
    total, hidden = torch.zeros(len(before), rows, columns), torch.zeros(rows, columns)
    for top in _starts(rows, patch, stride):
        for left in _starts(columns, patch, stride):
            place = slice(top, top + patch), slice(left, left + patch)
            changed = plain.clone()
            changed[0][place] = grey
            total[(..., *place)] += measured(changed[None]) - before
            hidden[place] += 1
    change = total / hidden
    return MetaTensor(change, affine=film.affine.clone()) if isinstance(film, MetaTensor) else change


def _starts(length: int, patch: int, stride: int) -> list[int]:
    """Where patches begin; the last one ends with the film."""
    return [*range(0, length - patch, stride), length - patch]
