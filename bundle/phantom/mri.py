"""From a supine knee to its T1 3-D FLASH volume: water-excited signal, texture, field, coil, ghosts, Rician noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bundle.geometry import FIELD_OF_VIEW_MM, ila_affine
from bundle.phantom.anatomy import Person
from bundle.phantom.composition import Flesh, layers
from bundle.phantom.lattice import NoiseField, Slab, Window, single_threaded
from bundle.phantom.pose import Posed, solve_pose
from bundle.phantom.streams import stream
from bundle.phantom.tissues import SIGNAL, compartments
from bundle.phantom.worlds import World

SLICES, SLICE_MM = 80, 1.5
SIZES = {"test": 64, "demo": 256, "native": 512}
"""Pixels a side of the 160 mm field of view."""
ISOCENTRE_MM = 95.0
"""How far lateral of the scanner's axis a knee lies, mm."""
_SLAB_PIXELS = 8 * 256 * 256
"""Of a slab: eight planes at 256 x 256 stay in the processor's cache; native size takes two, for memory's sake."""
_LATTICE_MM = 1.25
_INFLOW, _INFLOW_MM = 0.16, 60.0
"""Gain of arterial blood where it enters from above, and the way over which it saturates."""
_FIELD_ERROR = 0.20
"""Share by which the static field's error changes the excitation of fat (phantom.md 3.1)."""
_EDGE_FAT = 1.7
"""Fat under the skin, where air bends the field, against fat further in."""
_GHOST, _PULSE = (0.004, 0.012), (0.02, 0.05)
"""Amplitude of the copies of the limb and of its artery along the phase direction; from and to."""
_FIBRES = 0.20
"""Contrast of the bundles of muscle fibres."""
_SEPTA_SHARE = 0.16
"""Mean of the septa's profile, taken off so that the mean of a tissue stays what the equation gives."""
_UNEVEN = {
    "muscle": "muscle",
    "marrow": "marrow",
    "subcutaneous_fat": "fat",
    "intermuscular_fat": "fat",
    "hoffa_fat": "fat",
    "cartilage": "wet",
    "deep_cartilage": "wet",
    "meniscus": "wet",
    "fluid": "wet",
    "granulation": "wet",
    "marrow_lesion": "wet",
    "ligament": "band",
    "blood": "blood",
}
"""Which unevenness a tissue has."""


def mri_affine(posed: Posed, size: int) -> np.ndarray:
    """Affine, voxel of (H, W, S) in ILA order to RAS mm, of a knee's volume."""
    spacing = FIELD_OF_VIEW_MM / size
    lateral = ISOCENTRE_MM if posed.knee.side == "R" else -ISOCENTRE_MM
    return ila_affine((size, size, SLICES), (spacing, spacing, SLICE_MM), np.array([lateral, 0.0, 0.0]))


def slabs(size: int) -> Iterator[tuple[int, Slab]]:
    """The volume in slabs of coronal planes, posterior first, of a right knee: index of the first, and slab."""
    spacing = FIELD_OF_VIEW_MM / size
    factor = max(round(_LATTICE_MM / spacing), 1)
    edge = (size - 1) / 2 * spacing
    planes = min(max(_SLAB_PIXELS // size**2, 2), 8)
    for first in range(0, SLICES, planes):
        y = ((SLICES - 1) / 2 - np.arange(first, min(first + planes, SLICES))) * SLICE_MM
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
        scan = _Scan(stream(person.seed, person.index, f"mri_texture_{side}", person.draw), person.world, size)
        rng = stream(person.seed, person.index, f"mri_noise_{side}", person.draw)
        sigma = person.world.mri_noise * 0.625 / spacing
        flesh = Flesh(posed)
        image = np.empty((SLICES, size, size), dtype=np.float32)
        for first, slab in slabs(size):
            part = torch.zeros((slab.planes, size, size))
            signal = scan.slab(first, slab.planes)
            pulsing = []
            for layer in layers(posed, slab, max(spacing, 0.7), flesh=flesh):
                at = layer.window.pixels
                value = signal(layer.tissue, at)
                part[at] += layer.occupancy * (value - part[at])
                if layer.tissue == "artery":
                    pulsing.append((layer.window, layer.occupancy * value))
            part = scan.receive(part, pulsing)
            # In place: at native size a plane is a megabyte.
            real, imaginary = torch.from_numpy(rng.standard_normal((2, *part.shape), dtype=np.float32)).mul_(sigma)
            received = part.add_(real).square_().add_(imaginary.square_()).sqrt_()
            image[first : first + slab.planes] = (received.flip(-1) if side == "L" else received).numpy()
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


class _Scan:
    """What a scanner and a body add to the signal of each tissue: unevenness, the field's error, the coil, ghosts."""

    def __init__(self, rng: np.random.Generator, world: World, size: int) -> None:
        shape = (SLICES, size, size)
        self._pixel = pixel = FIELD_OF_VIEW_MM / size
        self._world = world
        self._noise = {
            "fibres": NoiseField(rng, shape, (1.0, 5.0 / pixel, 1.4 / pixel)),
            "grain": NoiseField(rng, shape, (1.0, 1.5 / pixel, 1.5 / pixel)),
            "slow": NoiseField(rng, shape, (14.0, 22 / pixel, 22 / pixel)),
            "septa": NoiseField(rng, shape, (4.0, 16.0 / pixel, 7.0 / pixel)),
        }
        self._z = z = torch.linspace(-1, 1, size)[None, :, None]
        self._x = x = torch.linspace(-1, 1, size)[None, None, :]
        # What shimming leaves of the static field: low orders, in units of its largest error.
        self._shim = [float(value) for value in rng.normal(0, 0.5, 6)]
        # A quadrature knee coil: sensitive in its middle, falling off towards its ends.
        lean = [float(value) for value in rng.normal(0, 0.02, 2)]
        falloff = 1 - world.coil_falloff * z.square().square() - 0.05 * x.square()
        self._coil = falloff * (1 + lean[0] * x + lean[1] * z)
        # Blood that enters the slab from above is not yet saturated.
        self._inflow = 1 + _INFLOW * torch.exp(-torch.arange(size) * (pixel / _INFLOW_MM))[None, :, None]
        self._shift = round(float(rng.uniform(0.16, 0.34)) * size)
        self._ghost = float(rng.uniform(*_GHOST))
        self._pulse = float(rng.uniform(*_PULSE))

    def slab(self, first: int, planes: int) -> _SlabSignal:
        """Signals of the tissues of planes `first` to `first + planes`."""
        noise = {name: field.planes(first, planes) for name, field in self._noise.items()}
        y = torch.linspace(-1, 1, SLICES)[first : first + planes, None, None]
        a, b, c, d, e, f = self._shim
        off = self._z * a + self._x * b + y * c + (self._z.square() * d + self._x.square() * e + self._x * self._z * f)
        fat = self._world.fat_excitation * (1 + _FIELD_ERROR * off.clamp(-1, 1))
        return _SlabSignal(noise, fat, self._inflow)

    def receive(self, part: Tensor, pulsing: Sequence[tuple[Window, Tensor]]) -> Tensor:
        """Coil and ghosts: copies of the limb, and of its pulsing arteries, along the phase direction (columns)."""
        part *= self._coil
        ghosts = torch.roll(part, self._shift, dims=-1).add_(torch.roll(part, -self._shift, dims=-1))
        for window, flow in pulsing:
            planes, rows, columns = window.pixels
            at = torch.arange(columns.start, columns.stop)
            for k, sign in ((-2, -0.5), (-1, 1.0), (1, 1.0), (2, -0.5)):
                copy = (at + k * self._shift // 2) % part.shape[-1]
                part[planes, rows, copy] += sign * self._pulse * flow
        return part.add_(ghosts, alpha=self._ghost)


class _SlabSignal:
    """Signal of each tissue in the planes of a slab.

    Args:
        noise: fields of (planes, H, W).
        fat: share of the fat that the excitation lets through, (planes, H, W).
        inflow: factor on arterial blood, (1, H, 1).
    """

    def __init__(self, noise: Mapping[str, Tensor], fat: Tensor, inflow: Tensor) -> None:
        self._noise, self._fat, self._inflow = noise, fat, inflow

    def _uneven(self, kind: str, at: tuple[slice, slice, slice]) -> Tensor:
        grain, fibres, slow = (self._noise[name][at] for name in ("grain", "fibres", "slow"))
        if kind == "muscle":
            return (fibres * _FIBRES).add_(slow, alpha=0.06).add_(1)
        if kind == "marrow":
            return (grain * 0.42).add_(slow, alpha=0.2).add_(1)
        if kind == "fat":
            # Septa of fibrous tissue lie where a smooth field changes sign.
            septa = torch.exp(self._noise["septa"][at].square() * (-1 / 0.05))
            septa = (septa * 0.4).add_(grain, alpha=0.26).add_(fibres, alpha=0.10).add_(slow, alpha=0.16)
            return septa.add_(1 - 0.4 * _SEPTA_SHARE)
        if kind == "blood":
            return (slow * 0.12).add_(fibres, alpha=0.10).add_(0.95)
        if kind == "band":
            return 1 + 0.5 * fibres.clamp(min=-1)
        return 1 + 0.07 * grain

    def __call__(self, tissue: str, at: tuple[slice, slice, slice]) -> Tensor | float:
        """Signal of a tissue in the pixels `at` of the slab."""
        if tissue == "artery":
            return SIGNAL["blood"] * self._uneven("blood", at) * self._inflow[:, at[1]]
        name, excited = ("subcutaneous_fat", _EDGE_FAT) if tissue == "edge_fat" else (tissue, 1.0)
        kind = _UNEVEN.get(name)
        water, fat = compartments(name)
        value = SIGNAL[name] if fat == 0 else water + (fat * excited) * self._fat[at]
        return value if kind is None else self._uneven(kind, at) * value
