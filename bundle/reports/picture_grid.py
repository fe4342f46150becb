"""Grey images in rows and columns with words about them, as one PNG."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.utils import optional_import

# A Figure of its own, not pyplot: no backend, no global state.
Figure, has_matplotlib = optional_import("matplotlib.figure", name="Figure")

INK, MUTED = "#2b2b2b", "#767676"
DPI = 150
CELL, GAP, BLOCK_GAP, LABEL = 1.45, 0.04, 0.14, 1.5
"""Inches: edge of an image, space between images, more space above a block, words before a row."""
LINE, FOOT_LINE = 0.15, 0.16
CHARACTERS, LABEL_CHARACTERS, DETAIL_CHARACTERS = 20, 18, 23
"""In a line: of a column's head, and of the words before a row."""


@dataclass(frozen=True)
class ImageRow:
    """A row of images.

    Args:
        images: (H, W) uint8, None where a place stays empty; all rows have as many.
        label: words before the row.
        detail: smaller words below the label.
        opens: whether a new block begins with it, which has more space above.
    """

    images: Sequence[np.ndarray | None]
    label: str = ""
    detail: str = ""
    opens: bool = True


def picture_grid(rows: Sequence[ImageRow], *, heads: Sequence[str], title: str, foot: Sequence[str] = ()) -> bytes:
    """Draw it.

    Args:
        rows: from the top, at least one.
        heads: above the columns.
        title: above everything.
        foot: paragraphs below.

    Returns:
        PNG file.

    Raises:
        ValueError: if there is no row, or a row has another number of images than there are heads.
        OptionalImportError: if matplotlib is missing.
    """
    if not rows:
        raise ValueError("`rows` must hold at least one row of images, got none.")
    if any(len(row.images) != len(heads) for row in rows):
        raise ValueError(f"every row must have {len(heads)} images, got {[len(row.images) for row in rows]}.")
    width = LABEL + len(heads) * (CELL + GAP) + GAP
    words = [line for text in foot for line in textwrap.wrap(text, int(width * 14.5))]
    names = [textwrap.wrap(head, CHARACTERS, break_on_hyphens=False) for head in heads]
    lines = textwrap.wrap(title, int(width * 10))
    head = 0.25 + 0.2 * len(lines) + LINE * max(map(len, names))
    body = sum(CELL + (BLOCK_GAP if row.opens else GAP) for row in rows)
    height = head + body + 0.14 + FOOT_LINE * len(words)
    figure = Figure(figsize=(width, height), facecolor="white")

    def say(text: str, left: float, down: float, **style: object) -> None:
        figure.text(left / width, 1 - down / height, text, **style)

    say("\n".join(lines), GAP * 2, 0.1, fontsize=11, color=INK, va="top", weight="bold")
    for place, name in enumerate(names):
        at = LABEL + place * (CELL + GAP) + CELL / 2
        say("\n".join(name), at, head, fontsize=8, color=INK, va="bottom", ha="center")
    down = head
    for row in rows:
        down += BLOCK_GAP if row.opens else GAP
        label = textwrap.wrap(row.label, LABEL_CHARACTERS)
        say("\n".join(label), GAP * 2, down + 0.02, fontsize=9.5, color=INK, va="top")
        below = down + 0.06 + 0.17 * max(1, len(label))
        say("\n".join(textwrap.wrap(row.detail, DETAIL_CHARACTERS)), GAP * 2, below, fontsize=7, color=MUTED, va="top")
        for place, image in enumerate(row.images):
            if image is not None:
                left = LABEL + place * (CELL + GAP)
                axes = figure.add_axes((left / width, 1 - (down + CELL) / height, CELL / width, CELL / height))
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axes.set_axis_off()
        down += CELL
    say("\n".join(words), GAP * 2, down + 0.1, fontsize=7.5, color=MUTED, va="top", linespacing=1.3)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return png.getvalue()
