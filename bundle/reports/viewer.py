"""A viewer for a page: slices of volumes side by side, turned over by scrolling, without a script.

`bundle.reports.volume_page` adds sliders to it where scripts run.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from monai.utils import optional_import
from skimage.transform import resize

Image, has_pillow = optional_import("PIL.Image")

PIXELS_PER_MM = 1.6
"""Of the page; a knee's 160 mm are then 256 pixels."""
QUALITY = 72
"""JPEG quality of the sheets: an eighth of PNG's size, and no coding artefact that is seen at this zoom."""
VIEWER_STYLE = """
.viewer { display: inline-block; vertical-align: top; margin: 0 18px 14px 0; }
.viewer figcaption { color: #767676; font-size: 12.5px; padding-bottom: 4px; }
.viewer .names { display: flex; font-size: 12px; }
.viewer .names span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.viewer .stack { overflow-x: hidden; overflow-y: scroll; scroll-snap-type: y mandatory; background: #000;
                 overscroll-behavior: contain; outline-offset: 2px; }
.viewer .sheet { position: relative; }
.viewer .sheet img { position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: auto; }
.viewer .sheet i { position: relative; display: block; scroll-snap-align: start; scroll-snap-stop: always;
                   font: normal 11px/1 sans-serif; color: #ffd75e; text-shadow: 0 0 2px #000; padding: 4px 0 0 4px;
                   box-sizing: border-box; }
.viewer .sheet i.middle { scroll-initial-target: nearest; }
.viewer .window { position: relative; width: max-content; }
.viewer .sheet img.overlay { opacity: var(--overlay, 0.6); }
.viewer .letter { position: absolute; z-index: 1; pointer-events: none; color: #fff; text-shadow: 0 0 3px #000;
                  font: 600 13px/1 sans-serif; }
.viewer .letter.top { top: 4px; transform: translateX(-50%); } .viewer .letter.bottom { bottom: 4px;
                  transform: translateX(-50%); } .viewer .letter.left { transform: translateY(-50%); margin-left: 4px; }
.viewer .letter.right { transform: translate(-100%, -50%); margin-left: -4px; }
@media print { .viewer .stack { overflow: visible; height: auto !important; } }
"""
MIDDLE = ' class="middle"'
"""The frame that browsers which know `scroll-initial-target` show first; others show the first."""
HINT = (
    "Scroll inside a viewer (wheel, finger, or click it and use the arrow keys) to turn over its slices; all volumes "
    "of a viewer turn together."
)


@dataclass(frozen=True)
class Plane:
    """A direction to cut a volume in.

    Args:
        title: name on the page.
        frames: volume (H, W, S), ILA, to images (N, rows, columns) as radiologists look at them.
        edges: which of the voxel's edges (rows, columns, slices) lie down and across an image and between images.
        begins: what the first image shows; ends: the last.
        letters: where the patient's sides are: image's top, bottom, left, right.
    """

    title: str
    frames: Callable[[np.ndarray], np.ndarray]
    edges: tuple[int, int, int]
    begins: str
    ends: str
    letters: tuple[str, str, str, str]


PLANES = {
    "coronal": Plane(
        "Coronal", lambda v: np.moveaxis(v, 2, 0), (0, 1, 2), "posterior", "anterior", ("S", "I", "R", "L")
    ),
    "sagittal": Plane(
        "Sagittal",
        lambda v: np.moveaxis(v, 1, 0)[..., ::-1],
        (0, 2, 1),
        "from a coronal image's left",
        "its right",
        ("S", "I", "A", "P"),
    ),
    "axial": Plane(
        "Axial", lambda v: np.swapaxes(v, 1, 2)[:, ::-1], (2, 1, 0), "superior", "inferior", ("A", "P", "R", "L")
    ),
}
"""Sagittal images have the front on the left, axial ones on top with the patient's right on the left."""


def volume_viewer(
    volumes: Mapping[str, np.ndarray],
    *,
    spacing_mm: Sequence[float],
    planes: Sequence[str] = tuple(PLANES),
    max_frames: int = 50,
    max_side: int = 160,
    pixels_per_mm: float = PIXELS_PER_MM,
    letters: bool = False,
    overlay: np.ndarray | None = None,
    overlay_top: float = 1.0,
) -> str:
    """HTML of a viewer a plane; a page that holds it needs `VIEWER_STYLE` once.

    A viewer is a sheet of all its frames behind a window of one: scrolling moves it by whole frames.

    Args:
        volumes: name to volume (H, W, S), ILA, in [0, 1], all of one shape; side by side in this order.
        spacing_mm: voxel edges along rows, columns and slices, mm; proportions on the page are true.
        planes: of `PLANES`, in the order of the page.
        max_frames: of a plane; where it has more, so many are taken evenly.
        max_side: longest side of a frame in stored pixels; a larger one is averaged down.
        pixels_per_mm: size on the page.
        letters: write the patient's sides on every picture; only where the volumes are not mirrored.
        overlay: volume of the same shape, from 0, laid in colour over every volume; CSS variable `--overlay` is its
            opacity.
        overlay_top: value of the overlay that gets the strongest colour.

    Returns:
        `figure` elements with everything inside.

    Raises:
        ValueError: if there is no volume, shapes differ, an image has a value that is not finite, or a plane is
            unknown.
        OptionalImportError: if pillow is missing.
    """
    every = [*volumes.values(), *([] if overlay is None else [overlay])]
    shapes = {np.shape(volume) for volume in every}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise ValueError(f"`volumes` must be one or more of one shape (H, W, S), got {sorted(shapes)}.")
    unknown = set(planes) - set(PLANES)
    if unknown:
        raise ValueError(f"`planes` must be of {', '.join(PLANES)}, got {', '.join(sorted(unknown))}.")
    if not all(np.isfinite(volume).all() for volume in every):
        raise ValueError("`volumes` must be finite; a picture would hide where they are not.")
    look = _Look(tuple(spacing_mm), max_frames, max_side, pixels_per_mm, letters, overlay, overlay_top)
    return "".join(_plane(name, volumes, look) for name in planes)


def chosen_frames(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` frames, evenly from the first to the last."""
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]


def sheet(stacks: Sequence[np.ndarray], *, max_side: int) -> np.ndarray:
    """Frames of several volumes on one image: frames down, volumes across.

    Args:
        stacks: images (N, rows, columns) in [0, 1] of each volume.
        max_side: longest side of a frame, pixels.

    Returns:
        8-bit grey, (N * rows', volumes * columns').
    """
    rows, columns = stacks[0].shape[1:]
    shrink = min(1.0, max_side / max(rows, columns))
    size = (max(1, round(rows * shrink)), max(1, round(columns * shrink)))
    if shrink < 1:
        stacks = [np.stack([resize(frame, size, anti_aliasing=True) for frame in stack]) for stack in stacks]
    beside = np.concatenate(stacks, axis=2)
    return np.round(255 * np.clip(beside, 0, 1)).astype(np.uint8).reshape(-1, beside.shape[2])


@dataclass(frozen=True)
class _Look:
    """Options of `volume_viewer`."""

    spacing_mm: tuple[float, ...]
    max_frames: int
    max_side: int
    pixels_per_mm: float
    letters: bool
    overlay: np.ndarray | None
    overlay_top: float


def colours(values: np.ndarray, *, top: float) -> np.ndarray:
    """From nothing over red to yellow, as opaque as the value is large.

    Args:
        values: any shape, from 0.
        top: value of the strongest colour.

    Returns:
        8-bit RGBA, shape of `values` with a last dim of 4.
    """
    share = np.clip(np.asarray(values, dtype=np.float32) / top, 0, 1)
    red, green = np.clip(0.35 + 1.3 * share, 0, 1), np.clip(2 * share - 0.8, 0, 1)
    return np.round(255 * np.stack([red, green, 0 * share, share], axis=-1)).astype(np.uint8)


def picture_uri(pixels: np.ndarray, *, quality: int = QUALITY) -> str:
    """8-bit pixels as a data URI: JPEG for grey (H, W), WebP for colours with opacity (H, W, 4)."""
    kind = "JPEG" if pixels.ndim == 2 else "WEBP"
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format=kind, quality=quality, optimize=True)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(content.getvalue()).decode("ascii")


def _plane(name: str, volumes: Mapping[str, np.ndarray], look: _Look) -> str:
    plane = PLANES[name]
    stacks = [plane.frames(np.asarray(volume, dtype=np.float32)) for volume in volumes.values()]
    total = len(stacks[0])
    indices = chosen_frames(total, look.max_frames)
    uri = picture_uri(sheet([stack[indices] for stack in stacks], max_side=look.max_side))
    down, across, _ = (look.spacing_mm[edge] for edge in plane.edges)
    # Whole pixels: a snap of half a pixel would drift over fifty frames.
    height = max(1, round(stacks[0].shape[1] * down * look.pixels_per_mm))
    width = max(1, round(stacks[0].shape[2] * across * look.pixels_per_mm))
    marks = "".join(
        f'<i style="height:{height}px"{MIDDLE if place == len(indices) // 2 else ""}>{index + 1} / {total}</i>'
        for place, index in enumerate(indices)
    )
    names = "".join(f'<span style="width:{width}px" title="{escape(n, True)}">{escape(n)}</span>' for n in volumes)
    alt = f"{plane.title} slices of {', '.join(volumes)}"
    over = ""
    if look.overlay is not None:
        frames = plane.frames(np.asarray(look.overlay, dtype=np.float32))[indices] / look.overlay_top
        grey = sheet([frames] * len(volumes), max_side=look.max_side) / 255
        over = f'<img class="overlay" src="{picture_uri(colours(grey, top=1.0))}" alt="" loading="lazy">'
    taken = "" if len(indices) == total else f"; {len(indices)} of {total}"
    caption = f"{plane.title}, {plane.begins} to {plane.ends}{taken}"
    whole_width = width * len(volumes)
    letters = "".join(_letters(plane, width, height, number) for number in range(len(volumes))) if look.letters else ""
    return (
        f'<figure class="viewer" data-plane="{name}" data-frame="{height}"><figcaption>{caption}</figcaption>'
        f'<div class="names">{names}</div><div class="window">{letters}'
        # The scroll bar lies beside the pictures, so the window is wider than they are.
        f'<div class="stack" tabindex="0" role="group" aria-label="{escape(alt, True)}" '
        f'style="width:{whole_width + 16}px;height:{height}px">'
        f'<div class="sheet" style="width:{whole_width}px"><img src="{uri}" alt="{escape(alt, True)}" loading="lazy">'
        f"{over}{marks}</div></div></div></figure>"
    )


def _letters(plane: Plane, width: int, height: int, number: int) -> str:
    """The patient's sides on the picture of one volume."""
    left, middle = number * width, number * width + width // 2
    places: tuple[tuple[str, str], ...] = (("top", f"left:{middle}px"), ("bottom", f"left:{middle}px"))
    places += (("left", f"top:50%;left:{left}px"), ("right", f"top:50%;left:{left + width}px"))
    return "".join(
        f'<span class="letter {side}" style="{where}">{letter}</span>'
        for (side, where), letter in zip(places, plane.letters, strict=True)
    )
