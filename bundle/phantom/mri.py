"""From a supine knee to its T1 3-D FLASH volume: water-excited signal, texture, coil, and Rician noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bundle.geometry import FIELD_OF_VIEW_MM, ila_affine
from bundle.phantom.anatomy import Person
from bundle.phantom.composition import layers
from bundle.phantom.lattice import Slab, single_threaded, value_noise
from bundle.phantom.pose import Posed, solve_pose
from bundle.phantom.streams import stream
from bundle.phantom.tissues import SIGNAL

SLICES, SLICE_MM = 80, 1.5
SIZES = {"test": 64, "demo": 256, "native": 512}
"""Pixels a side of the 160 mm field of view."""
ISOCENTRE_MM = 95.0
"""How far lateral of the scanner's axis a knee lies, mm."""
_SLAB_PLANES = 8
_LATTICE_MM = 1.25
_NOISE = 0.0022
"""Standard deviation of each channel at 0.625 mm, in units of `SIGNAL`: SNR of cartilage 27 (phantom.md 3.1)."""
_INFLOW = 1.35
_FATS = ("subcutaneous_fat", "intermuscular_fat", "hoffa_fat", "marrow")


def mri_affine(posed: Posed, size: int) -> np.ndarray:
    """Affine, voxel of (H, W, S) in ILA order to RAS mm, of a knee's volume."""
    spacing = FIELD_OF_VIEW_MM / size
    lateral = ISOCENTRE_MM if posed.knee.side == "R" else -ISOCENTRE_MM
    return ila_affine((size, size, SLICES), (spacing, spacing, SLICE_MM), np.array([lateral, 0.0, 0.0]))


def slabs(size: int) -> Iterator[tuple[int, Slab]]:
    """The volume in slabs of eight coronal planes, posterior first, of a right knee: index of the first, and slab."""
    spacing = FIELD_OF_VIEW_MM / size
    factor = max(round(_LATTICE_MM / spacing), 1)
    edge = (size - 1) / 2 * spacing
    for first in range(0, SLICES, _SLAB_PLANES):
        y = ((SLICES - 1) / 2 - np.arange(first, min(first + _SLAB_PLANES, SLICES))) * SLICE_MM
        start, step = np.full(1, edge), np.full(1, -spacing)
        yield first, Slab(y, (start, step), (start, step), height=size, width=size, factor=factor)


def render_mri(
    person: Person, side: str, *, size: int = 256, posed: Posed | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Image one knee of a person.

    Args:
        person: whose knee; texture and noise follow its seed.
        side: `R` or `L`.
        size: pixels a side of the 160 mm field of view.
        posed: the knee, where its supine pose is already solved.

    Returns:
        volume (S, H, W) float32 of signal in units of water's density, slices posterior first, rows inferior-wards,
        columns leftwards; and the affine (4, 4) of its (H, W, S) view to RAS mm.
    """
    with single_threaded():
        posed = posed or solve_pose(person.knees[side], "mri")
        spacing = FIELD_OF_VIEW_MM / size
        texture = _Texture(stream(person.seed, person.index, f"mri_texture_{side}", person.draw), size)
        rng = stream(person.seed, person.index, f"mri_noise_{side}", person.draw)
        sigma = _NOISE * 0.625 / spacing
        image = np.empty((SLICES, size, size), dtype=np.float32)
        for first, slab in slabs(size):
            part = torch.zeros((slab.planes, size, size))
            here = slice(first, first + slab.planes)
            for layer in layers(posed, slab, max(spacing, 0.8)):
                target = part[layer.window.pixels]
                target += layer.occupancy * (texture.signal(layer.tissue, here, layer.window.pixels) - target)
            part *= texture.coil[here]
            real, imaginary = torch.from_numpy(rng.standard_normal((2, *part.shape), dtype=np.float32)) * sigma
            image[here] = torch.sqrt((part + real).square() + imaginary.square()).numpy()
    if side == "L":
        image = np.ascontiguousarray(image[:, :, ::-1])
    return image, mri_affine(posed, size)


def render_labels(posed: Posed, *, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Label a posed knee on the grid of its MRI (pose `mri`), or on the same grid round the standing knee (`film`).

    Returns:
        labels (H, W, S) uint8, values of `composition.LABELS`, ILA; and the affine to RAS mm.
    """
    with single_threaded():
        labels = np.zeros((SLICES, size, size), dtype=np.uint8)
        for first, slab in slabs(size):
            part = torch.from_numpy(labels[first : first + slab.planes])
            for layer in layers(posed, slab, 0.05, sharp=True):
                if layer.label:
                    part[layer.window.pixels][layer.occupancy > 0.5] = layer.label
    if posed.knee.side == "L":
        labels = labels[:, :, ::-1]
    return np.ascontiguousarray(labels.transpose(1, 2, 0)), mri_affine(posed, size)


class _Texture:
    """Smooth random fields of one scan: what makes tissue uneven, and the coil's and the field's unevenness."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        shape = (SLICES, size, size)
        pixel = FIELD_OF_VIEW_MM / size
        self._fibres = value_noise(rng, shape, (1.4, 8.0 / pixel, 2.0 / pixel))
        self._grain = value_noise(rng, shape, (1.4, 1.6 / pixel, 1.6 / pixel))
        self._slow = value_noise(rng, shape, (14.0, 22 / pixel, 22 / pixel))
        sway = value_noise(rng, shape, (40.0, 80 / pixel, 80 / pixel))
        z = torch.linspace(-1, 1, size)[None, :, None]
        x = torch.linspace(-1, 1, size)[None, None, :]
        # A quadrature knee coil: sensitive in its middle, falling off towards its ends.
        self.coil = (1 - 0.16 * z.square().square() - 0.05 * x.square()) * (1 + 0.05 * sway)

    def signal(self, tissue: str, planes: slice, pixels: tuple[slice, slice, slice]) -> Tensor | float:
        """Signal of a tissue in a window of a slab that begins at plane `planes.start`."""
        inside = slice(planes.start + pixels[0].start, planes.start + pixels[0].stop)
        at = (inside, pixels[1], pixels[2])
        if tissue == "artery":
            return SIGNAL["blood"] * _INFLOW
        value = SIGNAL[tissue]
        if tissue == "muscle":
            return value * (1 + 0.17 * self._fibres[at] + 0.05 * self._slow[at])
        if tissue in ("subcutaneous_fat", "intermuscular_fat", "hoffa_fat"):
            return value * (1 + 0.33 * self._fibres[at] + 0.2 * self._slow[at])
        if tissue == "marrow":
            return value * (1 + 0.30 * self._grain[at] + 0.2 * self._slow[at])
        if tissue in ("cartilage", "meniscus", "fluid", "marrow_lesion"):
            return value * (1 + 0.07 * self._grain[at])
        return value
