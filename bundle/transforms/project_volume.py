"""A volume seen along the film's rays, as one picture that a network for films can be trained on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from bundle.keys import FILM, MRI
from bundle.transforms.array import NormaliseFilm


def project_volume(volume: Tensor) -> Tensor:
    """Minus the mean over slices, so that bone is bright as on a film, its 0.5 and 99.5 percentiles at -1 and 1.

    It is no film: fat and air are as bright as bone, and the knee is nearly straight.

    Args:
        volume: (1, H, W, S), a canonical knee on the model's grid.

    Returns:
        (1, H, W) in [-1, 1].

    Raises:
        ValueError: if it has another shape, is not finite, or has no contrast.
    """
    plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
    if plain.ndim != 4 or plain.shape[0] != 1:
        raise ValueError(f"`volume` must have shape (1, H, W, S), got {tuple(plain.shape)}.")
    return NormaliseFilm()(-plain.float().mean(dim=-1, keepdim=True))[..., 0].as_tensor()


class ProjectVolumed(MapTransform):
    """Put the projection of a volume where the film is.

    Args:
        keys: entries with volumes.
        film_key: entry for the projection.
    """

    def __init__(self, keys: Any = MRI, film_key: str = FILM) -> None:
        super().__init__(keys)
        self.film_key = film_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Project the volume of one knee, which is then dropped."""
        key = self.keys[0]
        rest = {name: value for name, value in data.items() if name != key}
        return rest | {self.film_key: project_volume(data[key])}
