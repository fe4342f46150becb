"""Dictionary forms of the transforms in `array.py`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.keys import SIDE
from bundle.transforms.array import CanonicalSide, EncodeReadings, LoadFilm, NormaliseFilm, NormaliseVolume, ToGrid

Data = Mapping[Hashable, Any]


class LoadFilmd(MapTransform):
    """Dictionary form of `LoadFilm`; fills `side` from the header where the data does not say it.

    Args:
        keys: entries with paths.
        spacing_mm: see `LoadFilm`.
        side_key: entry for the side.
        allow_missing_keys: pass over entries that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: float | None = None,
        side_key: str = SIDE,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load, self.side_key = LoadFilm(spacing_mm), side_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Load the films of one knee."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.load(result[key])
            if result.get(self.side_key) is None:
                result[self.side_key] = result[key].meta.get("side")
        return result


class NormaliseFilmd(MapTransform):
    """Dictionary form of `NormaliseFilm`."""

    def __init__(
        self, keys: KeysCollection, lower: float = 0.5, upper: float = 99.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.normalise = NormaliseFilm(lower, upper)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Normalise the films of one knee."""
        return dict(data) | {key: self.normalise(data[key]) for key in self.key_iterator(data)}


class NormaliseVolumed(MapTransform):
    """Dictionary form of `NormaliseVolume`."""

    def __init__(
        self, keys: KeysCollection, lower: float = 0.5, upper: float = 99.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.normalise = NormaliseVolume(lower, upper)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Normalise the volumes of one knee."""
        return dict(data) | {key: self.normalise(data[key]) for key in self.key_iterator(data)}


class ToGridd(MapTransform):
    """Dictionary form of `ToGrid`."""

    def __init__(
        self, keys: KeysCollection, image_size: int, slices: int | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to_grid = ToGrid(image_size, slices)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Resample the images of one knee."""
        return dict(data) | {key: self.to_grid(data[key]) for key in self.key_iterator(data)}


class CanonicalSided(MapTransform):
    """Dictionary form of `CanonicalSide`.

    Args:
        keys: entries with images.
        side_key: entry that says `R` or `L`.
        allow_missing_keys: pass over entries that are absent.
    """

    def __init__(self, keys: KeysCollection, side_key: str = SIDE, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.canonical, self.side_key = CanonicalSide(), side_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Bring one knee to the right side."""
        side = data[self.side_key]
        return dict(data) | {key: self.canonical(data[key], side) for key in self.key_iterator(data)}


class EncodeReadingsd(MapTransform):
    """Dictionary form of `EncodeReadings`; an absent entry means that nothing is known."""

    def __init__(self, keys: KeysCollection, table: str = "oai", policy: str = "zeros") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.encode = EncodeReadings(table, policy)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Encode the readings of one knee."""
        return dict(data) | {key: self.encode(data.get(key)) for key in self.keys}
