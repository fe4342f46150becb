"""A contact sheet: the film, slices from posterior to anterior, and two reformats on one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from monai.utils import optional_import

from bundle.writers.mark import MARK
from bundle.writers.whole import whole

Image, _ = optional_import("PIL.Image")
ImageDraw, _ = optional_import("PIL.ImageDraw")
PngInfo, _ = optional_import("PIL.PngImagePlugin", name="PngInfo")

TILE = 192
"""Edge of a tile, pixels."""


def write_sheet(
    film: np.ndarray, volume: np.ndarray, path: str | Path, *, spacing_mm: tuple[float, float, float], title: str
) -> Path:
    """Write a contact sheet as PNG.

    Args:
        film: (H, W) in [0, 1].
        volume: (H, W, S) in [0, 1], axes ILA.
        path: file to write.
        spacing_mm: voxel edges along rows, columns, slices.
        title: one line above the pictures.

    Returns:
        `path`.
    """
    height, width, slices = volume.shape
    chosen = np.linspace(0, slices - 1, min(slices, 13)).round().astype(int)
    extent = [edge * count for edge, count in zip(spacing_mm, volume.shape, strict=True)]
    tiles = [("film", film, extent[1] / extent[0])]
    tiles += [(f"slice {index + 1} of {slices}", volume[:, :, index], extent[1] / extent[0]) for index in chosen]
    tiles.append(("sagittal, anterior to the left", volume[:, width // 3, ::-1], extent[2] / extent[0]))
    # rows of an axial picture run from anterior to posterior, as radiologists look at it
    tiles.append(("axial, anterior up", volume[height // 2, :, ::-1].T, extent[1] / extent[2]))
    columns = 8
    rows = -(-len(tiles) // columns)
    sheet = Image.new("L", (columns * TILE, rows * (TILE + 16) + 20), 0)
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 4), title, fill=255)
    for index, (label, picture, aspect) in enumerate(tiles):
        left, top = index % columns * TILE, index // columns * (TILE + 16) + 20
        size = (TILE, max(1, round(TILE / aspect))) if aspect >= 1 else (max(1, round(TILE * aspect)), TILE)
        grey = Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8)).resize(size, Image.BILINEAR)
        sheet.paste(grey, (left + (TILE - size[0]) // 2, top + 14 + (TILE - size[1]) // 2))
        draw.text((left + 3, top), label, fill=200)
    path = Path(path)
    inside = PngInfo()
    inside.add_text("Description", MARK)
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=inside)
    return path
