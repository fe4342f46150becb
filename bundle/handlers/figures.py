"""Box plots of a score table, as a PNG for a report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.utils import optional_import

from bundle.handlers.scores import ScoreTable

# A Figure of its own, not pyplot: no backend, no global state.
Figure, has_matplotlib = optional_import("matplotlib.figure", name="Figure")

COLOURS = ("#2f6690", "#b5651d", "#5b7f5b", "#7d5a87", "#8a8a8a", "#a23b3b")
INK = "#3a3a3a"
COLUMNS = 3


def box_plots(table: ScoreTable, *, methods: Mapping[str, str], labels: Mapping[str, str]) -> bytes:
    """One box plot a metric, one box a method, one dot a volume.

    Args:
        table: the scores.
        methods: method to its name on the page, in order.
        labels: metric to its name on the page.

    Returns:
        PNG file; boxes span the quartiles, whiskers reach 1.5 times as far beyond.
    """
    metrics = table.metrics
    rows = -(-len(metrics) // COLUMNS)
    # No background: the page's own shows through.
    figure = Figure(figsize=(10.4, rows * (0.8 + 0.3 * len(methods))), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).ravel()
    figure.set_facecolor("none")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    for axes, metric in zip(grid, metrics, strict=False):
        _draw(axes, table, metric=metric, methods=methods)
        axes.set_facecolor("none")
        axes.set_title(labels.get(metric, metric), fontsize=9.5, color=INK, loc="left")
    for axes in grid[len(metrics) :]:
        axes.set_axis_off()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=180, facecolor="none", metadata={"Software": None})
    return png.getvalue()


def _draw(axes: Any, table: ScoreTable, *, metric: str, methods: Mapping[str, str]) -> None:
    """Horizontal boxes, so that names need no turning of the head."""
    for place, method in enumerate(methods):
        values = table.scores[method].get(metric, np.empty(0))
        values = values[np.isfinite(values)]
        colour = COLOURS[place % len(COLOURS)]
        if len(values):
            axes.boxplot(
                values,
                positions=[place],
                orientation="horizontal",
                widths=0.5,
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": colour, "alpha": 0.22, "edgecolor": colour},
                medianprops={"color": colour, "linewidth": 2},
                whiskerprops={"color": colour},
                capprops={"color": colour},
            )
        offsets = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(len(values))
        axes.scatter(values, place + offsets, s=9, color=colour, alpha=0.75, linewidths=0, zorder=3)
    axes.set_yticks(range(len(methods)), methods.values(), fontsize=8.5, color=INK)
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="x", labelsize=8, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#bdbdbd")
