"""Boxes around knees from elsewhere (a detector, a published list), in place of the knee finder."""

from __future__ import annotations

import math
from pathlib import Path

from monai.data import MetaTensor

from bundle.data.joint_line import Knee
from bundle.data.oai_index import KneePair
from bundle.data.table_files import rows

EDGES = ("LEFT", "TOP", "RIGHT", "BOTTOM")

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, or in shares of the film's width and height where none is above 1."""


def read_boxes(path: str | Path) -> dict[tuple[str, str, str], Box]:
    """Boxes by participant, side and visit (empty: any visit).

    Args:
        path: CSV file with the columns `participant`, `side` (R or L), `left`, `top`, `right`, `bottom` and, where a
            participant has several films, `visit`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the row that is no box.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"boxes {path}: no such file.")
    result: dict[tuple[str, str, str], Box] = {}
    for number, row in rows(path):
        where = f"boxes {path}, row {number}"
        side = (row.get("SIDE") or "").upper()[:1]
        try:
            left, top, right, bottom = (float(row.get(edge) or "nan") for edge in EDGES)
        except ValueError:
            left = top = right = bottom = math.nan
        if side not in ("R", "L") or not (0 <= left < right and 0 <= top < bottom) or math.isinf(right + bottom):
            raise ValueError(f"{where}: needs participant, side (R or L) and left < right, top < bottom in pixels.")
        knee = row.get("PARTICIPANT") or row.get("ID") or "", side, row.get("VISIT") or ""
        if knee in result:
            raise ValueError(f"{where}: lists the knee {' '.join(filter(None, knee))} a second time.")
        result[knee] = (left, top, right, bottom)
    if not result:
        raise ValueError(f"boxes {path}: holds no box.")
    return result


def knee_in_box(boxes: dict[tuple[str, str, str], Box], pair: KneePair, film: MetaTensor) -> Knee:
    """The joint centre as the middle of a knee's box; the region is cut about it in millimetres all the same.

    Raises:
        ValueError: if the knee has no box, or its box lies outside the film.
    """
    box = boxes.get((pair.participant, pair.side, pair.visit)) or boxes.get((pair.participant, pair.side, ""))
    if box is None:
        raise ValueError("film: has no box for this knee in the list of boxes.")
    height, width = film.shape[1:3]
    scale = (width, height, width, height) if max(box) <= 1 else (1, 1, 1, 1)
    left, top, right, bottom = (edge * factor for edge, factor in zip(box, scale, strict=True))
    if right > width or bottom > height:
        raise ValueError(f"film: its box ends at {right:g}, {bottom:g}, but the film has {width} x {height} pixels.")
    edges = [float(film.affine[:3, axis].norm()) for axis in (0, 1)]
    return Knee(((top + bottom) / 2 - 0.5) * edges[0], ((left + right) / 2 - 0.5) * edges[1], 1.0)
