"""Adjacent-slice correlation over the number of slices, as a picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from monai.utils import optional_import

Figure, has_matplotlib = optional_import("matplotlib.figure", name="Figure")

SECTION = "slice_count_curve"
"""Name of the section that `bundle.handlers.SliceCountCurve` leaves; its columns are volume, slices, distance, r of
neighbours, r at equal distance."""
COLOURS = ("#2f6690", "#b5651d", "#5b7f5b", "#7d5a87", "#a23b3b")
INK, MUTED = "#2b2b2b", "#767676"
WIDTH, PLOT, LEGEND_LINE, FOOT_LINE = 7.0, 3.0, 0.18, 0.16
"""Inches."""


def draw_slice_counts(sections: Mapping[str, Mapping[str, Any]], *, title: str, foot: Sequence[str] = ()) -> bytes:
    """Draw two lines a model, and the real volumes as a cross each.

    Args:
        sections: model's name to its section.
        title: above the picture.
        foot: paragraphs below.

    Returns:
        PNG file.

    Raises:
        ValueError: if there is no section.
        OptionalImportError: if matplotlib is missing.
    """
    if not sections:
        raise ValueError("`sections` must hold at least one model's curve, got none.")
    words = [line for text in foot for line in textwrap.wrap(text, 100)]
    below = 0.1 + FOOT_LINE * len(words) + LEGEND_LINE * (2 * len(sections) + 2)
    height = 0.45 + PLOT + 0.55 + below
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    axes = figure.add_axes((0.09, (below + 0.55) / height, 0.88, PLOT / height))
    for (name, section), colour in zip(sections.items(), COLOURS * len(sections), strict=False):
        made = [row[1:] for row in section["rows"] if row[0] != "real"]
        counts = [row[0] for row in made]
        for place, style, what in ((2, "-", "neighbours, as published"), (3, "--", "at equal distance")):
            values = [float("nan") if row[place] is None else row[place] for row in made]
            axes.plot(counts, values, style, marker="o", markersize=3.5, color=colour, label=f"{name}: {what}")
    real = next((row for section in sections.values() for row in section["rows"] if row[0] == "real"), None)
    if real is not None:
        for place, marker, what in ((3, "x", "neighbours"), (4, "+", "at equal distance")):
            if real[place] is not None:
                axes.plot(
                    [real[1]], [real[place]], marker, markersize=8, color=INK, label=f"real volumes: {what}", zorder=3
                )
    axes.set_xlabel("slices", fontsize=9)
    axes.set_ylabel("Pearson r of slices", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e6e6e6", linewidth=0.7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    at = (0.06, (0.1 + FOOT_LINE * len(words)) / height)
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=at, fontsize=7.5, frameon=False, borderpad=0)
    figure.text(0.02, 1 - 0.1 / height, title, fontsize=11, color=INK, va="top", weight="bold")
    figure.text(0.02, 0.08 / height, "\n".join(words), fontsize=7.5, color=MUTED, va="bottom", linespacing=1.3)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return png.getvalue()
