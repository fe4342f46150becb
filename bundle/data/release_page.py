"""The page about a prepared set: what was there, what was left out and why, what the knees look like."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import optional_import

from bundle.data.charts import bars, flow, profile
from bundle.data.prepare_knee import PROFILE_MM, Outcome, write_text
from bundle.data.slice_window import WINDOW_MIDDLE_MM, WINDOW_MM

Image, HAS_PILLOW = optional_import("PIL.Image")

SHOWN = 6
"""Knees whose pictures are on the page."""
STYLE = "body{font:15px/1.5 sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}svg,img{max-width:100%}"
STYLE += "figure{display:inline-block;margin:4px;width:300px}figcaption{font-size:12px}td,th{padding:2px 10px}"


def write_page(
    out: Path, report: Mapping[str, Any], splits: Mapping[str, Sequence[Mapping[str, Any]]], done: Sequence[Outcome]
) -> None:
    """Write `report.html`; it stands alone, and names nobody beyond the study's own numbers.

    Args:
        out: folder of the prepared set, from which the pictures are taken.
        report: content of `report.json`.
        splits: entries of `dataset.json`.
        done: knees that were prepared.
    """
    entries = [entry for items in splits.values() for entry in items]
    notes = [outcome.note for outcome in done]
    sections = [
        ("What was kept", flow(_steps(report))),
        ("Splits", _table(report["counts"], tuple(splits))),
        ("Series in the release, by sequence", bars(report["sequences"])),
        ("Slices of the series used", bars(_counted(f"{note['slices']} slices" for note in notes))),
        ("Grey value over depth (mean and standard deviation over knees)", _depth(notes)),
        ("Distance of slices", bars(_counted(f"{note['slice_spacing_mm']:.2f} mm" for note in notes))),
        (
            "Pixel spacing of the films, at the detector",
            bars(_counted(f"{n['film_spacing_mm']:.3f} mm" for n in notes)),
        ),
        ("Where the spacing was found", bars(_counted(note["film_spacing"] for note in notes))),
        ("KL grade", bars(_counted(_shown(entry["readings"].get("XRKL")) for entry in entries))),
        ("Share of knees with each reading, %", bars(_available(entries))),
        ("The first knees: the film's cut with the joint centre, and the middle slice", _pictures(out, entries)),
    ]
    body = "".join(f"<section><h2>{escape(title)}</h2>{content}</section>" for title, content in sections)
    intro = "<p>Research only. It has images of the study in it: whoever may not pass those on may not pass it on.</p>"
    write_text(
        out / "report.html",
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Prepared knees</title>'
        f"<style>{STYLE}</style></head><body><h1>Prepared knees</h1>{intro}{body}</body></html>\n",
    )


def _steps(report: Mapping[str, Any]) -> list[tuple[str, int, list[tuple[str, int]]]]:
    counts = report["counts"]
    steps: list[tuple[str, int, list[tuple[str, int]]]] = []
    for key, name in (("series", "image series"), ("listed", "knees listed"), ("film_knees", "knees on a film")):
        if key in counts:
            steps.append((name, counts[key], []))
    if "mr_knees" in counts:
        steps.append(("knees with the MR series", counts["mr_knees"], []))
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for item in report["dropped"]:
        rejected = item["reason"].startswith(("film:", "series:", "film ", "series "))
        (after if rejected and item["file"] and counts["rejected"] else before)[_kind(item["reason"])] += 1
    steps.append(("pairs of film and MR series", counts["pairs"], before.most_common(6)))
    steps.append(("prepared", counts["prepared"], after.most_common(8)))
    read = counts["training"] + counts["validation"] + counts["test"]
    steps.append(
        ("in a split", read, [("not in any split", counts["prepared"] - read)] if read < counts["prepared"] else [])
    )
    steps.append(("of these with readings", read - counts["without_readings"], []))
    return steps


def _kind(reason: str) -> str:
    """A reason without its numbers, so that like ones are counted together."""
    return "".join("#" if character.isdigit() else character for character in reason).replace("##", "#")[:90]


def _table(counts: Mapping[str, int], names: Sequence[str]) -> str:
    cells = "".join(f"<tr><td>{name}</td><td>{counts[name]}</td></tr>" for name in names)
    return f"<table>{cells}</table>"


def _counted(values: Any) -> dict[str, float]:
    return dict(sorted(Counter(values).items())[:40])


def _shown(grade: float | None) -> str:
    return "missing" if grade is None else f"grade {grade:g}"


def _available(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = entries[0]["readings"] if entries else ()
    return {name: round(100 * np.mean([e["readings"].get(name) is not None for e in entries])) for name in names}


def _depth(notes: Sequence[Mapping[str, Any]]) -> str:
    values = np.array([note["profile"] for note in notes], dtype=float)
    known = np.isfinite(values).any(0)
    mean, spread = np.nanmean(values[:, known], axis=0), np.nanstd(values[:, known], axis=0)
    places = [place for place, there in zip(PROFILE_MM, known, strict=True) if there]
    window = (WINDOW_MIDDLE_MM - WINDOW_MM / 2, WINDOW_MIDDLE_MM + WINDOW_MM / 2)
    return profile(places, mean.tolist(), spread.tolist(), window)


def _pictures(out: Path, entries: Sequence[Mapping[str, Any]]) -> str:
    if not HAS_PILLOW:
        return "<p>Pictures need Pillow.</p>"
    figures = []
    for entry in entries[:SHOWN]:
        film = np.asarray(nib.load(out / entry["film"]).dataobj)[:, :, 0]
        volume = nib.load(out / entry["mri"])
        middle = np.asarray(volume.dataobj[:, :, volume.shape[2] // 2])
        name = escape(f"{entry['participant']} {entry['side']} {entry['visit']}")
        # the cut is centred on the joint, which is what the finder gives
        cross = '<path d="M50 40V60M40 50H60" stroke="#ffd400" stroke-width="0.6" fill="none"/>'
        figures.append(
            f'<figure><svg viewBox="0 0 100 100" width="148" height="148"><image href="{_png(film)}" width="100" '
            f'height="100"/>{cross}</svg><img src="{_png(middle)}" width="148" height="148" alt="middle slice">'
            f"<figcaption>{name}, KL {_shown(entry['readings'].get('XRKL'))}</figcaption></figure>"
        )
    return "".join(figures)


def _png(pixels: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(content, format="PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
