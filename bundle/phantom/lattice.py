"""Where structures are measured: a coarse lattice of a slab of coronal planes, refined to pixels.

Distances are smooth, so a lattice of 1.25 mm and bilinear interpolation err by about 0.01 mm; occupancy is taken at
full resolution. Slabs of a few planes keep temporaries in the processor's cache (phantom.md 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bundle.phantom.pose import Rigid

Points = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Box:
    """Part of the scan frame that holds a structure, mm; planes, rows and columns outside are skipped."""

    x: tuple[float, float] = (-1e4, 1e4)
    y: tuple[float, float] = (-1e4, 1e4)
    z: tuple[float, float] = (-1e4, 1e4)


def box_round(points: list[np.ndarray], margin: float) -> Box:
    """The box round points of the scan frame, `margin` mm wider."""
    low, high = np.min(points, axis=0) - margin, np.max(points, axis=0) + margin
    return Box(*((float(a), float(b)) for a, b in zip(low, high, strict=True)))


@dataclass(frozen=True)
class Window:
    """Nodes of the lattice inside a box, and the pixels they cover; each a slice."""

    nodes: tuple[slice, slice, slice]
    pixels: tuple[slice, slice, slice]


class Slab:
    """A few planes of constant y, seen in parallel (MRI) or from a point (film).

    Args:
        y: planes, mm, shape (S,).
        x: columns' positions at pixel pitch for each plane: first column and step, both (S,), mm.
        z: the same for rows.
        height: pixels a column; width: pixels a row.
        factor: pixels between lattice nodes.
    """

    def __init__(
        self,
        y: np.ndarray,
        x: tuple[np.ndarray, np.ndarray],
        z: tuple[np.ndarray, np.ndarray],
        *,
        height: int,
        width: int,
        factor: int,
    ) -> None:
        self.height, self.width, self.factor = height, width, factor
        self._planes = (y, x, z)
        rows = np.arange(-(-(height - 1) // factor) + 1) * factor
        columns = np.arange(-(-(width - 1) // factor) + 1) * factor
        self.y = torch.tensor(y, dtype=torch.float32)[:, None, None]
        self.x = torch.tensor(x[0][:, None] + x[1][:, None] * columns, dtype=torch.float32)[:, None, :]
        self.z = torch.tensor(z[0][:, None] + z[1][:, None] * rows, dtype=torch.float32)[:, :, None]
        self._axes = (self.y[:, 0].numpy().T, self.z[:, :, 0].numpy(), self.x[:, 0].numpy())

    @property
    def planes(self) -> int:
        """Number of planes."""
        return self.y.shape[0]

    @property
    def whole(self) -> Window:
        """All of the slab."""
        nodes = (self.planes, self.z.shape[1], self.x.shape[2])
        pixels = (self.planes, self.height, self.width)
        return Window(
            (slice(0, nodes[0]), slice(0, nodes[1]), slice(0, nodes[2])),
            (slice(0, pixels[0]), slice(0, pixels[1]), slice(0, pixels[2])),
        )

    def coarser(self, lattice_mm: float) -> Slab:
        """The same pixels on a lattice of about `lattice_mm`, for what is smooth; never finer than this one."""
        times = max(round(lattice_mm / abs(float(self.z[0, 1, 0] - self.z[0, 0, 0]))), 1)
        y, x, z = self._planes
        return Slab(y, x, z, height=self.height, width=self.width, factor=self.factor * times)

    def window(self, box: Box) -> Window | None:
        """The part of the slab inside a box, one node to spare; None when there is none."""

        def span(values: np.ndarray, bounds: tuple[float, float], spare: int) -> slice | None:
            hits = np.flatnonzero(((values >= bounds[0]) & (values <= bounds[1])).any(axis=0))
            if not len(hits):
                return None
            return slice(max(int(hits[0]) - spare, 0), min(int(hits[-1]) + 1 + spare, values.shape[1]))

        planes = span(self._axes[0], box.y, 0)
        rows = span(self._axes[1], box.z, 1)
        columns = span(self._axes[2], box.x, 1)
        if planes is None or rows is None or columns is None:
            return None
        return self._covering(planes, rows, columns)

    def window_round(self, boxes: Sequence[Box]) -> Window | None:
        """The smallest window round the parts of several boxes that the slab's planes cut; None when they cut none."""
        first, last = (float(edge) for edge in (self.y.min(), self.y.max()))
        cut = (self.window(box) for box in boxes if box.y[0] <= last and box.y[1] >= first)
        found = [window.nodes for window in cut if window is not None]
        if not found:
            return None
        spans = (slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in zip(*found, strict=True))
        return self._covering(*spans)

    def where(self, inside: Tensor) -> Window | None:
        """The rows and columns, of all planes, that hold the true nodes of (S, m, n), one node to spare."""
        spans = []
        for axis in (2, 1):
            hits = torch.nonzero(inside.any(dim=0).any(dim=axis - 1)).flatten()
            if not len(hits):
                return None
            spans.append(slice(max(int(hits[0]) - 1, 0), min(int(hits[-1]) + 2, inside.shape[3 - axis])))
        return self._covering(slice(0, self.planes), *spans)

    def _covering(self, planes: slice, rows: slice, columns: slice) -> Window | None:
        if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
            return None

        def pixels(nodes: slice, size: int) -> slice:
            return slice(nodes.start * self.factor, min((nodes.stop - 1) * self.factor + 1, size))

        return Window((planes, rows, columns), (planes, pixels(rows, self.height), pixels(columns, self.width)))

    def points(self, window: Window, frame: Rigid | None = None) -> Points:
        """Nodes of a window in the scan frame, or in a bone's; each of a shape that broadcasts to (S, m, n)."""
        planes, rows, columns = window.nodes
        wide = self.x.shape[0] > 1
        x = self.x[planes if wide else slice(None), :, columns]
        z = self.z[planes if wide else slice(None), rows, :]
        y = self.y[planes]
        if frame is None:
            return x, y, z
        x, y, z = (axis - float(shift) for axis, shift in zip((x, y, z), frame.shift, strict=True))
        r = frame.rotation
        return tuple(x * float(r[0, k]) + y * float(r[1, k]) + z * float(r[2, k]) for k in range(3))  # type: ignore[return-value]

    def refine(self, coarse: Tensor, window: Window) -> Tensor:
        """Interpolate node values, shape (S, m, n), to the window's pixels."""
        shape = tuple(part.stop - part.start for part in window.nodes)
        coarse = coarse.expand(shape)
        if self.factor == 1:
            return coarse
        full = [(part.stop - part.start - 1) * self.factor + 1 for part in window.nodes[1:]]
        fine = interpolate(coarse[None], size=full, mode="bilinear", align_corners=True)[0]
        rows, columns = (part.stop - part.start for part in window.pixels[1:])
        return fine[:, :rows, :columns]

    def blur_mm(self, distance: Tensor, pixel_mm: float) -> Tensor:
        """Width over which occupancy changes at each node, mm: the pixel's in the plane, the plane's along y.

        A surface that faces y is averaged over the thickness of a plane; one that lies along y over a pixel.
        """
        if self.planes < 2 or distance.shape[0] < 2:
            return torch.full_like(distance, pixel_mm)
        change = (distance[1:] - distance[:-1]).abs()
        change = torch.cat([change[:1], torch.maximum(change[1:], change[:-1]), change[-1:]])
        return torch.sqrt(change.square() + pixel_mm**2)


def occupancy(distance: Tensor, width_mm: float | Tensor) -> Tensor:
    """Share of a pixel inside a surface at signed `distance`, for pixels `width_mm` wide."""
    return (0.5 - distance / width_mm).clamp(0, 1)


def value_noise(rng: np.random.Generator, shape: tuple[int, int, int], cell: tuple[float, float, float]) -> Tensor:
    """Smooth noise of unit variance at its nodes: a random lattice, interpolated.

    Args:
        rng: where the nodes' values come from.
        shape: (S, H, W) of the result.
        cell: distance of nodes along each axis, in voxels; under 1 counts as 1.
    """
    nodes = [max(round((size - 1) / max(step, 1.0)), 1) + 1 for size, step in zip(shape, cell, strict=True)]
    lattice = torch.from_numpy(rng.standard_normal(nodes, dtype=np.float32))
    return interpolate(lattice[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]


class NoiseField:
    """Smooth noise of unit variance at its nodes, interpolated a few planes at a time.

    Args:
        rng: where the nodes' values come from.
        shape: (S, H, W) of the whole field.
        cell: distance of nodes along each axis, in voxels; under 1 counts as 1.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], cell: tuple[float, float, float]) -> None:
        nodes = [max(round((size - 1) / max(step, 1.0)), 1) + 1 for size, step in zip(shape, cell, strict=True)]
        self._nodes = torch.from_numpy(rng.standard_normal(nodes, dtype=np.float32))
        self._shape = shape

    def planes(self, first: int, count: int) -> Tensor:
        """Planes `first` to `first + count`, (count, H, W)."""
        at = torch.arange(first, first + count) * ((len(self._nodes) - 1) / max(self._shape[0] - 1, 1))
        below = at.floor().long().clamp(max=len(self._nodes) - 2)
        share = (at - below)[:, None, None].float()
        coarse = self._nodes[below] * (1 - share) + self._nodes[below + 1] * share
        return interpolate(coarse[None], size=self._shape[1:], mode="bilinear", align_corners=True)[0]


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run torch on one thread, without gradients: faster for small elementwise work, and the same bits everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
