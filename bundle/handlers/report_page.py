"""The evaluation report as one self-contained HTML page that needs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from bundle.handlers.figures import box_plots
from bundle.handlers.scores import REAL, Knee, ScoreTable
from bundle.readings import NO_GRADE, kl_words
from bundle.reports.galleries import Gallery
from bundle.reports.montage import (
    AXIAL_AT,
    DEPTHS,
    SAGITTAL_AT,
    SOBEL_CEILING,
    SPREAD_CEILING,
    KneePictures,
    Panel,
    Row,
    data_uri,
)
from bundle.reports.page import (
    PHANTOM,
    RESEARCH,
    cell,
    count,
    definitions,
    document,
    label,
    number,
    probability,
    range_words,
    section,
    table,
)
from bundle.reports.statistics import INTERVAL_WORDS, TEST_WORDS
from bundle.reports.viewer import HINT, VIEWER_STYLE

PIXELS_PER_MM = 1.0
ORIENTATION = (
    "Coronal images are seen from the front: rows run down towards the feet, the patient's right is on the image's "
    f"left, slices are counted from the back (d = 0) to the front (d = 1). The sagittal reformat, at "
    f"{SAGITTAL_AT:.0%} of the columns, has the front of the knee on the left; the axial one, at {AXIAL_AT:.0%} of the "
    "rows, is seen from the feet with the front on top. All images keep their proportions in millimetres. "
    "Sobel: absolute difference of the gradient magnitudes of the synthesised and the real slice, intensities in "
    f"[0, 1]; white is 0, black is {SOBEL_CEILING} and more. Spread, where it is shown: standard deviation over the "
    f"model's samples; black is 0, white is {SPREAD_CEILING} and more."
)
KNEE_STYLE = """
.knee { margin: 30px 0 48px; break-inside: avoid; }
.panels { display: grid; grid-template-columns: 190px 104px repeat(3, auto) auto auto; gap: 6px 8px;
          justify-content: start; align-items: start; font-size: 12.5px; line-height: 1.35; }
.panels img { display: block; background: #000; } .film img { margin-top: 6px; }
.panels .film { grid-column: 1; padding-right: 14px; }
.panels .head { color: #767676; align-self: end; }
.panels .name { text-align: right; padding: 2px 4px 0 0; }
.film th { text-align: left; font-weight: 600; padding: 8px 0 2px; } .film td { padding: 1px 0; color: #4a4a4a; }
.film td + td { text-align: right; }
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
        intervals: method to metric to its bootstrap interval (`analysis.intervals`).
        by_grade: metric to grade to method to statistics (`analysis.by_grade`).
        paired: baseline to metric to the model's difference (`analysis.against_baselines`).
        sections: tables of measures over the whole set, as handlers leave them in `engine.state.report_sections`.
        galleries: pictures beside the knees', as handlers leave them in `engine.state.report_galleries`.
    """

    title: str
    methods: Mapping[str, str]
    table: ScoreTable
    pictures: Sequence[tuple[int, KneePictures]]
    mirrored: frozenset[int]
    conventions: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, str]
    intervals: Mapping[str, Mapping[str, Mapping[str, Any]]]
    by_grade: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]
    paired: Mapping[str, Mapping[str, Mapping[str, Any]]]
    sections: Mapping[str, Mapping[str, Any]]
    galleries: Sequence[Gallery] = ()

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
    labels = {metric: label(metric) for metric in report.table.metrics}
    plots = data_uri(box_plots(report.table, methods=report.rows, labels=labels))
    shown = "".join(_knee(report, index, pictures) for index, pictures in report.pictures)
    body = f"""<p class="muted">{count(len(knees), "knee")} of {count(participants, "participant")}</p>
<div class="notice">{phantom}<p>{RESEARCH}</p></div>
<p class="muted">On this page: <a href="#knees">knees</a>, <a href="#scores">scores</a>, <a href="#grades">scores by
grade</a>, <a href="#conventions">conventions</a>.</p>
<h2 id="knees">Knees, by Kellgren-Lawrence grade</h2>
<p>{ORIENTATION} {_selection(report)} {HINT if report.pictures else ""}</p>
{shown}
{"".join(_gallery(gallery) for gallery in report.galleries)}
<h2 id="scores">Scores</h2>
{_score_table(report)}
{_notes(report.table, report.rows)}
<figure><img src="{plots}" alt="Box plots of every metric, one box a method"></figure>
<p class="muted">Boxes span the quartiles with the median inside; whiskers reach 1.5 times as far beyond; a dot is a
volume.</p>
{_paired_table(report)}
<h2 id="grades">Scores by Kellgren-Lawrence grade</h2>
{_grade_tables(report)}
{_sections(report)}
<h2 id="conventions">Conventions</h2>
{_conventions(report)}
<h2>Provenance</h2>
{definitions(report.provenance) or "<p>Not stated.</p>"}"""
    return document(report.title, body, style=KNEE_STYLE + VIEWER_STYLE)


def _score_table(report: Report) -> str:
    """A row a metric and a column a method: metrics are many, methods few."""
    summary = report.table.summary()
    rows = []
    for metric in report.table.metrics:
        cells = [_statistics(summary[m].get(metric), metric, report.intervals[m].get(metric)) for m in report.rows]
        rows.append([escape(label(metric)), *cells])
    caption = "Mean \N{PLUS-MINUS SIGN} standard deviation over volumes; below, median and 95 % interval of the mean."
    return table(["", *report.rows.values()], rows, caption=caption)


def _statistics(found: Mapping[str, Any] | None, metric: str, interval: Mapping[str, Any] | None = None) -> str:
    if found is None:
        return ""
    if found["mean"] is None:
        return "none"
    spread = "" if found["sd"] is None else f" \N{PLUS-MINUS SIGN} {number(found['sd'], metric)}"
    around = range_words(interval["low"], interval["high"], metric) if interval else ""
    return cell(number(found["mean"], metric) + spread, number(found["median"], metric), around)


def _paired_table(report: Report) -> str:
    if not report.paired:
        return ""
    model = next(iter(report.methods.values()))
    metrics = list(dict.fromkeys(metric for found in report.paired.values() for metric in found))
    rows = [
        [escape(label(metric)), *(_difference(found.get(metric), metric) for found in report.paired.values())]
        for metric in metrics
    ]
    heads = ["", *(f"less {report.methods[baseline]}" for baseline in report.paired)]
    note = f"Knee by knee: {model} less each baseline. Below: the median, the mean's interval, the test."
    return f"<h2>{escape(model)} against each baseline</h2>{table(heads, rows, caption=note)}"


def _difference(found: Mapping[str, Any] | None, metric: str) -> str:
    if found is None or found["difference"]["mean"] is None:
        return ""
    difference = found["difference"]
    return cell(
        number(difference["mean"], metric),
        number(found["median"], metric),
        range_words(difference["low"], difference["high"], metric),
        probability(found["p"]),
    )


def _grade_tables(report: Report) -> str:
    """A fold a metric, the first open: a column a grade that has knees."""
    folds = []
    for place, (metric, grades) in enumerate(report.by_grade.items()):
        methods = [method for method in report.rows if any(method in found for found in grades.values())]
        heads = [
            f"KL {grade}, n = {max(found['n'] for found in of.values())}" if of else grade
            for grade, of in grades.items()
        ]
        rows = [
            [escape(report.rows[method]), *(_statistics(of.get(method), metric) for of in grades.values())]
            for method in methods
        ]
        opened = " open" if place == 0 else ""
        folds.append(
            f"<details{opened}><summary>{escape(label(metric))}</summary>{table(['', *heads], rows)}</details>"
        )
    words = f"Mean, standard deviation and, below, median. A grade that no knee has is absent; &ldquo;{NO_GRADE}&rdquo;"
    return f'<p class="muted">{words} is where no reader graded the film.</p>{"".join(folds)}'


def _sections(report: Report) -> str:
    if not report.sections:
        return ""
    return f"<h2>Measures over the whole set</h2>{''.join(section(found) for found in report.sections.values())}"


def _notes(table: ScoreTable, names: Mapping[str, str]) -> str:
    """A sentence for every score that is missing, infinite or rests on less than everything."""
    notes = []
    for method, metrics in table.summary().items():
        for metric, statistics in metrics.items():
            for kind, words in (("n_nan", "have no value"), ("n_infinite", "are infinite (identical volumes)")):
                if statistics[kind]:
                    which = f"{names[method]}, {label(metric)}"
                    some = f"{statistics[kind]} of {count(statistics['n'], 'volume')}"
                    notes.append(f"{which}: {some} {words}, not in the statistics.")
    for method, counts in table.totals().items():
        for name, total in counts.items():
            if total:
                words = name.replace("_", " ")
                notes.append(f"{names[method]}: {words}, {total} over {count(len(table.knees), 'volume')}.")
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
    film = f'<div class="head">Film</div>{_image(pictures.film, "Film")}'
    rows = 2 + 2 * len(report.methods) + (pictures.spread is not None)
    cells = [f'<div class="film" style="grid-row: 1 / span {rows}">{film}</div>']
    cells += [f'<div class="head">{head}</div>' for head in heads]
    cells.append(_row("Real MRI", pictures.real))
    cells += [_row(name, pictures.volumes[m]) for m, name in report.methods.items()]
    if pictures.spread is not None:
        cells.append(_row("Spread of the samples", pictures.spread))
    cells += [
        _row(f"Sobel difference: {name}", pictures.differences[method]) for method, name in report.methods.items()
    ]
    return (
        f'<section class="knee"><h3>{heading}</h3><div class="panels">{"".join(cells)}</div>'
        f"<details><summary>Turn over the slices</summary>{pictures.viewer}</details>"
        f"<details><summary>Scores of this knee</summary>{_knee_scores(report, index)}</details></section>"
    )


def _describe(knee: Knee, *, mirrored: bool) -> str:
    side = {"R": "right knee", "L": "left knee"}.get(knee.side, knee.side)
    shown = " (shown mirrored)" if mirrored else ""
    return escape(f"{kl_words(knee.kl_grade)}, {side}{shown}, visit {knee.visit}")


def _knee_scores(report: Report, index: int) -> str:
    scores = report.table.scores
    rows = [
        [
            escape(label(metric)),
            *(number(float(scores[m][metric][index]), metric) if metric in scores[m] else "" for m in report.rows),
        ]
        for metric in report.table.metrics
    ]
    return table(["", *report.rows.values()], rows)


def _gallery(gallery: Gallery) -> str:
    heads = "".join(f'<div class="head">{escape(head)}</div>' for head in ("", *gallery.columns))
    rows = "".join(
        f'<div class="name">{escape(name)}</div>' + "".join(f"<div>{_image(one, name)}</div>" for one in panels)
        for name, panels in gallery.rows
    )
    columns = f"grid-template-columns: 150px repeat({len(gallery.columns)}, auto)"
    return (
        f"<h2>{escape(gallery.title)}</h2><p>{escape(gallery.note)}</p>"
        f'<div class="panels" style="{columns}">{heads}{rows}</div>'
    )


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
        label(metric): "; ".join(f"{term.replace('_', ' ')}: {value}" for term, value in terms.items())
        for metric, terms in report.conventions.items()
    }
    return definitions(texts | {"Intervals": INTERVAL_WORDS, "Tests": TEST_WORDS})
