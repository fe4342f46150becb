"""What a film may look like that a knee finder must cope with, and what it must say no to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform, Rotate
from torch import Tensor

from bundle.keys import FILM

_TURNED = (0.6, 5.7)
"""Radians: from 34 degrees one way to 34 the other."""


class RandOneKneed(RandomizableTransform):
    """Blacken the half of a bilateral film beyond its middle, so that one knee is left; move it to the middle or not.

    Args:
        image_key: view of the film, (1, H, W), its columns leftwards (the right knee in the first ones).
        points_key: (2 sides, P, 3), NaN for what is not there.
        prob: share of films.
    """

    def __init__(self, image_key: str = FILM, points_key: str = "points", prob: float = 0.25) -> None:
        super().__init__(prob)
        self.image_key, self.points_key = image_key, points_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Perhaps remove one knee from image and points."""
        self.randomize(None)
        gone, moved = int(self.R.randint(2)), bool(self.R.randint(2))
        result = dict(data)
        if self._do_transform:
            image, points = result[self.image_key].as_tensor().clone(), result[self.points_key].clone()
            affine = result[self.image_key].affine.clone()
            middle = image.shape[2] // 2
            image[:, :, slice(0, middle) if gone == 0 else slice(middle, None)] = 0
            points[gone] = torch.nan
            if moved:
                shift = -middle // 2 if gone == 0 else middle // 2
                image = image.roll(shift, dims=2)
                affine[:3, 3] -= affine[:3, 1] * shift
            result |= {self.image_key: MetaTensor(image, affine=affine), self.points_key: points}
        return result


class RandNoKneed(RandomizableTransform):
    """Turn a film upside down or far round, or leave nothing of it but noise: there is no knee to find on it.

    Args:
        image_key, points_key: as in `RandOneKneed`.
        prob: share of films.
    """

    def __init__(self, image_key: str = FILM, points_key: str = "points", prob: float = 0.1) -> None:
        super().__init__(prob)
        self.image_key, self.points_key = image_key, points_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Perhaps spoil image and points."""
        self.randomize(None)
        kind, level, angle = int(self.R.randint(4)), self.R.random(2), float(self.R.uniform(*_TURNED))
        result = dict(data)
        if self._do_transform:
            image = result[self.image_key].as_tensor()
            noise = torch.from_numpy(self.R.random(tuple(image.shape)).astype("float32"))
            spoilt: tuple[Tensor, ...] = (
                image.flip(1),
                image.flip(1, 2),
                Rotate(angle)(image).as_tensor(),
                image * 0 + float(level[0]) + float(level[1]) * noise,
            )
            points = torch.full_like(result[self.points_key], torch.nan)
            affine = result[self.image_key].affine
            result |= {self.image_key: MetaTensor(spoilt[kind], affine=affine), self.points_key: points}
        return result


class RandNegatived(RandomizableTransform, MapTransform):
    """Turn greys in [0, 1] round, as a film whose photometric interpretation is wrong.

    Args:
        keys: images.
        prob: share of films.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Perhaps invert."""
        self.randomize(None)
        return dict(data) | ({key: 1 - data[key] for key in self.keys} if self._do_transform else {})
