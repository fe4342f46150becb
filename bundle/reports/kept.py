"""A coronal slice of a knee beside what models made of it: what an evaluation keeps for pictures of several."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.writers import whole

SLICES_FILE, FEATURES_FILE = "slices.npz", "features.npz"
"""In an evaluation's folder: knees of each grade under labels such as G-2, and findings told and not told."""
GRADES = (0, 2, 4)
"""Kellgren-Lawrence grades of the rows of the paper's pictures, G-0, G-2, G-4."""
OFF, ON = "off", "on"
"""Names of the slices made without and with a finding's readings."""
MIDDLE = 0.5
"""Depth of the slice of a picture, where nothing asks for another."""


@dataclass(frozen=True)
class KeptSlice:
    """One slice of one knee.

    Args:
        film: grey values, (H, W), uint8; pixels are square, as the grid's are.
        real: the real slice, (H, W), uint8, of the film's extent.
        made: what was made of the film, name to slice like `real`.
        depth: of the slice, in [0, 1].
        knee: participant, side, visit.
        kl_grade: 0 to 4, None where missing.
        mirrored: whether a left knee is shown as a right one.
        remark: what a caption must say of it.
    """

    film: np.ndarray
    real: np.ndarray
    made: Mapping[str, np.ndarray]
    depth: float
    knee: tuple[str, str, str]
    kl_grade: int | None = None
    mirrored: bool = False
    remark: str = ""


def grade_label(grade: int) -> str:
    """A grade as the paper writes it."""
    return f"G-{grade}"


def write_kept(path: str | Path, kept: Mapping[str, KeptSlice]) -> None:
    """Write slices under their labels, as a compressed NumPy archive without pickles."""
    arrays: dict[str, Any] = {}
    about: dict[str, dict[str, Any]] = {}
    for label, found in kept.items():
        images = {"film": found.film, "real": found.real} | {f"made/{name}": made for name, made in found.made.items()}
        arrays |= {f"{label}/{name}": image for name, image in images.items()}
        words = asdict(found)
        about[label] = {name: words[name] for name in words if name not in ("film", "real", "made")}
        about[label]["made"] = list(found.made)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)


def read_kept(path: str | Path) -> dict[str, KeptSlice]:
    """Label to slice; empty where there is no such file.

    Raises:
        ValueError: if the file is not what `write_kept` writes.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(str(archive["about"]))
            return {label: _slice(label, words, archive) for label, words in about.items()}
    except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
        raise ValueError(f"{path}: not slices that an evaluation kept ({error!r}); evaluate again.") from None


def _slice(label: str, words: dict[str, Any], archive: Mapping[str, np.ndarray]) -> KeptSlice:
    words["made"] = {name: archive[f"{label}/made/{name}"] for name in words["made"]}
    words["knee"] = tuple(words["knee"])
    return KeptSlice(film=archive[f"{label}/film"], real=archive[f"{label}/real"], **words)
