"""Phantom films with the points that a finder of knees must find, made as they are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.utils.data import Dataset

from bundle.geometry import SIDES, ila_affine
from bundle.keys import FILM
from bundle.phantom.anatomy import sample_person
from bundle.phantom.film import render_film
from bundle.phantom.film_clutter import Clutter, draw_clutter
from bundle.phantom.film_geometry import film_pixels
from bundle.phantom.pose import solve_pose
from bundle.phantom.streams import stream
from bundle.phantom.truth import landmarks


class LandmarkFilms(Dataset):
    """Films; item i is that of participant `first + i`, and no other has a say in it.

    Args:
        seed: of the cohort.
        films: how many.
        landmarks: names of the points, see `truth.landmarks`.
        first: index of the first participant.
        spacing_mm: detector pixel.
        enrich: raise every rare finding to one knee in four.
        clutter: share of films with distractors.
        implants: share of those, seen from behind, on which a knee is replaced.
    """

    def __init__(
        self,
        seed: int,
        films: int,
        landmarks: tuple[str, ...] = ("joint_centre",),
        *,
        first: int = 0,
        spacing_mm: float = 1.6,
        enrich: bool = True,
        clutter: float = 0.0,
        implants: float = 0.0,
    ) -> None:
        self.seed, self.films, self.first = seed, films, first
        self.landmarks, self.spacing_mm, self.enrich = tuple(landmarks), spacing_mm, enrich
        self.clutter, self.implants = clutter, implants

    def __len__(self) -> int:
        return self.films

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        """`image`: (1, H, W, 1) float32 in ILA axes, detector mm; `points`: (2 sides, P + 1, 3) in its RAS mm.

        A knee seen from behind has its points, a replaced one the last alone, its joint centre. All others are NaN.

        Raises:
            IndexError: if there is no such film.
        """
        if not 0 <= item < self.films:
            raise IndexError(f"`item` must be from 0 to {self.films - 1}, got {item}.")
        person = sample_person(self.seed, self.first + item, enrich=self.enrich)
        posed = {side: solve_pose(knee, "film") for side, knee in person.knees.items()}
        clutter = self.clutter_of(person.index)
        film, spacing = render_film(person, spacing_mm=self.spacing_mm, posed=posed, clutter=clutter)
        affine = ila_affine((*film.shape, 1), (spacing, spacing, 1.0), np.zeros(3))
        points = np.full((len(SIDES), len(self.landmarks) + 1, 3), np.nan)
        for row, side in zip(points, SIDES, strict=True):
            if clutter is not None and (side not in clutter.sides or clutter.view != "PA"):
                continue
            known = landmarks(posed[side])
            wanted = np.stack([known[name] for name in (*self.landmarks, self.landmarks[0])])
            pixels = film_pixels(person, wanted, side, spacing_mm=spacing, clutter=clutter)
            row[:] = pixels @ affine[:3, :2].T + affine[:3, 3]
            replaced = clutter is not None and clutter.implant == side
            row[slice(0, -1) if replaced else slice(-1, None)] = np.nan
        image = torch.from_numpy(film.astype(np.float32))[None, :, :, None]
        return {FILM: MetaTensor(image, affine=torch.from_numpy(affine)), "points": torch.from_numpy(points)}

    def clutter_of(self, index: int) -> Clutter | None:
        """A film's distractors, with more replaced knees than people have."""
        clutter = draw_clutter(self.seed, index, self.clutter)
        if clutter is None or clutter.view != "PA":
            return clutter
        chance, place = stream(self.seed, index, "film_clutter").spawn(1)[0].random(2)
        side = clutter.sides[int(place * len(clutter.sides))]
        return replace(clutter, implant=side) if chance < self.implants else clutter
