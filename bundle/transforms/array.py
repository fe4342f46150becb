"""Transforms of films, volumes and readings; `dictionary.py` holds their dictionary forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from torch import Tensor

from bundle.geometry import FIELD_OF_VIEW_MM, check_side, mirror_columns
from bundle.keys import MIRRORED
from bundle.readings import check_policy, grade_table
from bundle.transforms.dicom_pixels import MAX_PIXELS
from bundle.transforms.film_files import read_film
from bundle.transforms.resample import apply_weights, axis_weights

NORMALISED = "normalised"
"""Entry of a film's meta: True once it is in [-1, 1]."""


class LoadFilm(Transform):
    """A film file as an image in ILA axes, see `read_film`.

    MONAI's `LoadImage` transposes pictures, keeps the polarity of MONOCHROME1 and knows nothing of detectors.

    Args:
        spacing_mm: pixel edge at the detector, mm, for files that do not say it.
        max_pixels: files whose header claims more are refused before memory is taken.
    """

    def __init__(self, spacing_mm: float | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.spacing_mm, self.max_pixels = spacing_mm, max_pixels

    def __call__(self, path: str | Path) -> MetaTensor:
        """(1, H, W, 1) float32, bright where bone is dense.

        The meta has `filename_or_obj`, `spacing_source`, `synthetic_phantom` and `prepared`, and `side`, `bilateral`
        and `sop_instance_uid` where the file says them: an absent entry is unknown (None could not be batched).
        """
        film = read_film(path, spacing_mm=self.spacing_mm, max_pixels=self.max_pixels)
        meta = {
            "filename_or_obj": str(path),
            "side": film.side,
            "bilateral": film.bilateral,
            "spacing_source": film.spacing_source,
            "synthetic_phantom": film.synthetic_phantom,
            "sop_instance_uid": film.sop_instance_uid,
            "prepared": film.prepared,
        }
        known = {name: value for name, value in meta.items() if value is not None}
        pixels = torch.from_numpy(np.ascontiguousarray(film.pixels))[None, :, :, None]
        return MetaTensor(pixels, affine=torch.from_numpy(film.affine), meta=known)


class NormaliseFilm(Transform):
    """Film to [-1, 1] by robust percentiles inside the collimated field; a gain or offset changes nothing.

    Flat rows and columns at the borders (collimator, padding) do not count, nor do pixels at the film's very lowest or
    highest value where there are many of them (saturated air, slanted shutters). A film that is normalised already,
    or prepared and in [0, 1], is not stretched again.

    Args:
        lower, upper: percentiles that become -1 and 1.
    """

    def __init__(self, lower: float = 0.5, upper: float = 99.5) -> None:
        self.lower, self.upper = _check_percentiles(lower, upper)

    def __call__(self, film: Tensor) -> MetaTensor:
        """(1, H, W, 1) or (1, H, W), any values, to the same shape in [-1, 1].

        Raises:
            ValueError: if the film is not finite or has no contrast.
        """
        meta, plain = _parts(film)
        values = plain.numpy()
        low, high = float(values.min()), float(values.max())
        if meta.get(NORMALISED) and low >= -1 and high <= 1:
            result = plain
        elif meta.get("prepared") and low >= -1e-4 and high <= 1 + 1e-4:
            result = (plain * 2 - 1).clamp(-1, 1)
        else:
            result = _stretch(plain, collimated_field(values.reshape(values.shape[1:3])), self.lower, self.upper, meta)
        return _image(result, meta | {NORMALISED: True})


def collimated_field(pixels: np.ndarray) -> np.ndarray:
    """Values of the pixels that the beam reached and the detector could grade.

    Args:
        pixels: (H, W).

    Returns:
        (N,), at least a tenth of them.
    """
    field = pixels[collimated_extent(pixels)]
    kept = np.ones(field.shape, bool)
    for extreme in (field.min(), field.max()):
        at_extreme = field == extreme
        if at_extreme.mean() > 0.01:
            kept &= ~at_extreme
    return field[kept] if kept.mean() > 0.1 else field.ravel()


def collimated_extent(pixels: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that are not flat borders (collimator, padding); all of them if every one is flat."""
    spread = np.subtract(*np.percentile(pixels, [99, 1]))
    extent = []
    for axis in (1, 0):
        varies = np.flatnonzero(np.subtract(*np.percentile(pixels, [97, 3], axis=axis)) > 0.01 * spread)
        first, last = (varies[0], varies[-1]) if len(varies) else (0, pixels.shape[1 - axis] - 1)
        extent.append(slice(int(first), int(last) + 1))
    return extent[0], extent[1]


class NormaliseVolume(Transform):
    """Volume to [-1, 1] by percentiles of the whole of it, never of a slice (the profile over depth would go).

    Args:
        lower, upper: percentiles that become -1 and 1 (design.md 3.17).
    """

    def __init__(self, lower: float = 0.5, upper: float = 99.5) -> None:
        self.lower, self.upper = _check_percentiles(lower, upper)

    def __call__(self, volume: Tensor) -> MetaTensor:
        """(1, H, W, S), any values, to the same shape in [-1, 1]; a gain or an offset in the file changes nothing.

        Raises:
            ValueError: if the volume is not finite or has no contrast.
        """
        meta, plain = _parts(volume)
        return _image(_stretch(plain, plain.numpy().ravel(), self.lower, self.upper, meta), meta)


def _check_percentiles(lower: float, upper: float) -> tuple[float, float]:
    if not 0 <= lower < upper <= 100:
        raise ValueError(f"`lower` and `upper` must be percentiles, 0 <= lower < upper <= 100, got {lower}, {upper}.")
    return lower, upper


def _parts(image: Tensor) -> tuple[dict[str, Any], Tensor]:
    meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
    plain = (image.as_tensor() if isinstance(image, MetaTensor) else image).detach().cpu().float()
    if not torch.isfinite(plain).all():
        raise ValueError(f"{meta.get('filename_or_obj', 'image')}: has values that are not finite.")
    return meta, plain


def _stretch(plain: Tensor, field: np.ndarray, lower: float, upper: float, meta: Mapping[str, Any]) -> Tensor:
    low, high = (float(edge) for edge in np.percentile(field, [lower, upper]))
    if high <= low:
        name = meta.get("filename_or_obj", "image")
        raise ValueError(f"{name}: has no contrast; nearly all values are {low:g}.")
    return ((plain - low) * (2 / (high - low)) - 1).clamp(-1, 1)


def _image(tensor: Tensor, meta: Mapping[str, Any]) -> MetaTensor:
    return MetaTensor(tensor, meta=dict(meta))


class ToGrid(Transform):
    """Resample an image over the model's field of view to the model's rows, columns and slices.

    Shrinking averages, so nothing aliases; growing is linear. The image's outer edges stay where they are, in depth
    the centres of the first and last slice; the affine follows.

    Args:
        image_size: rows and columns.
        slices: None leaves the slices alone; else they are interpolated linearly.
    """

    def __init__(self, image_size: int, slices: int | None = None) -> None:
        if image_size < 1 or (slices is not None and slices < 1):
            raise ValueError(f"`image_size` and `slices` must be positive, got {image_size} and {slices}.")
        self.image_size, self.slices = image_size, slices

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """(C, H, W, S) with an ILA affine to (C, image_size, image_size, slices).

        Raises:
            ValueError: if the image does not cover the field of view.
        """
        affine = image.affine.clone()
        weights = {}
        for axis in (0, 1):
            count = image.shape[axis + 1]
            edge = float(affine[:3, axis].norm())
            if abs(edge * count - FIELD_OF_VIEW_MM) > edge:
                raise ValueError(
                    f"{image.meta.get('filename_or_obj', 'image')}: covers {edge * count:.1f} mm along axis {axis}, "
                    f"expected {FIELD_OF_VIEW_MM:g}; prepare it with scripts/prepare_data.py."
                )
            factor = count / self.image_size
            weights[axis + 1] = axis_weights(count, 1.0, self.image_size, factor)
            affine[:3, 3] += affine[:3, axis] * (factor - 1) / 2
            affine[:3, axis] *= factor
        count = image.shape[3]
        if self.slices not in (None, count):
            position = torch.linspace(0, count - 1, self.slices, dtype=torch.float64)
            weights[3] = (1 - (position[:, None] - torch.arange(count)).abs()).clamp(min=0).float()
            affine[:3, 2] *= (count - 1) / (self.slices - 1) if min(count, self.slices) > 1 else 1.0
        meta = {name: value for name, value in image.meta.items() if name != "affine"}
        return MetaTensor(apply_weights(image.as_tensor(), weights), affine=affine, meta=meta)


class CanonicalSide(Transform):
    """Mirror a left knee to the canonical right side; the affine stays (design.md 9)."""

    def __call__(self, image: MetaTensor, side: str | None) -> MetaTensor:
        """(C, H, W, S) of a knee; the meta's `mirrored` says what was done.

        Raises:
            ValueError: if `side` is not `R` or `L`, or the image is mirrored already.
        """
        if image.meta.get(MIRRORED):
            raise ValueError(f"{image.meta.get('filename_or_obj', 'image')}: is mirrored already; restore it first.")
        return _mirrored(image, reverse=check_side(side) == "L", mirrored=side == "L")


class RestoreSide(Transform):
    """Undo `CanonicalSide` by the meta's `mirrored`: a left knee's image becomes a left knee's again."""

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """(C, H, W, S), mirrored or not, to the anatomy of its own side."""
        return _mirrored(image, reverse=bool(image.meta.get(MIRRORED)), mirrored=False)


def _mirrored(image: MetaTensor, *, reverse: bool, mirrored: bool) -> MetaTensor:
    plain = image.as_tensor()
    return _image(mirror_columns(plain, columns_dim=-2) if reverse else plain, dict(image.meta) | {MIRRORED: mirrored})


class EncodeReadings(Transform):
    """Readings of a knee as the one-hot vector, see `GradeTable.encode`.

    Args:
        table: name of the grade table.
        policy: what a missing reading becomes.
    """

    def __init__(self, table: str = "oai", policy: str = "zeros") -> None:
        self.table, self.policy = grade_table(table), check_policy(policy)

    def __call__(self, readings: Mapping[str, float | None] | None, where: str = "readings") -> Tensor:
        """Variable to grade, or None where nothing is known, to (width,) float32; errors name `where`."""
        if readings is not None and not isinstance(readings, Mapping):
            raise ValueError(f"{where}: must map variables to grades, got {type(readings).__name__}.")
        return torch.from_numpy(self.table.encode(readings, policy=self.policy, where=where))
