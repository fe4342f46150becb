"""What the HTML pages of scores share: names of metrics, numbers, tables that can be copied, style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

LABELS = {
    "psnr": "PSNR per slice, dB",
    "psnr_volume": "PSNR per volume, dB",
    "ssim": "SSIM per slice",
    "rssim": "RSSIM",
    "near_edge": "RSSIM near edges",
    "adjacent_slice_correlation": "Adjacent-slice correlation",
}
"""Names that configs give their metrics, and how a page calls them; see `label` for others."""
DECIMALS = {"psnr": 2, "psnr_volume": 2}
PHANTOM = (
    "<strong>Phantom data.</strong> Every knee on this page, film and MRI alike, comes from a digital knee phantom. "
    "The figures say that the chain works; they say nothing about patients and do not compare with published figures."
)
RESEARCH = (
    "Research software, not a medical device. All volumes other than the real ones are synthetic, and must not serve "
    "diagnosis."
)
STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fcfcfa; color: #2b2b2b;
       font: 15px/1.55 "Source Sans 3", "Helvetica Neue", Helvetica, Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 44px 40px 64px; }
h1 { font-size: 27px; font-weight: 600; letter-spacing: -0.01em; margin: 0 0 6px; }
h2 { font-size: 18px; font-weight: 600; margin: 46px 0 10px; }
h3 { font-size: 15px; font-weight: 600; margin: 0 0 10px; }
h3 span, .muted { color: #767676; font-weight: 400; }
p { margin: 8px 0; max-width: 76ch; }
.notice { border-left: 3px solid #c9a227; padding: 4px 0 4px 14px; margin: 18px 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
.scores { width: 100%; margin: 14px 0; }
.scores caption { caption-side: top; text-align: left; color: #767676; padding-bottom: 4px; }
.scores th { font-weight: 600; font-size: 13px; text-align: right; vertical-align: bottom; padding: 6px 0 6px 16px;
             border-bottom: 1px solid #9a9a9a; }
.scores td { text-align: right; padding: 8px 0 8px 16px; border-bottom: 1px solid #e4e4e0; vertical-align: top; }
.scores th:first-child, .scores td:first-child { text-align: left; padding-left: 0; }
.scores small { display: block; color: #767676; font-size: 12.5px; white-space: nowrap; }
details { margin: 10px 0; } summary { cursor: pointer; color: #2f6690; }
figure { margin: 16px 0 0; } figure img { width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; font-size: 13.5px; margin: 8px 0; }
dt { color: #767676; } dd { margin: 0; overflow-wrap: anywhere; }
"""


def label(metric: str) -> str:
    """A metric's name on a page; one without an entry in `LABELS` is its own name with spaces."""
    return LABELS.get(metric, metric.replace("_", " "))


def number(value: float | None, metric: str = "") -> str:
    """A value with the metric's decimals and a typographic minus; words where it is none or not finite."""
    if value is None or math.isnan(value):
        return "none"
    if math.isinf(value):
        return "infinite"
    return f"{value:.{DECIMALS.get(metric, 3)}f}".replace("-", "\N{MINUS SIGN}")


def range_words(low: float | None, high: float | None, metric: str = "") -> str:
    """An interval in brackets; nothing where there is none."""
    return "" if low is None or high is None else f"[{number(low, metric)}, {number(high, metric)}]"


def probability(p: float | None) -> str:
    """A test's p as papers print it."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def cell(*lines: str) -> str:
    """Content of a table's cell: the first line, and those that are not empty small below it; escapes."""
    first, *rest = lines
    return escape(first) + "".join(f"<small>{escape(line)}</small>" for line in rest if line)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """A table that can be copied into a spreadsheet: real rows and cells, one line each.

    Args:
        columns: heads, as text.
        rows: cells as HTML (see `cell`), as many as there are columns.
        caption: as text.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{content}</td>" for content in row) + "</tr>" for row in rows)
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table class="scores">{above}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def section(found: Mapping[str, Any]) -> str:
    """A section of the report: heading, note, table, convention.

    Args:
        found: `title`, `note`, `columns`, `rows` of text, numbers and None, and `convention`.
    """
    rows = [[escape(plain(value)) for value in row] for row in found["rows"]]
    note = f"<p>{escape(found['note'])}</p>" if found.get("note") else ""
    terms = found.get("convention") or {}
    foot = f"<details><summary>Convention</summary>{definitions(terms)}</details>" if terms else ""
    return f"<h3>{escape(found['title'])}</h3>{note}{table(found['columns'], rows)}{foot}"


def plain(value: str | float | None) -> str:
    """A section's entry as text: whole numbers as they are, others to four significant digits."""
    if value is None:
        return ""
    if isinstance(value, str | bool | int):
        return str(value)
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def definitions(terms: Mapping[str, Any]) -> str:
    """Terms and what they mean."""
    items = "".join(
        f"<dt>{escape(str(term).replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>" for term, value in terms.items()
    )
    return f"<dl>{items}</dl>" if items else ""


def count(amount: int, noun: str) -> str:
    """`1 knee`, `2 knees`."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def document(title: str, body: str, *, style: str = "") -> str:
    """A whole page that needs nothing beside itself and no script.

    Args:
        title: as text.
        body: HTML below the heading.
        style: beside `STYLE`.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""
