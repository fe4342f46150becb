"""Cut one knee out of a film: find it by the network, else by image analysis, and cut in millimetres."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from bundle.data.joint_line import Knee, film_extent, find_joint, pixel_edges
from bundle.data.landmarks import CONFIDENT, LandmarkMaps
from bundle.geometry import FIELD_OF_VIEW_MM, FILM_MAGNIFICATION, Grid, check_side
from bundle.keys import CONFIDENCE, SIDE
from bundle.networks.knee_finder import KneeFinder
from bundle.transforms import apply_weights, axis_weights


def find_knee(film: MetaTensor, side: str, finder: KneeFinder | None = None) -> Knee:
    """Find the joint centre of one knee.

    The network's answer counts where it is sure of the joint and of a shaft, and they make an upright knee. Where it is
    unsure of the joint, image analysis is asked; if both see its centre within a centimetre, the network's counts. Sure
    landmarks that make no upright knee are refused.

    Args:
        film: (1, H, W, 1), ILA axes, bright where bone is.
        side: `R` or `L`.
        finder: the network; None leaves it to image analysis alone.

    Raises:
        ValueError: if the film is too small or too large to be one of a knee, nothing on it looks like that knee, or
            the knee has been replaced by an implant.
    """
    check_side(side)
    if finder is None:
        return find_joint(film, side)
    film_extent(film)
    name = film.meta.get("filename_or_obj", "film")
    maps = LandmarkMaps.of(film, finder)
    if maps.implant(side) > CONFIDENT:
        raise ValueError(f"film {name}: the knee of side {side} is replaced by an implant, which hides the joint.")
    found = maps.knee(side)
    if found is not None:
        return found
    if not maps.sure(side):
        try:
            found = maps.near(find_joint(film, side), side)
        except ValueError:
            found = None
    if found is None:
        other = "L" if side == "R" else "R"
        shown = f"; it shows a knee of side {other}" if maps.knee(other) is not None else ""
        raise ValueError(
            f"film {name}: no knee joint found for side {side}{shown}; is it an upright PA film of the knee with the "
            "right side and spacing?"
        )
    return found


@cache
def _loaded(path: str) -> KneeFinder:
    """A finder, read once a process: preparation cuts thousands of films."""
    return KneeFinder.load(path)


class CropKnee:
    """Cut one knee to the model's field of view, in millimetres, centred on the joint.

    Detector millimetres are divided by the film's magnification. A film that covers just the field of view already
    (a prepared one) is only brought to the grid.

    Args:
        image_size: rows and columns of the result.
        finder: the knee finder, or the file of its weights, read at first use; None finds by image analysis alone.
    """

    def __init__(self, image_size: int, finder: KneeFinder | str | Path | None = None) -> None:
        if image_size < 1:
            raise ValueError(f"`image_size` must be positive, got {image_size}.")
        self.grid, self.finder = Grid.of(image_size=image_size, slices=1), finder

    def _network(self) -> KneeFinder | None:
        return _loaded(str(self.finder)) if isinstance(self.finder, str | Path) else self.finder

    def __call__(self, film: MetaTensor, side: str | None, knee: Knee | None = None) -> MetaTensor:
        """(1, H, W, 1) to (1, image_size, image_size, 1), joint centre at the origin; the darkest where the film ends.

        Args:
            film: with an ILA affine.
            side: `R` or `L`.
            knee: where it is, if that is known from elsewhere; None looks for it.

        Raises:
            ValueError: if the side is not known, or no knee is found.
        """
        name = film.meta.get("filename_or_obj", "film")
        if side is None:
            raise ValueError(f"film {name}: neither the header nor the request says which knee; give --side R or L.")
        check_side(side)
        if film.ndim != 4 or film.shape[0] != 1 or film.shape[3] != 1:
            raise ValueError(f"film {name}: must have shape (1, H, W, 1), got {tuple(film.shape)}.")
        edges, counts = pixel_edges(film), film.shape[1:3]
        extents = [count * edge for count, edge in zip(counts, edges, strict=True)]
        meta = {key: value for key, value in film.meta.items() if key != "affine"}
        if all(abs(extent - FIELD_OF_VIEW_MM) <= 0.5 * edge for extent, edge in zip(extents, edges, strict=True)):
            starts, fields, meta[CONFIDENCE] = [0.0, 0.0], extents, 1.0
        else:
            knee = knee or find_knee(film, side, self._network())
            field = FIELD_OF_VIEW_MM * FILM_MAGNIFICATION
            centres = (knee.row_mm + edges[0] / 2, knee.column_mm + edges[1] / 2)
            starts, fields, meta[CONFIDENCE] = [at - field / 2 for at in centres], [field, field], knee.confidence
        size = self.grid.rows
        weights = {
            axis + 1: axis_weights(counts[axis], edges[axis], size, fields[axis] / size, starts[axis])
            for axis in (0, 1)
        }
        pixels = film.as_tensor().float()
        cut = apply_weights(pixels, weights, fill=float(pixels.min()))
        return MetaTensor(cut, affine=torch.from_numpy(self.grid.film_affine()), meta=meta)


class CropKneed(MapTransform):
    """Dictionary form of `CropKnee`.

    Args:
        keys: entries with films.
        image_size: rows and columns of the result.
        side_key: entry that says `R` or `L`.
        finder: see `CropKnee`.
        allow_missing_keys: pass over entries that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_size: int,
        side_key: str = SIDE,
        finder: KneeFinder | str | Path | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crop, self.side_key = CropKnee(image_size, finder), side_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Cut the films of one knee."""
        side = data.get(self.side_key)
        return dict(data) | {key: self.crop(data[key], side) for key in self.key_iterator(data)}
