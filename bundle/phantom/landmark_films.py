"""Phantom films with the points that a finder of knees must find, made as they are asked for."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.utils.data import Dataset

from bundle.geometry import SIDES, ila_affine
from bundle.keys import FILM
from bundle.phantom.anatomy import sample_person
from bundle.phantom.film import film_geometry, render_film
from bundle.phantom.pose import solve_pose
from bundle.phantom.truth import landmarks


class LandmarkFilms(Dataset):
    """Bilateral films; item i is that of participant `first + i`, and no other has a say in it.

    Args:
        seed: of the cohort.
        films: how many.
        landmarks: names of the points, see `truth.landmarks`.
        first: index of the first participant.
        spacing_mm: detector pixel.
        enrich: raise every rare finding to one knee in four.
        clutter: share of films with distractors.
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
    ) -> None:
        self.seed, self.films, self.first = seed, films, first
        self.landmarks, self.spacing_mm, self.enrich, self.clutter = tuple(landmarks), spacing_mm, enrich, clutter

    def __len__(self) -> int:
        return self.films

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        """`image`: (1, H, W, 1) float32 in ILA axes, detector mm; `points`: (2 sides, P + 1, 3) in its RAS mm.

        The last point of a side is the joint centre of a replaced knee, else NaN.

        Raises:
            IndexError: if there is no such film.
        """
        if not 0 <= item < self.films:
            raise IndexError(f"`item` must be from 0 to {self.films - 1}, got {item}.")
        person = sample_person(self.seed, self.first + item, enrich=self.enrich)
        posed = {side: solve_pose(knee, "film") for side, knee in person.knees.items()}
        film, spacing = render_film(person, spacing_mm=self.spacing_mm, posed=posed)
        affine = ila_affine((*film.shape, 1), (spacing, spacing, 1.0), np.zeros(3))
        geometry = film_geometry(person, spacing)
        points = np.full((len(SIDES), len(self.landmarks) + 1, 3), np.nan)
        for row, side in zip(points, SIDES, strict=True):
            known = landmarks(posed[side])
            pixels = geometry.project(np.stack([known[name] for name in self.landmarks]), side)
            row[:-1] = pixels @ affine[:3, :2].T + affine[:3, 3]
        image = torch.from_numpy(film.astype(np.float32))[None, :, :, None]
        return {FILM: MetaTensor(image, affine=torch.from_numpy(affine)), "points": torch.from_numpy(points)}
