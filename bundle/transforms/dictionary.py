"""Dictionary forms of the transforms in `array.py`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.keys import FILM, PARTICIPANT, READINGS, SIDE, SPACING
from bundle.transforms.array import (
    CanonicalSide,
    EncodeReadings,
    LoadFilm,
    NormaliseFilm,
    NormaliseVolume,
    RestoreSide,
    ToGrid,
)
from bundle.transforms.dicom_pixels import MAX_PIXELS

Data = Mapping[Hashable, Any]


class LoadFilmd(MapTransform):
    """Dictionary form of `LoadFilm`; fills `side` from the header where the data does not say it.

    Args:
        keys: entries with paths.
        spacing_mm: see `LoadFilm`.
        side_key: entry for the side.
        spacing_key: entry that, where the data has it, stands in for `spacing_mm`: a number, or text that is one, as
            a request to MONAI Label gives it.
        max_pixels: see `LoadFilm`.
        allow_missing_keys: pass over entries that are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: float | None = None,
        side_key: str = SIDE,
        max_pixels: int = MAX_PIXELS,
        allow_missing_keys: bool = False,
        spacing_key: str = SPACING,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load, self.side_key = LoadFilm(spacing_mm, max_pixels), side_key
        self.max_pixels, self.spacing_key = max_pixels, spacing_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Load the films of one knee.

        Raises:
            ValueError: if a film cannot be read, or the spacing is no number.
        """
        result = dict(data)
        load = self._with_spacing(result.get(self.spacing_key))
        for key in self.key_iterator(result):
            result[key] = load(result[key])
            if result.get(self.side_key) is None and "side" in result[key].meta:
                result[self.side_key] = result[key].meta["side"]
        return result

    def _with_spacing(self, given: Any) -> LoadFilm:
        if given is None:
            return self.load
        try:
            return LoadFilm(float(given), self.max_pixels)
        except (TypeError, ValueError):
            raise ValueError(f"`{self.spacing_key}` must be the pixel edge in mm, a number, got {given!r}.") from None


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
        """Bring the images of one knee to the right side."""
        side = data.get(self.side_key)
        return dict(data) | {key: self.canonical(data[key], side) for key in self.key_iterator(data)}


class RestoreSided(MapTransform):
    """Dictionary form of `RestoreSide`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.restore = RestoreSide()

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Bring the images of one knee back to its own side."""
        return dict(data) | {key: self.restore(data[key]) for key in self.key_iterator(data)}


class EncodeReadingsd(MapTransform):
    """Dictionary form of `EncodeReadings`.

    Args:
        keys: entries with readings.
        table, policy: see `EncodeReadings`.
        allow_missing_keys: True reads an absent entry as nothing known; False makes it an error.
    """

    def __init__(
        self,
        keys: KeysCollection = READINGS,
        table: str = "oai",
        policy: str = "zeros",
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.encode = EncodeReadings(table, policy)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Encode the readings of one knee."""
        result = dict(data)
        where = f"participant {data[PARTICIPANT]}" if PARTICIPANT in data else "readings"
        for key in self.keys:
            if key not in data and not self.allow_missing_keys:
                raise KeyError(f"`{key}` is not in the data; expected the readings of the knee, or None.")
            result[key] = self.encode(data.get(key), where)
        return result


class ReadingsWithFilmd(MapTransform):
    """Put the readings' vector into the film's meta, for a caller that hands the film alone to an inferer.

    MONAI Label does; `VolumeInferer` looks there when it is given no readings.

    Args:
        keys: entries with films, MetaTensors.
        readings: entry with the vector of `EncodeReadingsd`.
    """

    def __init__(self, keys: KeysCollection = FILM, readings: str = READINGS) -> None:
        super().__init__(keys)
        self.readings = readings

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Item with film and readings, to the same with films that know them."""
        result = dict(data)
        for key in self.keys:
            film = result[key].clone()
            film.meta[READINGS] = data[self.readings]
            result[key] = film
        return result
