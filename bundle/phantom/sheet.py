"""A contact sheet of phantom knees: people by rows, then one person with one finding after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from monai.utils import optional_import
from skimage.transform import resize

from bundle.phantom.anatomy import Person, sample_person
from bundle.phantom.files import temporary
from bundle.phantom.film import BITS, film_geometry, render_film
from bundle.phantom.mri import render_mri
from bundle.phantom.population import derive_kl
from bundle.phantom.pose import solve_pose
from bundle.phantom.tissues import SIGNAL
from bundle.readings import VARIABLES

image_module, _ = optional_import("PIL.Image")
draw_module, _ = optional_import("PIL.ImageDraw")

_HEALTHY = dict.fromkeys(VARIABLES[1:], 0)
GRADE_ROWS: dict[str, dict[str, int]] = {
    "healthy": {},
    "narrowing medial 2": {"XRJSM": 2},
    "narrowing lateral 3": {"XRJSL": 3},
    "osteophytes 2-3": {"XROSFM": 3, "XROSFL": 2, "XROSTM": 3, "XROSTL": 2},
    "sclerosis medial 3, cysts": {"XRJSM": 2, "XRSCTM": 3, "XRSCFM": 2, "XRCYTM": 1, "XRCYFM": 1},
    "chondrocalcinosis": {"XRCHM": 1, "XRCHL": 1},
    "attrition medial 3, narrowing 3": {"XRJSM": 3, "XRATTM": 3, "XROSTM": 3, "XROSFM": 2, "XRSCTM": 2},
}
"""Findings of the sheet's second block, on one person; what is not named is 0."""
_DEPTHS = (0.10, 0.26, 0.36, 0.45, 0.54, 0.68)
"""Coronal tiles: depth from the posterior to the anterior end of the volume."""
_COLUMNS = (0.35, 0.5, 0.64)
"""Sagittal tiles of a right knee: through the lateral compartment, the notch and the medial compartment."""
_ROWS = (0.36, 0.50)
"""Axial tiles: through the trochlea and the joint."""
_CROP_MM = 150.0
_TILE = 256
_SIDES_MM = (160.0, 120.0)
"""The MRI's field of view in its plane, and its depth."""


def write_sheet(path: Path, *, seed: int, participants: int, enrich: bool = False, grades: bool = True) -> None:
    """Draw the right knees of a cohort's first people, and a block with one finding a row.

    Args:
        path: PNG; complete or absent.
        seed: of the cohort.
        participants: rows of the first block.
        enrich: as the cohort's.
        grades: with the second block, on participant 0.
    """
    rows = []
    for index in range(participants):
        person = sample_person(seed, index, enrich=enrich)
        who, kl = person.covariates, person.knees["R"].readings["XRKL"]
        rows.append(_row(person, f"{who.sex} {who.age} y, BMI {who.bmi:.0f}, KL {kl}"))
    for name, findings in GRADE_ROWS.items() if grades else ():
        readings = _HEALTHY | findings
        rows.append(_row(sample_person(seed, 0, readings={"R": readings}), f"{name}, KL {derive_kl(readings)}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    image_module.fromarray(np.concatenate(rows)).save(temporary(path), format="PNG")
    temporary(path).replace(path)


def film_crop(person: Person, film: np.ndarray, spacing_mm: float, side: str, *, crop_mm: float) -> np.ndarray:
    """Square of a film round the true joint centre of one knee."""
    held = solve_pose(person.knees[side], "film")
    centre = film_geometry(person, spacing_mm).project((held.femur.shift + held.tibia.shift) / 2, side)
    half = round(crop_mm / spacing_mm / 2)
    row, column = (round(float(value)) + half for value in centre)
    return np.pad(film, half)[row - half : row + half, column - half : column + half]


def _row(person: Person, caption: str) -> np.ndarray:
    film, spacing = render_film(person, spacing_mm=0.4)
    volume, _ = render_mri(person, "R", size=256)
    white = SIGNAL["cartilage"] * 1.15
    count, size = volume.shape[0], volume.shape[1]
    tiles = {caption: film_crop(person, film, spacing, "R", crop_mm=_CROP_MM) / (2.0**BITS - 1)}
    for depth in _DEPTHS:
        tiles[f"coronal {depth * _SIDES_MM[1]:.0f} mm"] = volume[round(depth * (count - 1))] / white
    # Anterior to the left in sagittal tiles and to the top in axial ones.
    side = _TILE * _SIDES_MM[1] / _SIDES_MM[0]
    for name, column in zip(("lateral", "notch", "medial"), _COLUMNS, strict=True):
        plane = volume[::-1, :, round(column * size)].T / white
        tiles[f"sagittal, {name}"] = _padded(resize(plane, (_TILE, round(side)), order=1))
    for name, row in zip(("trochlea", "joint"), _ROWS, strict=True):
        plane = volume[::-1, round(row * size)] / white
        tiles[f"axial, {name}"] = _padded(resize(plane, (round(side), _TILE), order=1))
    return np.concatenate([_captioned(tile, name) for name, tile in tiles.items()], axis=1)


def _captioned(tile: np.ndarray, caption: str) -> np.ndarray:
    pixels = (255 * np.clip(resize(tile, (_TILE, _TILE), order=1), 0, 1)).astype(np.uint8)
    pixels[:, -1] = pixels[-1] = 60
    image = image_module.fromarray(pixels)
    draw_module.Draw(image).text((4, 3), caption, fill=255)
    return np.asarray(image)


def _padded(tile: np.ndarray) -> np.ndarray:
    size = max(tile.shape)
    spare = [size - length for length in tile.shape]
    return np.pad(tile, [(s // 2, s - s // 2) for s in spare])
