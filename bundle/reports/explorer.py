"""A page on which one turns radiographic readings and watches pictures change: every state is drawn beforehand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
from monai.utils import optional_import

from bundle.reports.page import document
from bundle.reports.viewer import picture_uri

Image, has_pillow = optional_import("PIL.Image")
ImageDraw, _ = optional_import("PIL.ImageDraw")

QUALITY = 80
EXPLORER_STYLE = """
.explorer > input { position: absolute; opacity: 0; pointer-events: none; }
.explorer .dial { display: flex; align-items: baseline; gap: 8px; margin: 6px 0; }
.explorer .dial span { min-width: 300px; }
.explorer .dial label { border: 1px solid #9a9a9a; padding: 1px 12px; cursor: pointer; border-radius: 2px; }
.explorer .states { margin-top: 16px; }
.explorer .states figure { display: none; margin: 0; background: #000; }
.explorer .states img { width: 100%; display: block; }
.explorer .states figcaption { background: #fcfcfa; color: #767676; font-size: 12.5px; padding-top: 4px; }
"""


def explorer_page(
    title: str,
    dials: Mapping[str, Sequence[str]],
    picture: Callable[[tuple[int, ...]], np.ndarray],
    *,
    about: str,
    caption: str,
) -> str:
    """HTML of the page, without a script: radio buttons, and one picture that their state lets through.

    Args:
        title: as text.
        dials: what can be turned to the names of its positions; every combination is a state.
        picture: from a state, one position a dial, to grey pixels (H, W), uint8.
        about: HTML above the dials.
        caption: of every picture, as text.

    Returns:
        a page that needs nothing beside itself.

    Raises:
        ValueError: if there is no dial, or one has no position.
        OptionalImportError: if pillow is missing.
    """
    if not dials or not all(dials.values()):
        raise ValueError(f"`dials` must have one or more, each with a position, got {dict(dials)}.")
    inputs, rows, rules, figures = [], [], [], []
    for dial, (name, positions) in enumerate(dials.items()):
        labels = []
        for position, said in enumerate(positions):
            checked = " checked" if position == 0 else ""
            spoken = escape(f"{name}: {said}", True)
            inputs.append(
                f'<input type="radio" name="dial{dial}" id="{_id(dial, position)}" aria-label="{spoken}"{checked}>'
            )
            labels.append(f'<label for="{_id(dial, position)}">{escape(said)}</label>')
            shown = f"#{_id(dial, position)}:checked ~ .dials label[for={_id(dial, position)}]"
            rules.append(shown + " { background: #2f6690; color: #fff; }")
            focus = f"#{_id(dial, position)}:focus-visible ~ .dials label[for={_id(dial, position)}]"
            rules.append(focus + " { outline: 3px solid #c9a227; }")
        rows.append(f'<div class="dial"><span>{escape(name)}</span>{"".join(labels)}</div>')
    for state in itertools.product(*(range(len(positions)) for positions in dials.values())):
        chosen = " ~ ".join(f"#{_id(dial, position)}:checked" for dial, position in enumerate(state))
        name = "s" + "-".join(map(str, state))
        rules.append(f"{chosen} ~ .states .{name} {{ display: block; }}")
        said = ", ".join(f"{dial} {dials[dial][position]}" for dial, position in zip(dials, state, strict=True))
        figures.append(
            f'<figure class="{name}"><img src="{picture_uri(picture(state), quality=QUALITY)}" '
            f'alt="{escape(said, True)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    body = (
        f'{about}<div class="explorer">{"".join(inputs)}<div class="dials">{"".join(rows)}</div>'
        f'<div class="states">{"".join(figures)}</div></div>'
    )
    return document(title, body, style=EXPLORER_STYLE + "\n".join(rules))


def captioned_rows(rows: Mapping[str, Sequence[np.ndarray]], heads: Sequence[str], *, zoom: int = 1) -> np.ndarray:
    """Images in rows with their names, and the columns' heads above: grey (H, W), uint8.

    Args:
        rows: name to images (h, w) in [0, 1], all of one size; a row may be shorter than `heads`, and is then blank.
        heads: of the columns.
        zoom: whole number of pixels a side that an image's pixel becomes.
    """
    height, width = next(iter(rows.values()))[0].shape
    height, width, band = height * zoom, width * zoom, 14
    whole = np.zeros((band + len(rows) * height, len(heads) * width), dtype=np.uint8)
    for row, images in enumerate(rows.values()):
        for column, image in enumerate(images):
            grey = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
            top = band + row * height
            whole[top : top + height, column * width : (column + 1) * width] = grey
    canvas = Image.fromarray(whole)
    pen = ImageDraw.Draw(canvas)
    for column, head in enumerate(heads):
        pen.text((column * width + 3, 1), head, fill=200)
    for row, name in enumerate(rows):
        pen.text((3, band + row * height + 2), name, fill=255)
    return np.asarray(canvas)


def _id(dial: int, position: int) -> str:
    return f"d{dial}p{position}"
