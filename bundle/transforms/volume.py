"""Give a synthesised volume its place in space, and the side of the film it came from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from bundle.geometry import Grid, mirror_columns
from bundle.keys import FILM, MIRRORED


def place_volume(
    volume: Tensor, *, image_size: int, slices: int, mirrored: bool, depths: Sequence[float] | None = None
) -> MetaTensor:
    """A volume on the canonical grid, as an image of the knee it shows.

    Args:
        volume: (1, H, W, S) of a canonical right knee; S may differ from the grid's.
        image_size: H and W of the grid.
        slices: S of the grid, from which the slices' positions follow.
        mirrored: whether the film was mirrored to the canonical side; the volume is then mirrored back.
        depths: where the slices are, in [0, 1], if they are not spread evenly over the window.

    Returns:
        (1, H, W, S) with the grid's affine: in-plane origin at the joint centre, RAS mm.

    Raises:
        ValueError: if `depths` are not evenly spaced and ascending: an affine could not say where they are.
    """
    grid = Grid.of(image_size=image_size, slices=slices)
    if mirrored:
        volume = mirror_columns(volume, columns_dim=-2)
    plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
    affine = grid.affine(volume.shape[-1]) if depths is None else grid.affine_of_depths(depths)
    return MetaTensor(plain, affine=torch.from_numpy(affine))


class PlaceVolumed(MapTransform):
    """Dictionary form of `place_volume`.

    MONAI Label writes the result with the film's metadata, so the film's `spatial_shape` and `original_affine`
    become the volume's.

    Args:
        keys: entries with volumes.
        image_size, slices: of the grid.
        film_key: entry with the film that says whether it was mirrored.
        allow_missing_keys: pass over entries that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        image_size: int,
        slices: int,
        film_key: str = FILM,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_size, self.slices, self.film_key = image_size, slices, film_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Place the volumes of one knee."""
        result = dict(data)
        film = result[self.film_key]
        meta = film.meta if isinstance(film, MetaTensor) else {}
        for key in self.key_iterator(result):
            volume = place_volume(
                result[key], image_size=self.image_size, slices=self.slices, mirrored=bool(meta.get(MIRRORED))
            )
            meta["spatial_shape"] = tuple(volume.shape[1:])
            meta["original_affine"] = volume.affine.numpy()
            result[key] = volume
        return result
