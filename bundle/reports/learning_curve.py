"""Scores over the number of training knees, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from monai.utils import optional_import

from bundle.reports.page import label

Figure, has_matplotlib = optional_import("matplotlib.figure", name="Figure")
COLOURS = ("#2f6690", "#b5651d", "#5b7f5b", "#7d5a87", "#8a8a8a", "#a23b3b", "#3d8b8b", "#c9a227", "#44475a", "#d17ba0")
COLUMNS = 2


def draw_curve(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A panel a metric, a line a row with its interval.

    Args:
        records: `row`, `metric`, `knees`, `mean`, `low` and `high` of each point; a mean of None is left out.

    Returns:
        PNG file; the number of knees is on a logarithmic axis.

    Raises:
        OptionalImportError: if matplotlib is missing.
    """
    metrics = list(dict.fromkeys(record["metric"] for record in records))
    names = list(dict.fromkeys(record["row"] for record in records))
    rows = -(-len(metrics) // COLUMNS)
    figure = Figure(figsize=(10, 0.6 + 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, metric in zip(grid, metrics, strict=False):
        for place, name in enumerate(names):
            points = [r for r in records if r["metric"] == metric and r["row"] == name and r["mean"] is not None]
            points.sort(key=lambda record: record["knees"])
            if not points:
                continue
            at, means = [p["knees"] for p in points], [p["mean"] for p in points]
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(at, means, marker="o", markersize=3.5, color=colour, label=name)
            limits = [(p["low"], p["high"]) for p in points if p["low"] is not None]
            if len(limits) == len(points):
                axes.fill_between(at, *zip(*limits, strict=True), color=colour, alpha=0.08, linewidth=0)
        axes.set_xscale("log")
        ticks = sorted({r["knees"] for r in records})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_title(label(metric), fontsize=9.5, loc="left")
        axes.tick_params(labelsize=8)
        axes.grid(color="#e6e6e6", linewidth=0.7)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in grid[len(metrics) :]:
        axes.set_axis_off()
    figure.supxlabel("training knees", fontsize=9)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return png.getvalue()
