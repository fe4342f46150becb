"""Marks on a film: the border that collimation leaves, lead letters, and burnt-in text."""

from __future__ import annotations

import numpy as np
import torch
from monai.utils import optional_import
from torch import Tensor

from bundle.phantom.film_clutter import Clutter, turn

image_module, _ = optional_import("PIL.Image")
draw_module, _ = optional_import("PIL.ImageDraw")
font_module, _ = optional_import("PIL.ImageFont")

_LETTER_MM, _TEXT_MM = 15.0, 4.2
_FINE = 4
"""Letters are drawn this much finer than the film's pixels, then averaged: their edges are as soft as the pixel."""
_PENUMBRA_MM = 0.8
_LABELS = {
    "PA": ("SYNTHETIC PHANTOM", "KNEE PA FIXED FLEXION", "NOT A PATIENT"),
    "LL": ("SYNTHETIC PHANTOM", "KNEE LATERAL", "NOT A PATIENT"),
}
_LETTER_STROKE, _TEXT_STROKE = 0.05, 0.0
"""What is added to the font's strokes, as a share of the letters' height: lead letters are cut from thick sheet."""


def exposed(clutter: Clutter, shape: tuple[int, int], spacing_mm: float) -> Tensor:
    """Share of the primary beam that the collimator's jaws let through, 0 to 1, (H, W)."""
    rows, columns = shape
    if not any(clutter.collimation_mm):
        return torch.ones(shape)
    top, bottom, left, right = clutter.collimation_mm
    middle = np.array([rows - 1, columns - 1]) / 2
    back = turn(-clutter.collimation_deg)
    r = torch.arange(rows, dtype=torch.float64)[:, None] - middle[0]
    c = torch.arange(columns, dtype=torch.float64)[None, :] - middle[1]
    down, across = float(back[0, 0]) * r + float(back[0, 1]) * c, float(back[1, 0]) * r + float(back[1, 1]) * c
    inside = torch.minimum(
        torch.minimum(down + middle[0] - top / spacing_mm, middle[0] - bottom / spacing_mm - down),
        torch.minimum(across + middle[1] - left / spacing_mm, middle[1] - right / spacing_mm - across),
    )
    return (0.5 + inside * spacing_mm / _PENUMBRA_MM).clamp(0, 1).float()


def lead(clutter: Clutter, shape: tuple[int, int], spacing_mm: float) -> Tensor:
    """Share of each pixel under a lead letter, 0 to 1, (H, W): the side, beside the knee it belongs to."""
    columns = shape[1]
    cover = np.zeros(shape, dtype=np.float32)
    for side, down, inset, degrees in clutter.markers:
        tile = _text((side,), _LETTER_MM, spacing_mm, degrees=degrees, stroke=_LETTER_STROKE)
        row = round(down / spacing_mm)
        # A lone left knee is seen as a left one: its outer edge is the film's right one all the same.
        column = round(inset / spacing_mm) if side == "R" else columns - 1 - round(inset / spacing_mm)
        _paste(cover, tile, row - tile.shape[0] // 2, column - tile.shape[1] // 2)
    return torch.from_numpy(cover)


def burn_label(pixels: np.ndarray, clutter: Clutter, spacing_mm: float, white: int) -> np.ndarray:
    """Write the text block of a film over its pixels, (H, W) uint16: in white, on a white border in black.

    It names nobody, so that DICOM's Burned In Annotation stays NO.
    """
    if not clutter.label:
        return pixels
    tile = _text(_LABELS[clutter.view], _TEXT_MM, spacing_mm, degrees=0.0, stroke=_TEXT_STROKE)
    edge = round(6.0 / spacing_mm)
    vertical, horizontal = clutter.label.split()
    row = edge if vertical == "top" else pixels.shape[0] - edge - tile.shape[0]
    column = edge if horizontal == "left" else pixels.shape[1] - edge - tile.shape[1]
    cover = np.zeros(pixels.shape, dtype=np.float32)
    _paste(cover, tile, row, column)
    ink = white if pixels[cover > 0].mean() < white / 2 else 0
    return np.round(pixels + cover * (ink - pixels.astype(np.float64))).astype(np.uint16)


def _text(lines: tuple[str, ...], height_mm: float, spacing_mm: float, *, degrees: float, stroke: float) -> np.ndarray:
    """Letters `height_mm` high, share of each pixel covered, (h, w) float32."""
    size = max(round(height_mm / spacing_mm * _FINE), 6)
    font = font_module.load_default(size)
    boxes = [font.getbbox(line) for line in lines]
    wide, pitch = max(box[2] for box in boxes), round(1.25 * size)
    spare = size // 2
    canvas = image_module.new("L", (wide + 2 * spare, pitch * len(lines) + 2 * spare))
    pen = draw_module.Draw(canvas)
    for k, line in enumerate(lines):
        pen.text((spare, spare + k * pitch), line, fill=255, font=font, stroke_width=round(stroke * size))
    if degrees:
        canvas = canvas.rotate(degrees, resample=image_module.Resampling.BILINEAR)
    shape = max(canvas.width // _FINE, 1), max(canvas.height // _FINE, 1)
    return np.asarray(canvas.resize(shape, image_module.Resampling.BOX), dtype=np.float32) / 255


def _paste(cover: np.ndarray, tile: np.ndarray, row: int, column: int) -> None:
    """Lay a tile over an image, cut at its edges."""
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + tile.shape[0], cover.shape[0]), min(column + tile.shape[1], cover.shape[1])
    if bottom > top and right > left:
        target = cover[top:bottom, left:right]
        np.maximum(target, tile[top - row : bottom - row, left - column : right - column], out=target)
