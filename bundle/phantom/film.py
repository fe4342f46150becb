"""From two standing knees to a film: a bilateral PA fixed-flexion one, or what clutter makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from monai.utils import optional_import
from torch import Tensor

from bundle.phantom.anatomy import Person
from bundle.phantom.film_clutter import Clutter, draw_clutter, turn
from bundle.phantom.film_exposure import BITS, detect, primary
from bundle.phantom.film_geometry import FIELD_MM, SPACINGS, FilmGeometry, film_geometry, film_pixels
from bundle.phantom.film_marks import burn_label, exposed, lead
from bundle.phantom.film_paths import add_balls, bead_column, bone_shadow, paths
from bundle.phantom.lattice import single_threaded
from bundle.phantom.pose import Posed, solve_pose
from bundle.phantom.streams import stream
from bundle.phantom.tissues import METAL

__all__ = [
    "BITS",
    "FIELD_MM",
    "SPACINGS",
    "Clutter",
    "FilmGeometry",
    "bone_shadow",
    "draw_clutter",
    "film_geometry",
    "film_pixels",
    "render_film",
]
ndimage, _ = optional_import("scipy.ndimage")

_OPAQUE_MM = 25.0
"""Metal, in millimetres of cortical bone, from which processing takes a pixel for metal."""


def render_film(
    person: Person,
    *,
    spacing_mm: float = 0.4,
    posed: Mapping[str, Posed] | None = None,
    clutter: Clutter | None = None,
    exposure: int = 0,
) -> tuple[np.ndarray, float]:
    """Expose a film.

    Args:
        person: both knees; texture and noise follow its seed, voltage, photons, scatter and blur its world.
        spacing_mm: detector pixel.
        posed: the knees by side, where their standing poses are already solved.
        clutter: what else is on the film; None is a clean bilateral film.
        exposure: 0 is the film that is written; from 1, repeat exposures that differ by their photons alone.

    Returns:
        pixels (H, W) uint16 of 12 bits, bone bright, the patient's right knee on the image's left; and the spacing on
        the detector, mm.

    Raises:
        ValueError: on a negative `exposure`.
    """
    if exposure < 0:
        raise ValueError(f"`exposure` must be 0 (the film itself) or more (repeats of it), got {exposure}.")
    clutter = clutter or Clutter()
    noise = stream(person.seed, person.index, "film_noise")
    if exposure:
        noise = noise.spawn(exposure)[-1]
    with single_threaded():
        passed, metal = _passed(person, spacing_mm, posed, clutter)
        passed, metal = (_turn_and_cut(image, clutter, spacing_mm) for image in (passed, metal))
        shape = (passed.shape[0], passed.shape[1])
        open_field, letters = exposed(clutter, shape, spacing_mm), lead(clutter, shape, spacing_mm)
        ignored = (metal > _OPAQUE_MM) | (open_field < 1) | (letters > 0)
        pixels = detect(passed * open_field * (1 - letters), spacing_mm, person.world, noise, ignored=ignored)
    white = 2**BITS - 1
    if clutter.shutter:
        pixels[open_field.numpy() < 1] = 0
    return burn_label(pixels, clutter, spacing_mm, white), spacing_mm


def _passed(
    person: Person, spacing_mm: float, posed: Mapping[str, Posed] | None, clutter: Clutter
) -> tuple[Tensor, Tensor]:
    """Primary share and metal, (H, W) both, of the film before it is turned and cut, with its margin."""
    geometry = film_geometry(person, spacing_mm, clutter)
    geometry = replace(geometry, margin_px=math.ceil(clutter.margin_mm / spacing_mm))
    parts = []
    for side in clutter.sides:
        held = posed[side] if posed else solve_pose(person.knees[side], "film")
        texture = stream(person.seed, person.index, f"film_texture_{side}")
        part = torch.stack(paths(held, geometry, texture, implant=clutter.implant == side))
        parts.append(part if side == "R" else part.flip(-1))
    lean, mineral, metal = torch.cat(parts, dim=-1)
    metal = METAL * metal
    if clutter.beads_mm is not None:
        add_balls(metal, bead_column(*clutter.beads_mm, geometry), geometry)
    return primary(lean, mineral + metal, person.world.tube_kv), metal


def _turn_and_cut(image: Tensor, clutter: Clutter, spacing_mm: float) -> Tensor:
    """Turn a picture about its middle, take off its margin, then what the film was cut by."""
    margin = math.ceil(clutter.margin_mm / spacing_mm)
    if clutter.turn_deg:
        middle = (np.array(image.shape) - 1) / 2
        back = turn(-clutter.turn_deg)
        turned = ndimage.affine_transform(image.numpy(), back, middle - back @ middle, order=1, mode="nearest")
        image = torch.from_numpy(turned)
    top, bottom, left, right = (margin + cut for cut in clutter.cut_px(spacing_mm))
    return image[top : image.shape[0] - bottom, left : image.shape[1] - right].contiguous()
