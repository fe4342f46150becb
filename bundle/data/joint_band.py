"""Rows of the joint for RSSIM: from masks of the real volume, else the knee finder, else the middle third."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from bundle.data.landmarks import JOINT, LandmarkMaps
from bundle.geometry import Grid
from bundle.keys import BAND, BAND_SOURCE, FILM, LABELS, MRI
from bundle.networks.knee_finder import KneeFinder
from bundle.transforms.joint_band import band_of_joint, band_of_masks, middle_third

SOURCES = ("masks", "knee finder", "middle third")


class JointBandd(Transform):
    """Add `band`, rows [r0, r1) as a tensor of two, and `band_source`, one of `SOURCES`.

    Runs after film and MRI are on the model's grid and canonical. Labels of femur and tibia come first; without them
    the joint centre that the knee finder sees on the film, which shares the MRI's rows, with bones that fill the field
    of view; where it is unsure, or there is none, the middle third.

    Args:
        finder: the knee finder, or the file of its weights, read at first use; None does without.
        labels: entry of the labels, (1, H, W, S); may be absent.
        film: entry of the film, (1, H, W) in [-1, 1], over the field of view.
        reference: entry whose rows count, (1, H, W, S).
    """

    def __init__(
        self,
        finder: KneeFinder | str | Path | None = None,
        *,
        labels: str = LABELS,
        film: str = FILM,
        reference: str = MRI,
    ) -> None:
        self.finder, self.labels, self.film, self.reference = finder, labels, film, reference

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its band."""
        if self.reference not in data:
            raise KeyError(f"`{self.reference}` is not among the item's keys: {', '.join(map(str, data))}.")
        rows = int(data[self.reference].shape[1])
        labels = data.get(self.labels)
        band = None if labels is None else band_of_masks(torch.as_tensor(labels)[0].cpu().numpy())
        source = SOURCES[0]
        if band is None and self.finder is not None and self.film in data:
            band, source = self._seen(self.finder, data[self.film], rows), SOURCES[1]
        if band is None:
            band, source = middle_third(rows), SOURCES[2]
        return {**data, BAND: torch.tensor(band), BAND_SOURCE: source}

    def _seen(self, finder: KneeFinder | str | Path, film: torch.Tensor, rows: int) -> tuple[int, int] | None:
        if isinstance(finder, str | Path):
            finder = self.finder = KneeFinder.load(finder)
        grid = Grid.of(image_size=rows, slices=1)
        pixels = torch.as_tensor(film).as_subclass(torch.Tensor).detach().cpu().float()[..., None]
        maps = LandmarkMaps.of(MetaTensor(pixels, affine=torch.from_numpy(grid.film_affine())), finder)
        if not maps.sure("R"):  # the canonical side
            return None
        return band_of_joint(maps.points("R")[JOINT[0]][0] / grid.spacing_mm + 0.5, rows=rows)
