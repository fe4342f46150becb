"""Knees without a disk: a data set that renders film and MRI of a participant straight onto the model's grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch.utils.data import Dataset

from bundle.geometry import (
    FIELD_OF_VIEW_MM,
    FILM_MAGNIFICATION,
    PROTOCOL_DEPTH_MM,
    SLICE_WINDOW,
    Grid,
    ila_affine,
    mirror_columns,
)
from bundle.keys import FILM, MIRRORED, MRI, PARTICIPANT, READINGS, SIDE, VISIT
from bundle.phantom.anatomy import Person, sample_person
from bundle.phantom.film import FIELD_MM, film_geometry, render_film
from bundle.phantom.mri import ISOCENTRE_MM, SLICES, render_mri
from bundle.phantom.pose import solve_pose
from bundle.phantom.series import VISIT as SERIES_VISIT
from bundle.phantom.series import mri_side
from bundle.phantom.streams import stream
from bundle.phantom.table_view import table_readings
from bundle.phantom.worlds import WORLDS

_COARSE_MM = 1.0
_PERCENTILES = (0.5, 99.5)
"""Ends of the range that become -1 and 1 (design.md 3.17)."""


class OnTheFly(Dataset):
    """Participants of a cohort as `dataset.json` and the transforms of training give them, made when asked for.

    Item i is the knee of participant `first + i` that has an MRI, a left one mirrored to the canonical right: a pure
    function of the arguments, so it may be pickled for any number of workers and read in any order. `image` is
    (1, H, W, 1) and `mri` (1, H, W, S), MetaTensors in [-1, 1] with their affines, ILA; `readings` are the
    table's, None where unread. `FlattenFilmd` and `EncodeReadingsd` remain to be done.

    Args:
        seed: of the cohort.
        participants: how many.
        first: index of the first one.
        image_size: rows and columns.
        slices: slices in the window.
        enrich: raise every rare finding to one knee in four.
        world: one of `worlds.WORLDS`.
        finder_mm: SD of the error of the knee finder that centres the crop, along rows and columns.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        seed: int,
        participants: int,
        *,
        first: int = 0,
        image_size: int = 128,
        slices: int = 50,
        enrich: bool = False,
        world: str = "natural",
        finder_mm: float = 0.0,
    ) -> None:
        if seed < 0 or participants < 1 or first < 0:
            raise ValueError(
                "`seed` and `first` must be whole numbers from 0 and `participants` from 1, "
                f"got {seed}, {first} and {participants}."
            )
        if image_size < 16 or slices < 2:
            raise ValueError(f"`image_size` must be 16 or more and `slices` 2 or more, got {image_size} and {slices}.")
        if world not in WORLDS:
            raise ValueError(f"`world` must be one of {', '.join(WORLDS)}, got {world!r}.")
        if not 0 <= finder_mm < math.inf:
            raise ValueError(f"`finder_mm` must be 0 or more, got {finder_mm}.")
        self.seed, self.participants, self.first = seed, participants, first
        self.image_size, self.slices = image_size, slices
        self.enrich, self.world, self.finder_mm = enrich, world, finder_mm

    def __len__(self) -> int:
        """How many knees."""
        return self.participants

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The knee of participant `first + index`; negative indices count from the end."""
        if not -self.participants <= index < self.participants:
            raise IndexError(f"`index` must lie in a data set of {self.participants} knees, got {index}.")
        number = self.first + index % self.participants
        return self.knee(sample_person(self.seed, number, enrich=self.enrich, world=WORLDS[self.world]))

    def knee(self, person: Person) -> dict[str, Any]:
        """The item of a person: also of one whose grades were replaced (`sample_person`)."""
        who = person.covariates
        readings, _ = table_readings(person)
        side = mri_side(person)
        return {
            FILM: self._film(person, side),
            MRI: self._mri(person, side),
            PARTICIPANT: who.participant,
            SIDE: side,
            VISIT: SERIES_VISIT,
            READINGS: readings[side],
            "age": float(who.age),
            "sex": who.sex,
            "bmi": who.bmi,
            "site": who.site,
        }

    def _film(self, person: Person, side: str) -> MetaTensor:
        pixel = FIELD_OF_VIEW_MM * FILM_MAGNIFICATION / self.image_size
        # An even number of detector pixels across, about as large as the grid's, or half where those are coarse.
        across = 2 * round(FIELD_MM[1] / (pixel / 2 if pixel > _COARSE_MM else pixel) / 2)
        spacing = FIELD_MM[1] / across
        standing = {one: solve_pose(knee, "film") for one, knee in person.knees.items()}
        film, _ = render_film(person, spacing_mm=spacing, posed=standing)
        held = standing[side]
        centre = film_geometry(person, spacing).project((held.femur.shift + held.tibia.shift) / 2, side)
        error = stream(person.seed, person.index, "finder").normal(size=2) * self.finder_mm
        cut = torch.from_numpy(film.astype(np.float32))
        fill = float(cut.min())
        for axis, (at, off_mm) in enumerate(zip(centre, error, strict=True)):
            first = float(at) + 0.5 + (off_mm - pixel * self.image_size / 2) / spacing
            cut = _resample(cut, axis, first, pixel / spacing, self.image_size, fill=fill)
        field = cut.numpy().ravel()
        # Many pixels at the very lowest or highest value are air or saturation, and do not count.
        common = [edge for edge in (field.min(), field.max()) if (field == edge).mean() > 0.01]
        graded = field[~np.isin(field, common)]
        affine = Grid.of(image_size=self.image_size, slices=1).film_affine()
        return _scaled(cut[None, :, :, None], graded, affine, side)

    def _mri(self, person: Person, side: str) -> MetaTensor:
        volume, _ = render_mri(person, side, size=self.image_size)
        first, last = (share * SLICES for share in SLICE_WINDOW)
        step = (last - first) / self.slices
        stack = _resample(torch.from_numpy(volume), 0, first, step, self.slices, fill=0.0)
        spacing = (FIELD_OF_VIEW_MM / self.image_size,) * 2 + (
            (last - first) / SLICES * PROTOCOL_DEPTH_MM / self.slices,
        )
        middle = ((SLICE_WINDOW[0] + SLICE_WINDOW[1]) / 2 - 0.5) * PROTOCOL_DEPTH_MM
        lateral = ISOCENTRE_MM if side == "R" else -ISOCENTRE_MM
        affine = ila_affine((self.image_size, self.image_size, self.slices), spacing, np.array([lateral, middle, 0.0]))
        return _scaled(stack.permute(1, 2, 0)[None], stack.numpy(), affine, side)


def _resample(image: torch.Tensor, axis: int, first: float, step: float, count: int, *, fill: float) -> torch.Tensor:
    """Bring an axis to `count` cells of `step` source cells each, from `first`: means over cells, or linear between.

    A cell of two source cells or less is the mean of what it covers; beyond the image is `fill`.
    """
    length = image.shape[axis]
    low = first + step * torch.arange(count, dtype=torch.float64)[:, None]
    cells = torch.arange(length, dtype=torch.float64)[None]
    if step >= 1:
        weight = (torch.minimum(low + step, cells + 1) - torch.maximum(low, cells)).clamp(min=0) / step
    else:
        centre = low + step / 2
        inside = (centre >= 0) & (centre <= length)
        weight = (1 - ((centre - 0.5).clamp(0, length - 1) - cells).abs()).clamp(min=0) * inside
    moved = torch.tensordot(weight.float(), image - fill, dims=([1], [axis])).movedim(0, axis)
    return moved + fill


def _scaled(image: torch.Tensor, graded: np.ndarray, affine: np.ndarray, side: str) -> MetaTensor:
    """An image with the percentiles of `graded` at -1 and 1; a left knee mirrored, its affine kept."""
    low, high = (float(edge) for edge in np.percentile(graded, _PERCENTILES))
    scaled = ((image - low) * (2 / (high - low)) - 1).clamp(-1, 1)
    if side == "L":
        scaled = mirror_columns(scaled, columns_dim=-2)
    return MetaTensor(scaled.contiguous(), affine=torch.from_numpy(affine), meta={MIRRORED: side == "L"})
