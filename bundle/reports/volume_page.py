"""A page for one volume: three planes with sliders, the film beside them, uncertainty in colour over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from bundle.reports.page import definitions, document
from bundle.reports.viewer import VIEWER_STYLE, picture_uri, volume_viewer
from bundle.writers import MARK

PIXELS_PER_MM = 2.2
"""Of this page; a knee's 160 mm are then 352 pixels."""
MAX_SIDE = 160
"""Of a stored frame, pixels."""
SHEET_PIXELS = 16_000
"""Length of a sheet of frames; WebP ends at 16,383. At 160 pixels a frame these are 100 frames of a plane."""
SPREAD_PERCENTILE = 99.5
"""Of the spread; what it is there gets the strongest colour."""
STYLE = """
main { max-width: none; padding: 0 24px 40px; }
.mark { position: sticky; top: 0; z-index: 5; margin: 0 -24px 14px; padding: 8px 24px; max-width: none;
        background: #7a1f1f; color: #fff; font-weight: 600; letter-spacing: 0.02em; }
.row { display: flex; flex-wrap: wrap; align-items: flex-start; }
.film .window { background: #000; } .film img { display: block; width: 100%; height: 100%; }
.viewer .turn { display: block; margin: 6px 0 0; }
.bar { display: flex; gap: 8px; align-items: center; margin: 8px 0; font-size: 13.5px; }
.scale { display: inline-block; width: 120px; height: 12px;
         background: linear-gradient(90deg, rgb(89 0 0 / 0), rgb(255 51 0 / .5), rgb(255 255 0 / 1)), #555; }
.js { display: none; } .scripted .js { display: flex; } .scripted .nojs { display: none; }
"""
SCRIPT = """
document.documentElement.classList.add('scripted');
const wanted = new URLSearchParams(location.hash.slice(1));
for (const figure of document.querySelectorAll('.viewer[data-plane]')) {
  const stack = figure.querySelector('.stack'), frame = +figure.dataset.frame;
  const count = figure.querySelectorAll('.sheet i').length;
  const slider = document.createElement('input'), label = document.createElement('label');
  slider.type = 'range'; slider.min = 1; slider.max = count; slider.step = 1;
  slider.setAttribute('aria-label', figure.dataset.plane + ' slice');
  slider.style.width = stack.clientWidth + 'px'; label.className = 'turn'; label.append(slider); figure.append(label);
  const turn = () => { stack.scrollTop = (slider.value - 1) * frame; };
  slider.value = wanted.get(figure.dataset.plane) || Math.floor(count / 2) + 1;
  slider.addEventListener('input', turn);
  stack.addEventListener('scroll', () => { slider.value = Math.round(stack.scrollTop / frame) + 1; });
  turn();
}
const opacity = document.getElementById('opacity');
if (opacity) {
  const lay = () => document.documentElement.style.setProperty('--overlay', opacity.value);
  if (wanted.has('overlay')) opacity.value = wanted.get('overlay');
  opacity.addEventListener('input', lay); lay();
}
"""
"""Sliders for what scrolling does without it; `#coronal=12&overlay=0.3` after the address opens the page there."""


@dataclass(frozen=True)
class FilmPicture:
    """A film as the page shows it.

    Args:
        pixels: (H, W) in [0, 1], the patient's right on the left.
        width_mm: of the picture, in the knee or at the detector.
        height_mm: likewise.
        caption: what it is.
    """

    pixels: np.ndarray
    width_mm: float
    height_mm: float
    caption: str


def volume_page(
    volume: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    title: str,
    synthetic: bool,
    film: FilmPicture | None = None,
    spread: np.ndarray | None = None,
    facts: Mapping[str, object] | None = None,
) -> str:
    """HTML that needs nothing beside itself: no network, and no script to be read.

    Args:
        volume: (H, W, S), ILA, in [0, 1].
        spacing_mm: voxel edges along rows, columns, slices, mm.
        title: of the page.
        synthetic: whether to write that the volume is synthetic and not for diagnosis.
        film: shown beside the coronal plane.
        spread: uncertainty, of the volume's shape, laid over it in colour.
        facts: listed below: what made the volume.

    Raises:
        ValueError: see `bundle.reports.viewer.volume_viewer`.
    """
    longest = min(max(volume.shape), MAX_SIDE)
    top = 1.0 if spread is None else max(float(np.percentile(spread, SPREAD_PERCENTILE)), 1e-6)
    viewers = volume_viewer(
        {"volume": volume},
        spacing_mm=spacing_mm,
        max_frames=SHEET_PIXELS // longest,
        max_side=longest,
        pixels_per_mm=PIXELS_PER_MM,
        letters=True,
        overlay=spread,
        overlay_top=top,
    )
    bar = "" if spread is None else _bar(top)
    body = (
        (f'<p class="mark">{MARK}</p>' if synthetic else "")
        + '<p class="muted nojs">Scroll inside a picture to turn over its slices.</p>'
        + f'{bar}<div class="row">{"" if film is None else _film(film)}{viewers}</div>'
        + '<p class="muted">Patient\'s sides: R right, L left, A anterior, P posterior, S superior, I inferior.</p>'
        + definitions(facts or {})
        + f"<script>{SCRIPT}</script>"
    )
    return document(title, body, style=VIEWER_STYLE + STYLE)


def _bar(top: float) -> str:
    return (
        '<div class="bar">Uncertainty (standard deviation over samples): 0 <span class="scale"></span> '
        f'{top:.3g} <label class="js">opacity <input id="opacity" type="range" min="0" max="1" step="0.05" value="0.6">'
        "</label></div>"
    )


def _film(film: FilmPicture) -> str:
    shown = np.round(255 * np.clip(film.pixels, 0, 1)).astype(np.uint8)
    # the size that fits the planes beside it, if it is a film of more than one knee
    scale = min(PIXELS_PER_MM, 160 * PIXELS_PER_MM / film.height_mm)
    width, height = round(film.width_mm * scale), round(film.height_mm * scale)
    sides = (
        ("left", "top:50%;left:0", "R"),
        ("right", "top:50%;left:100%", "L"),
        ("top", "left:50%", "S"),
        ("bottom", "left:50%", "I"),
    )
    letters = "".join(f'<span class="letter {side}" style="{where}">{letter}</span>' for side, where, letter in sides)
    caption = escape(film.caption)
    return (
        f'<figure class="viewer film"><figcaption>{caption}</figcaption><div class="names"><span>film</span></div>'
        f'<div class="window" style="width:{width}px;height:{height}px">{letters}'
        f'<img src="{picture_uri(shown)}" alt="{caption}"></div></figure>'
    )
