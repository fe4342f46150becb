"""MONAI transforms for films, volumes and readings."""

from bundle.transforms.array import (
    CanonicalSide,
    EncodeReadings,
    LoadFilm,
    NormaliseFilm,
    NormaliseVolume,
    ToGrid,
    resize_plane,
)
from bundle.transforms.dictionary import (
    CanonicalSided,
    EncodeReadingsd,
    LoadFilmd,
    NormaliseFilmd,
    NormaliseVolumed,
    ToGridd,
)
from bundle.transforms.flatten import FlattenFilmd
from bundle.transforms.volume import PlaceVolumed, place_volume

__all__ = [
    "CanonicalSide",
    "CanonicalSided",
    "EncodeReadings",
    "EncodeReadingsd",
    "FlattenFilmd",
    "LoadFilm",
    "LoadFilmd",
    "NormaliseFilm",
    "NormaliseFilmd",
    "NormaliseVolume",
    "NormaliseVolumed",
    "PlaceVolumed",
    "ToGrid",
    "ToGridd",
    "place_volume",
    "resize_plane",
]
