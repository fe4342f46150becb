"""A picture of joint patches: the film with both squares, each patch, and where a network looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from monai.utils import optional_import

from bundle.writers.whole import whole

Image, _ = optional_import("PIL.Image")
ImageDraw, _ = optional_import("PIL.ImageDraw")

TILE = 224
"""Edge of a tile, pixels."""
_COLOURS = {"medial": (255, 190, 60), "lateral": (90, 190, 255)}
_HEAT = ((0.0, (20, 20, 120)), (0.35, (30, 160, 160)), (0.7, (240, 220, 60)), (1.0, (230, 30, 30)))
_TITLES = ("film, canonical right knee", "medial", "lateral, reversed", "medial, Grad-CAM", "lateral, Grad-CAM")


@dataclass(frozen=True)
class PatchRow:
    """One knee of the picture.

    Args:
        title: a line above it.
        film: (H, W) in [0, 1].
        squares: compartment to (first row, first column, edge), in shares of the film's edge.
        patches: (2, h, w) in [0, 1], medial and lateral.
        attention: (2, h, w) in [0, 1].
    """

    title: str
    film: np.ndarray
    squares: dict[str, tuple[float, float, float]]
    patches: np.ndarray
    attention: np.ndarray


def write_patch_sheet(rows: Sequence[PatchRow], path: str | Path, *, title: str) -> Path:
    """Write the picture as PNG, a knee a row; its folder is made.

    Args:
        rows: the knees.
        path: file to write.
        title: one line above the pictures.

    Returns:
        `path`.
    """
    sheet = Image.new("RGB", (len(_TITLES) * (TILE + 6), 24 + len(rows) * (TILE + 34)), 0)
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 5), title, fill=(255, 255, 255))
    for number, row in enumerate(rows):
        top = 24 + number * (TILE + 34)
        draw.text((4, top), row.title, fill=(255, 255, 255))
        pictures = [_grey(row.film), *map(_grey, row.patches)]
        pictures += [_overlay(patch, heat) for patch, heat in zip(row.patches, row.attention, strict=True)]
        for column, (label, picture) in enumerate(zip(_TITLES, pictures, strict=True)):
            left = column * (TILE + 6)
            draw.text((left + 4, top + 13), label, fill=(180, 180, 180))
            sheet.paste(picture, (left, top + 28))
        for name, (first_row, first_column, edge) in row.squares.items():
            at = (first_column * TILE, top + 28 + first_row * TILE)
            draw.rectangle((*at, at[0] + edge * TILE, at[1] + edge * TILE), outline=_COLOURS[name], width=2)
            draw.text((at[0] + 4, at[1] + 3), name, fill=_COLOURS[name])
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def _grey(picture: np.ndarray) -> object:
    values = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(values).resize((TILE, TILE), Image.BICUBIC).convert("RGB")


def _overlay(patch: np.ndarray, heat: np.ndarray) -> object:
    """A patch with the heat over it, as strong as the heat is."""
    stops, colours = [stop for stop, _ in _HEAT], np.array([colour for _, colour in _HEAT])
    colour = np.stack([np.interp(heat, stops, channel) for channel in colours.T], axis=-1)
    share = 0.6 * np.clip(heat, 0, 1)[..., None]
    mixed = (1 - share) * 255 * np.clip(patch, 0, 1)[..., None] + share * colour
    return Image.fromarray(mixed.round().astype(np.uint8)).resize((TILE, TILE), Image.BILINEAR)
