"""Faults of a film's header and file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from bundle.phantom.faults.registry import READ, REFUSE, plants


@plants("film", READ, "dark is high; inverting against the bit depth makes bone bright")
def monochrome1(datasets: list[Dataset]) -> list[Dataset]:
    """The film is stored as MONOCHROME1."""
    for film in datasets:
        if film.PhotometricInterpretation == "MONOCHROME2":
            _store(film, 2**film.BitsStored - 1 - _stored(film), film.BitsStored)
            film.PhotometricInterpretation = "MONOCHROME1"
            if "PresentationLUTShape" in film:
                film.PresentationLUTShape, film.PixelIntensityRelationshipSign = "INVERSE", 1
    return datasets


@plants("film", READ, "PixelSpacing holds what ImagerPixelSpacing would")
def pixel_spacing_only(datasets: list[Dataset]) -> list[Dataset]:
    """The film has PixelSpacing and no ImagerPixelSpacing."""
    for film in datasets:
        film.PixelSpacing = film.ImagerPixelSpacing
        del film.ImagerPixelSpacing
    return datasets


@plants("film", READ, "the text holds two numbers")
def spacing_as_text(datasets: list[Dataset]) -> list[Dataset]:
    """The film's spacing is stored as text (LO) in place of decimals (DS)."""
    for film in datasets:
        spacing = [str(value) for value in film.ImagerPixelSpacing]
        film.pop("PixelSpacing", None)
        tag = Tag("ImagerPixelSpacing")
        film[tag] = DataElement(tag, "LO", spacing)
    return datasets


@plants("film", REFUSE, "without a pixel spacing no length is known; --spacing gives it")
def spacing_absent(datasets: list[Dataset]) -> list[Dataset]:
    """The film has no spacing."""
    for film in datasets:
        film.pop("ImagerPixelSpacing", None)
        film.pop("PixelSpacing", None)
    return datasets


@plants("film", READ, "the bit depth is in the header")
def bits_10(datasets: list[Dataset]) -> list[Dataset]:
    """The film stores 10 bits."""
    return [_with_bits(film, 10) for film in datasets]


@plants("film", READ, "the bit depth is in the header")
def bits_12(datasets: list[Dataset]) -> list[Dataset]:
    """The film stores 12 bits, as the phantom's sound films do."""
    return [_with_bits(film, 12) for film in datasets]


@plants("film", READ, "the bit depth is in the header")
def bits_15(datasets: list[Dataset]) -> list[Dataset]:
    """The film stores 15 bits."""
    return [_with_bits(film, 15) for film in datasets]


@plants("film", READ, "the bit depth is in the header")
def bits_16(datasets: list[Dataset]) -> list[Dataset]:
    """The film stores 16 bits."""
    return [_with_bits(film, 16) for film in datasets]


@plants("film", READ, "no text that a reader needs is beyond ASCII")
def invalid_character_set(datasets: list[Dataset]) -> list[Dataset]:
    """The film names the character set ISO_2022_IR_6, which does not exist."""
    for film in datasets:
        tag = Tag("SpecificCharacterSet")
        film[tag] = DataElement(tag, "CS", "ISO_2022_IR_6", already_converted=True)
    return datasets


@plants("film_file", READ, "the dataset is whole and can be read without preamble and file meta")
def no_file_meta(folder: Path) -> None:
    """The film's file begins with its dataset: no preamble, no file meta."""
    for path in folder.iterdir():
        content = path.read_bytes()
        # (0002,0000) UL says how long the rest of the file meta is; it is the first element behind the prefix.
        length = int.from_bytes(content[140:144], "little")
        path.write_bytes(content[144 + length :])


@plants("film", REFUSE, "the header lacks what pixels need")
def no_bits_allocated(datasets: list[Dataset]) -> list[Dataset]:
    """The film's header lacks BitsAllocated."""
    for film in datasets:
        film["PixelData"].VR = "OW"  # the writer would take it from BitsAllocated
        del film.BitsAllocated
    return datasets


def _stored(film: Dataset) -> np.ndarray:
    return np.frombuffer(film.PixelData, dtype="<u2").reshape(film.Rows, film.Columns)


def _store(film: Dataset, stored: np.ndarray, bits: int) -> None:
    film.PixelData = stored.astype("<u2").tobytes()
    film.BitsStored, film.HighBit = bits, bits - 1


def _with_bits(film: Dataset, bits: int) -> Dataset:
    full, wanted = 2**film.BitsStored - 1, 2**bits - 1
    _store(film, np.round(_stored(film) / full * wanted), bits)
    film.WindowCenter, film.WindowWidth = f"{(wanted + 1) / 2:g}", f"{wanted + 1:g}"
    return film
