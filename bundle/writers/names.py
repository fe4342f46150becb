"""Names of outputs after those of the films, no two alike in a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

IMAGE_ENDINGS = (".nii.gz", ".nii", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".tar.gz", ".tgz", ".tar")


def stem_of(name: str) -> str:
    """File name without the endings of images."""
    for ending in IMAGE_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def unique_stems(films: Sequence[Path]) -> list[str]:
    """Stem of each film's outputs: its own, with the names of its folders before it where films share one.

    Three films `a/001`, `b/001` and `b/film.png` become `a_001`, `b_001` and `film`. Where folders do not tell two
    apart (`x.dcm` and `x.png`), the ending is kept: `x_dcm`, `x_png`.

    Args:
        films: different files.

    Raises:
        ValueError: if a file comes twice.
    """
    places = [path.resolve() for path in films]
    stems = [stem_of(path.name) for path in films]
    same_folder = Counter(zip((place.parent for place in places), stems, strict=True))
    for number, (place, stem) in enumerate(zip(places, stems, strict=True)):
        if same_folder[place.parent, stem] > 1:
            stems[number] = place.name.replace(".", "_")
    plain, depth = list(stems), 0
    while shared := {plain[n] for n in _alike(stems)}:
        depth += 1
        if depth >= max(len(place.parts) for place in places):
            twice = next(film for film, stem in zip(films, plain, strict=True) if stem in shared)
            raise ValueError(f"{twice}: comes twice, or its outputs would have the name of another film's.")
        for number, place in enumerate(places):
            if plain[number] in shared:
                folders = [part for part in place.parts[-1 - depth : -1] if part != place.anchor]
                stems[number] = "_".join([*folders, plain[number]])
    return stems


def _alike(stems: Sequence[str]) -> list[int]:
    """Numbers of the stems that occur more than once."""
    count = Counter(stems)
    return [number for number, stem in enumerate(stems) if count[stem] > 1]
