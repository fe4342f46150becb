"""Resample an image axis by axis with exact geometry: area means when shrinking, linear when growing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def axis_weights(count: int, edge_mm: float, out_count: int, out_edge_mm: float, start_mm: float = 0.0) -> Tensor:
    """Weights that bring one axis of cells onto another.

    A cell wider than the source's is the mean of what it covers, weighted by overlap, so nothing aliases; a narrower
    one interpolates linearly between the centres of the source's cells. Both keep positions exactly, for any ratio.

    Args:
        count: cells of the source.
        edge_mm: their width.
        out_count: cells of the result.
        out_edge_mm: their width.
        start_mm: where the result's first cell begins, from where the source's first cell begins.

    Returns:
        (out_count, count) float32; a row sums to the share of its cell that the source covers.
    """
    # the extra digits would turn an exact fit into two weights of 1 - 1e-16 and 1e-16
    ratio, start = round(out_edge_mm / edge_mm, 9), round(start_mm / edge_mm, 9)
    low = start + ratio * torch.arange(out_count, dtype=torch.float64)[:, None]
    cells = torch.arange(count, dtype=torch.float64)[None]
    if ratio >= 1:
        overlap = torch.minimum(low + ratio, cells + 1) - torch.maximum(low, cells)
        return (overlap.clamp(min=0) / ratio).float()
    centre = low + ratio / 2
    inside = (centre >= 0) & (centre <= count)
    position = (centre - 0.5).clamp(0, count - 1)
    return ((1 - (position - cells).abs()).clamp(min=0) * inside).float()


def apply_weights(image: Tensor, weights: Mapping[int, Tensor], *, fill: float = 0.0) -> Tensor:
    """Resample dims of an image.

    Args:
        image: any shape, float.
        weights: dim to what `axis_weights` gives.
        fill: value of what the source does not cover.

    Returns:
        float32, the weighted dims with their new lengths.
    """
    result = image.float() - fill
    for dim, weight in weights.items():
        used = weight.any(0).nonzero()
        if not len(used):
            shape = list(result.shape)
            shape[dim] = len(weight)
            result = result.new_zeros(shape)
            continue
        first, last = int(used[0]), int(used[-1]) + 1
        part, weight = result.narrow(dim, first, last - first), weight[:, first:last]
        if weight.shape[0] == weight.shape[1] and torch.equal(weight, torch.eye(len(weight))):
            result = part
            continue
        result = torch.tensordot(weight, part, dims=([1], [dim])).movedim(0, dim)
    return (result + fill).contiguous()


def resize_plane(images: Tensor, size: int) -> Tensor:
    """(N, C, h, w) to (N, C, size, size) over the same field of view."""
    weights = {
        dim: axis_weights(edge, 1.0, size, edge / size) for dim, edge in ((2, images.shape[2]), (3, images.shape[3]))
    }
    return apply_weights(images, weights)
