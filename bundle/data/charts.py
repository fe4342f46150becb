"""Small charts as inline SVG, for pages that must be readable without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

BLUE, GREY, PALE = "#2b6cb0", "#888", "#dbe7f5"


def flow(steps: Sequence[tuple[str, int, Sequence[tuple[str, int]]]]) -> str:
    """Boxes from top to bottom, each with its count; what was left out at a step stands beside it.

    Args:
        steps: name, count, and the reasons with counts for which something did not reach the step.
    """
    parts, y = [], 10
    for index, (name, count, left_out) in enumerate(steps):
        if index:
            parts.append(f'<path d="M170 {y - 24}v24m-5-7 5 7 5-7" stroke="{GREY}" fill="none"/>')
        parts.append(f'<rect x="20" y="{y}" width="300" height="40" rx="6" fill="{PALE}" stroke="{BLUE}"/>')
        parts.append(_text(170, y + 25, f"{name}: {count}", anchor="middle", size=15))
        for line, (reason, number) in enumerate(left_out):
            parts.append(_text(345, y + 16 + 16 * line, f"{number} x {reason[:95]}"))
        y += max(46, 20 + 16 * len(left_out)) + 24
    return _svg(980, y, parts)


def bars(counts: Mapping[str, float]) -> str:
    """Horizontal bars, one a name."""
    if not counts:
        return "<p>nothing to show</p>"
    most, parts = max(max(counts.values()), 1e-9), []
    for line, (name, value) in enumerate(counts.items()):
        y, width = 20 * line, 600 * value / most
        parts.append(_text(250, y + 14, name[:40], anchor="end"))
        parts.append(f'<rect x="258" y="{y + 3}" width="{width:.1f}" height="14" fill="{BLUE}"/>')
        parts.append(_text(264 + width, y + 14, f"{value:g}"))
    return _svg(960, 20 * len(counts) + 4, parts)


def profile(
    places: Sequence[float], mean: Sequence[float], spread: Sequence[float], window: tuple[float, float]
) -> str:
    """A curve with a band of one standard deviation over millimetres, and the window that is kept.

    Args:
        places: in mm, ascending.
        mean: grey value at each place, in [0, 1].
        spread: its standard deviation.
        window: its first and last place, in mm.
    """

    def x(place: float) -> float:
        return 50 + (place + 65) / 130 * 700

    def y(value: float) -> float:
        return 210 - 180 * min(max(value, 0.0), 1.0)

    points = list(zip(places, mean, spread, strict=True))
    band = [(p, m + s) for p, m, s in points] + [(p, m - s) for p, m, s in points[::-1]]
    outline = " ".join(f"{x(p):.1f},{y(v):.1f}" for p, v in band)
    curve = " ".join(f"{x(p):.1f},{y(m):.1f}" for p, m, _ in points)
    first, last = window
    left, width = x(first), x(last) - x(first)
    parts = [
        f'<rect x="{left:.1f}" y="25" width="{width:.1f}" height="185" fill="#fdf1d3" stroke="#d69e2e"/>',
        _text(left + width / 2, 20, f"window: {first:g} to {last:g} mm", anchor="middle"),
        f'<polygon points="{outline}" fill="{PALE}" fill-opacity="0.8"/>',
        f'<polyline points="{curve}" fill="none" stroke="{BLUE}" stroke-width="2"/>',
        f'<line x1="50" y1="210" x2="750" y2="210" stroke="{GREY}"/>',
        *(_text(x(place), 228, str(place), anchor="middle") for place in range(-60, 61, 20)),
        _text(400, 246, "mm in front of the middle of the field of view (posterior on the left)", anchor="middle"),
    ]
    return _svg(800, 252, parts)


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">{"".join(parts)}</svg>'
