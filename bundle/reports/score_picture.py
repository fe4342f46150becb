"""A comparison's scores as a table that is a picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from monai.utils import optional_import

from bundle.reports.page import label, number, range_words

Figure, has_matplotlib = optional_import("matplotlib.figure", name="Figure")

METRICS = ("psnr", "ssim", "rssim", "near_edge", "adjacent_slice_correlation")
"""Columns, those that there are; the paper's three and what must stand beside them."""
INK, MUTED, RULE = "#2b2b2b", "#767676", "#bdbdbd"
NAME, COLUMN, ROW, FOOT_LINE = 3.5, 1.5, 0.42, 0.16
"""Inches."""


def draw_scores(records: Sequence[Mapping[str, Any]], *, title: str, foot: Sequence[str] = ()) -> bytes:
    """Draw a row a method: the median, as published, and below it mean and interval.

    Args:
        records: of `bundle.reports.comparison.statistics`; those of all grades together are drawn.
        title: above the table.
        foot: paragraphs below.

    Returns:
        PNG file.

    Raises:
        ValueError: if no record is of a metric in `METRICS`.
        OptionalImportError: if matplotlib is missing.
    """
    found = {(r["row"], r["metric"]): r for r in records if r["kl_grade"] == "all"}
    names = list(dict.fromkeys(name for name, _ in found))
    metrics = [metric for metric in METRICS if any(metric == of for _, of in found)]
    if not metrics:
        raise ValueError(f"`records` must hold a metric of {', '.join(METRICS)}.")
    width = NAME + COLUMN * len(metrics) + 0.2
    words = [line for text in foot for line in textwrap.wrap(text, int(width * 14.5))]
    height = 0.95 + ROW * len(names) + 0.2 + FOOT_LINE * len(words)
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(0.1, 0.12, title, fontsize=11, color=INK, va="top", weight="bold")
    centres = [NAME + COLUMN * (place + 0.5) for place in range(len(metrics))]
    for at, metric in zip(centres, metrics, strict=True):
        axes.text(
            at, 0.9, "\n".join(textwrap.wrap(label(metric), 18)), fontsize=8.5, color=INK, ha="center", va="bottom"
        )
    axes.plot((0.1, width - 0.1), (0.95, 0.95), color=INK, linewidth=0.8)
    for place, name in enumerate(names):
        top = 0.95 + ROW * place
        axes.text(0.1, top + ROW / 2, "\n".join(textwrap.wrap(name, 48)), fontsize=8.5, color=INK, va="center")
        for at, metric in zip(centres, metrics, strict=True):
            record = found.get((name, metric))
            if record is None or record["mean"] is None:
                continue
            mean = f"{number(record['mean'], metric)} {range_words(record['low'], record['high'], metric)}"
            axes.text(at, top + 0.06, number(record["median"], metric), fontsize=9, color=INK, ha="center", va="top")
            axes.text(at, top + ROW - 0.05, mean, fontsize=6.5, color=MUTED, ha="center", va="bottom")
        axes.plot((0.1, width - 0.1), (top + ROW, top + ROW), color=RULE, linewidth=0.5)
    axes.text(0.1, 1.05 + ROW * len(names), "\n".join(words), fontsize=7.5, color=MUTED, va="top", linespacing=1.3)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return png.getvalue()
