"""Drop a film's third dim once nothing needs its geometry as an array any more."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import MapTransform


class FlattenFilmd(MapTransform):
    """(1, H, W, 1) to (1, H, W); the affine stays that of the film in space, which MONAI's `SqueezeDimd` warns of."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Flatten the films of one knee."""
        result = dict(data)
        for key in self.key_iterator(result):
            film = result[key]
            if film.ndim != 4 or film.shape[-1] != 1:
                raise ValueError(f"`{key}` must have shape (1, H, W, 1), got {tuple(film.shape)}.")
            result[key] = film[..., 0]
        return result
