"""Transforms of films and volumes as arrays; `dictionary.py` holds their dictionary forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from torch.nn import functional

from bundle.geometry import FIELD_OF_VIEW_MM, check_side, mirror_columns
from bundle.keys import MIRRORED
from bundle.readings import check_policy, grade_table
from bundle.transforms.film_files import read_film


class LoadFilm(Transform):
    """A film file as an image in ILA axes, see `read_film`.

    MONAI's `LoadImage` transposes pictures, keeps the polarity of MONOCHROME1 and knows nothing of detectors.

    Args:
        spacing_mm: pixel edge at the detector, mm, for files that do not say it.
    """

    def __init__(self, spacing_mm: float | None = None) -> None:
        self.spacing_mm = spacing_mm

    def __call__(self, path: str | Path) -> MetaTensor:
        """(1, H, W, 1) float32, bright where bone is dense; the meta holds side, origin and phantom mark."""
        film = read_film(path, spacing_mm=self.spacing_mm)
        meta = {
            "filename_or_obj": str(path),
            "side": film.side,
            "bilateral": film.bilateral,
            "spacing_source": film.spacing_source,
            "synthetic_phantom": film.synthetic_phantom,
            "sop_instance_uid": film.sop_instance_uid,
            "prepared": film.prepared,
        }
        # MONAI's collation knows no None: what the file does not say is absent
        known = {key: value for key, value in meta.items() if value is not None}
        pixels = torch.from_numpy(np.ascontiguousarray(film.pixels))
        return MetaTensor(pixels[None, :, :, None], affine=torch.from_numpy(film.affine), meta=known)


class NormaliseFilm(Transform):
    """Film to [-1, 1] by robust percentiles inside the collimated field.

    Pixels at the exact minimum (behind the collimator, padding) do not count, as long as they are a minority. A
    prepared film is in [0, 1] already and is only stretched.

    Args:
        lower, upper: percentiles.
    """

    def __init__(self, lower: float = 0.5, upper: float = 99.5) -> None:
        self.lower, self.upper = lower, upper

    def __call__(self, film: MetaTensor) -> MetaTensor:
        """Scale and clip; a gain or an offset in the file changes nothing."""
        if film.meta.get("prepared"):
            return film * 2 - 1
        values = film.as_tensor().numpy()
        field = values[values > values.min()]
        if field.size < values.size / 2:
            field = values.ravel()
        return _scaled(film, np.percentile(field, [self.lower, self.upper]))


class NormaliseVolume(Transform):
    """Volume to [-1, 1] by percentiles of the whole of it, never of a slice (the profile over depth would go).

    Args:
        lower, upper: percentiles.
    """

    def __init__(self, lower: float = 0.5, upper: float = 99.5) -> None:
        self.lower, self.upper = lower, upper

    def __call__(self, volume: MetaTensor) -> MetaTensor:
        """Scale and clip; a gain or an offset in the file changes nothing."""
        return _scaled(volume, np.percentile(volume.as_tensor().numpy(), [self.lower, self.upper]))


def _scaled(image: MetaTensor, window: np.ndarray) -> MetaTensor:
    low, high = (float(edge) for edge in window)
    if high <= low:
        raise ValueError(f"{image.meta.get('filename_or_obj', 'image')}: has no contrast; nearly all values are {low}.")
    return ((image - low) / (high - low) * 2 - 1).clamp(-1, 1)


class ToGrid(Transform):
    """Resample an image over the model's field of view to the model's rows, columns and slices.

    Shrinking averages whole cells, so nothing aliases; growing is linear. The outer edges of the image stay where they
    are, and in depth the centres of the first and last slice.

    Args:
        image_size: rows and columns.
        slices: None leaves the slices alone.
    """

    def __init__(self, image_size: int, slices: int | None = None) -> None:
        self.image_size, self.slices = image_size, slices

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """(C, h, w, s) with an ILA affine to (C, image_size, image_size, slices)."""
        affine = image.affine.numpy().copy()
        for axis, size in ((0, image.shape[1]), (1, image.shape[2])):
            extent = np.linalg.norm(affine[:3, axis]) * size
            if abs(extent - FIELD_OF_VIEW_MM) > FIELD_OF_VIEW_MM / size:
                raise ValueError(
                    f"{image.meta.get('filename_or_obj', 'image')}: covers {extent:.1f} mm along axis {axis}, expected "
                    f"{FIELD_OF_VIEW_MM}; prepare it with scripts/prepare_data.py."
                )
        plain = image.as_tensor().float()
        stacked = plain.permute(0, 3, 1, 2)
        stacked = resize_plane(stacked, self.image_size)
        for axis, size in ((0, image.shape[1]), (1, image.shape[2])):
            factor = size / self.image_size
            affine[:3, 3] += affine[:3, axis] * (factor - 1) / 2
            affine[:3, axis] *= factor
        result = stacked.permute(0, 2, 3, 1)
        if self.slices is not None and self.slices != result.shape[-1]:
            count = result.shape[-1]
            size = (*result.shape[1:3], self.slices)
            result = functional.interpolate(result[None], size=size, mode="trilinear", align_corners=True)[0]
            affine[:3, 2] *= (count - 1) / max(self.slices - 1, 1)
        resampled = MetaTensor(result.contiguous(), meta=dict(image.meta))
        resampled.affine = torch.from_numpy(affine)
        return resampled


def resize_plane(images: torch.Tensor, size: int) -> torch.Tensor:
    """(N, C, h, w) to (N, C, size, size) over the same field: area means when shrinking, bilinear when growing."""
    if tuple(images.shape[-2:]) == (size, size):
        return images
    if max(images.shape[-2:]) > size:
        return functional.interpolate(images, size=(size, size), mode="area")
    return functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


class CanonicalSide(Transform):
    """Mirror a left knee to the canonical right side; the affine stays (design.md 9, decision 005)."""

    def __call__(self, image: MetaTensor, side: str) -> MetaTensor:
        """(C, H, W, S) of a knee; the meta's `mirrored` says what was done."""
        mirrored = check_side(side) == "L"
        result = mirror_columns(image, columns_dim=-2) if mirrored else image
        result.meta[MIRRORED] = mirrored
        return result


class EncodeReadings(Transform):
    """Readings of a knee as the one-hot vector, see `GradeTable.encode`.

    Args:
        table: name of the grade table.
        policy: what a missing reading becomes.
    """

    def __init__(self, table: str = "oai", policy: str = "zeros") -> None:
        self.table, self.policy = grade_table(table), check_policy(policy)

    def __call__(self, readings: Mapping[str, float | None] | None) -> torch.Tensor:
        """Variable to grade, or None where nothing is known, to (width,) float32."""
        return torch.from_numpy(self.table.encode(readings, policy=self.policy))
