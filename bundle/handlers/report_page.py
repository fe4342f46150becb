"""The evaluation report as one self-contained HTML page that needs no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from bundle.handlers.figures import box_plots
from bundle.handlers.montage import AXIAL_AT, DEPTHS, SAGITTAL_AT, SOBEL_CEILING, KneePictures, Panel, Row, data_uri
from bundle.handlers.scores import REAL, Knee, ScoreTable

PIXELS_PER_MM = 1.0
LABELS = {
    "psnr": "PSNR per slice, dB",
    "psnr_volume": "PSNR per volume, dB",
    "ssim": "SSIM per slice",
    "rssim": "RSSIM",
    "near_edge": "RSSIM near edges",
    "adjacent_slice_correlation": "Adjacent-slice correlation",
}
"""Names that configs give their metrics, and how the page calls them; another name stands as it is."""
DECIMALS = {"psnr": 2, "psnr_volume": 2}
PHANTOM = (
    "<strong>Phantom data.</strong> Every knee on this page, film and MRI alike, comes from a digital knee phantom. "
    "The figures say that the chain works; they say nothing about patients and do not compare with published figures."
)
RESEARCH = (
    "Research software, not a medical device. All volumes other than the real ones are synthetic, and must not serve "
    "diagnosis."
)
ORIENTATION = (
    "Coronal images are seen from the front: rows run down towards the feet, the patient's right is on the image's "
    f"left, slices are counted from the back (d = 0) to the front (d = 1). The sagittal reformat, at "
    f"{SAGITTAL_AT:.0%} of the columns, has the front of the knee on the left; the axial one, at {AXIAL_AT:.0%} of the "
    "rows, is seen from the feet with the front on top. All images keep their proportions in millimetres. "
    "Sobel: absolute difference of the gradient magnitudes of the synthesised and the real slice, intensities in "
    f"[0, 1]; white is 0, black is {SOBEL_CEILING} and more."
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
.scores { width: 100%; margin-top: 14px; }
.scores th { font-weight: 600; font-size: 13px; text-align: right; vertical-align: bottom; padding: 6px 0 6px 16px;
             border-bottom: 1px solid #9a9a9a; }
.scores td { text-align: right; padding: 8px 0 8px 16px; border-bottom: 1px solid #e4e4e0; }
.scores th:first-child, .scores td:first-child { text-align: left; padding-left: 0; }
.scores small { display: block; color: #767676; font-size: 12.5px; }
figure { margin: 16px 0 0; } figure img { width: 100%; height: auto; }
.knee { margin: 30px 0 48px; break-inside: avoid; }
.panels { display: grid; grid-template-columns: 190px 104px repeat(3, auto) auto auto; gap: 6px 8px;
          justify-content: start; align-items: start; font-size: 12.5px; line-height: 1.35; }
.panels img { display: block; background: #000; } .film img { margin-top: 6px; }
.panels .film { grid-column: 1; padding-right: 14px; }
.panels .head { color: #767676; align-self: end; }
.panels .name { text-align: right; padding: 2px 4px 0 0; }
.film table { margin-top: 14px; width: 100%; font-size: 12px; }
.film th { text-align: left; font-weight: 600; padding: 8px 0 2px; } .film td { padding: 1px 0; color: #4a4a4a; }
.film td + td { text-align: right; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; font-size: 13.5px; margin: 8px 0; }
dt { color: #767676; } dd { margin: 0; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Args:
        title: heading.
        methods: method to its name on the page, in order.
        table: scores of every volume.
        pictures: index into the table's knees, and that knee's panels, in the order of the page.
        mirrored: whether left knees are shown mirrored to right ones, by index as in `pictures`.
        conventions: metric to how it was computed.
        provenance: what is known of data and weights.
    """

    title: str
    methods: Mapping[str, str]
    table: ScoreTable
    pictures: Sequence[tuple[int, KneePictures]]
    mirrored: frozenset[int]
    conventions: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, str]

    @property
    def rows(self) -> dict[str, str]:
        """Methods and, where they have scores of their own, the real volumes."""
        return dict(self.methods) | ({REAL: "Real volumes"} if REAL in self.table.scores else {})


def is_phantom(provenance: Mapping[str, str]) -> bool:
    """Whether the provenance calls the data a phantom's."""
    return any("phantom" in str(value).lower() for value in provenance.values())


def render(report: Report) -> str:
    """The page."""
    knees = report.table.knees
    participants = len({knee.participant for knee in knees})
    phantom = f"<p>{PHANTOM}</p>" if is_phantom(report.provenance) else ""
    plots = data_uri(box_plots(report.table, methods=report.rows, labels=LABELS))
    shown = "".join(_knee(report, index, pictures) for index, pictures in report.pictures)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(report.title)}</h1>
<p class="muted">{_count(len(knees), "knee")} of {_count(participants, "participant")}</p>
<div class="notice">{phantom}<p>{RESEARCH}</p></div>
<h2>Scores</h2>
{_score_table(report)}
{_notes(report.table, report.rows)}
<figure><img src="{plots}" alt="Box plots of every metric, one box a method"></figure>
<p class="muted">Boxes span the quartiles with the median inside; whiskers reach 1.5 times as far beyond; a dot is a
volume.</p>
<h2>Knees, by Kellgren-Lawrence grade</h2>
<p>{ORIENTATION} {_selection(report)}</p>
{shown}
<h2>Conventions</h2>
{_conventions(report)}
<h2>Provenance</h2>
{_definitions(report.provenance) or "<p>Not stated.</p>"}
</main>
</body>
</html>
"""


def _score_table(report: Report) -> str:
    metrics = report.table.metrics
    head = "".join(f"<th>{escape(LABELS.get(metric, metric))}</th>" for metric in metrics)
    summary = report.table.summary()
    body = []
    for method, name in report.rows.items():
        cells = "".join(f"<td>{_cell(summary[method].get(metric), metric)}</td>" for metric in metrics)
        body.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    caption = '<p class="muted">Mean &plusmn; standard deviation over volumes, median below.</p>'
    rows = f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'{caption}<table class="scores">{rows}</table>'


def _cell(statistics: Mapping[str, Any] | None, metric: str) -> str:
    if statistics is None:
        return ""
    if statistics["mean"] is None:
        return "none"
    mean, median = (_number(statistics[name], metric) for name in ("mean", "median"))
    spread = "" if statistics["sd"] is None else f" &plusmn; {_number(statistics['sd'], metric)}"
    return f"{mean}{spread}<small>{median}</small>"


def _number(value: float, metric: str) -> str:
    if not math.isfinite(value):
        return {True: "none", False: "infinite"}[math.isnan(value)]
    return f"{value:.{DECIMALS.get(metric, 3)}f}".replace("-", "\N{MINUS SIGN}")


def _notes(table: ScoreTable, names: Mapping[str, str]) -> str:
    """A sentence for every score that is missing, infinite or rests on less than everything."""
    notes = []
    for method, metrics in table.summary().items():
        for metric, statistics in metrics.items():
            for kind, words in (("n_nan", "have no value"), ("n_infinite", "are infinite (identical volumes)")):
                if statistics[kind]:
                    which = f"{names[method]}, {LABELS.get(metric, metric)}"
                    some = f"{statistics[kind]} of {_count(statistics['n'], 'volume')}"
                    notes.append(f"{which}: {some} {words}, not in the statistics.")
    for method, counts in table.totals().items():
        for name, total in counts.items():
            if total:
                words = name.replace("_", " ")
                notes.append(f"{names[method]}: {words}, {total} over {_count(len(table.knees), 'volume')}.")
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="muted">{items}</ul>' if items else ""


def _selection(report: Report) -> str:
    total = len(report.table.knees)
    if len(report.pictures) == total:
        return "All knees are shown."
    shown = f"{len(report.pictures)} of {total} knees are shown"
    return f"{shown}: the first of each grade, then the second, in the order of the data, whatever they score."


def _knee(report: Report, index: int, pictures: KneePictures) -> str:
    knee = report.table.knees[index]
    heading = f"{escape(knee.participant)} <span>&middot; {_describe(knee, mirrored=index in report.mirrored)}</span>"
    heads = ["", *(f"Coronal, d = {depth:g}" for depth in DEPTHS), "Sagittal", "Axial"]
    film = f'<div class="head">Film</div>{_image(pictures.film, "Film")}{_knee_scores(report, index)}'
    rows = 2 + 2 * len(report.methods)
    cells = [f'<div class="film" style="grid-row: 1 / span {rows}">{film}</div>']
    cells += [f'<div class="head">{head}</div>' for head in heads]
    cells.append(_row("Real MRI", pictures.real))
    cells += [_row(name, pictures.volumes[m]) for m, name in report.methods.items()]
    cells += [
        _row(f"Sobel difference: {name}", pictures.differences[method]) for method, name in report.methods.items()
    ]
    return f'<section class="knee"><h3>{heading}</h3><div class="panels">{"".join(cells)}</div></section>'


def _describe(knee: Knee, *, mirrored: bool) -> str:
    grade = "KL not read" if knee.kl_grade is None else f"KL {knee.kl_grade}"
    side = {"R": "right knee", "L": "left knee"}.get(knee.side, knee.side)
    return escape(", ".join((grade, side + (" (shown mirrored)" if mirrored else ""), f"visit {knee.visit}")))


def _knee_scores(report: Report, index: int) -> str:
    rows = []
    for method, name in report.rows.items():
        rows.append(f'<tr><th colspan="2">{escape(name)}</th></tr>')
        for metric, values in report.table.scores[method].items():
            label = escape(LABELS.get(metric, metric))
            rows.append(f"<tr><td>{label}</td><td>{_number(float(values[index]), metric)}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _row(name: str, row: Row) -> str:
    panels = [*row.coronal, row.sagittal, row.axial]
    images = "".join(f"<div>{_image(panel, name)}</div>" for panel in panels)
    return f'<div class="name">{escape(name)}</div>{images}'


def _image(panel: Panel | None, alt: str) -> str:
    if panel is None:
        return ""
    width, height = round(panel.width_mm * PIXELS_PER_MM), round(panel.height_mm * PIXELS_PER_MM)
    return f'<img src="{panel.uri}" width="{width}" height="{height}" alt="{escape(alt, quote=True)}">'


def _conventions(report: Report) -> str:
    texts = {
        LABELS.get(metric, metric): "; ".join(f"{term.replace('_', ' ')}: {value}" for term, value in terms.items())
        for metric, terms in report.conventions.items()
    }
    return _definitions(texts)


def _definitions(terms: Mapping[str, Any]) -> str:
    items = "".join(f"<dt>{escape(str(term))}</dt><dd>{escape(str(value))}</dd>" for term, value in terms.items())
    return f"<dl>{items}</dl>" if items else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
