"""Pictures of one knee for a report: film, coronal slices, sagittal and axial reformats, Sobel differences."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from monai.utils import optional_import
from skimage.filters import sobel

from bundle.reports.viewer import volume_viewer

Image, has_pillow = optional_import("PIL.Image")

DEPTHS = (0.2, 0.5, 0.8)
"""Where coronal slices are shown, as depth d."""
SAGITTAL_AT = 0.64
"""Column of the sagittal reformat, as a fraction: the medial condyle of a canonical (right) knee, 22 mm off centre."""
AXIAL_AT = 0.42
"""Row of the axial reformat, as a fraction: through the condyles, 13 mm above the centre."""
SOBEL_CEILING = 0.25
"""Difference of gradient magnitudes, intensities in [0, 1], that is drawn darkest."""
SPREAD_CEILING = 0.25
"""Standard deviation over samples, intensities in [0, 1], that is drawn brightest."""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Args:
        uri: PNG as a data URI.
        width_mm: extent across the page; height_mm: extent down the page; pixels need not be square.
    """

    uri: str
    width_mm: float
    height_mm: float


@dataclass(frozen=True)
class Row:
    """Panels of one volume; a Sobel difference has no reformats."""

    coronal: tuple[Panel, ...]
    sagittal: Panel | None = None
    axial: Panel | None = None


@dataclass(frozen=True)
class KneePictures:
    """All pictures of one knee: film, real volume, methods' volumes and Sobel differences, samples' spread, viewer."""

    film: Panel
    real: Row
    volumes: Mapping[str, Row]
    differences: Mapping[str, Row]
    viewer: str
    spread: Row | None = None


def knee_pictures(
    film: np.ndarray,
    real: np.ndarray,
    volumes: Mapping[str, np.ndarray],
    *,
    spacing_mm: tuple[float, float, float],
    viewed: Mapping[str, str] | None = None,
    spread: np.ndarray | None = None,
) -> KneePictures:
    """Draw the pictures of one knee.

    Args:
        film: shape (H, W), in [0, 1].
        real: real volume, shape (H, W, S), ILA, in [0, 1].
        volumes: method to its volume, as `real`.
        spacing_mm: voxel edges of the volumes along rows, columns and slices, mm.
        viewed: method to its name in the viewer, beside the real volume; None is no viewer.
        spread: standard deviation over samples, as `real`.
    """
    film_spacing = (real.shape[0] * spacing_mm[0] / film.shape[0], real.shape[1] * spacing_mm[1] / film.shape[1])
    return KneePictures(
        film=panel(film, film_spacing),
        real=_volume_row(real, spacing_mm),
        volumes={method: _volume_row(volume, spacing_mm) for method, volume in volumes.items()},
        differences={method: _difference_row(volume, real, spacing_mm) for method, volume in volumes.items()},
        viewer=(
            ""
            if viewed is None
            else volume_viewer(
                {"Real MRI": real} | {name: volumes[method] for method, name in viewed.items()}, spacing_mm=spacing_mm
            )
        ),
        spread=None if spread is None else _volume_row(spread / SPREAD_CEILING, spacing_mm),
    )


def grey(image: np.ndarray) -> np.ndarray:
    """An image in [0, 1] as uint8; values outside are clipped."""
    return np.round(255 * np.clip(image, 0.0, 1.0)).astype(np.uint8)


def panel(image: np.ndarray, spacing_mm: tuple[float, float]) -> Panel:
    """An image (rows, columns) in [0, 1] as an 8-bit grey PNG that knows its size in mm."""
    png = io.BytesIO()
    Image.fromarray(grey(image)).save(png, format="PNG", optimize=True)
    return Panel(data_uri(png.getvalue()), image.shape[1] * spacing_mm[1], image.shape[0] * spacing_mm[0])


def data_uri(png: bytes) -> str:
    """A PNG file as text for an `img` element."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def slice_indices(slices: int) -> list[int]:
    """Indices of the coronal slices at `DEPTHS`."""
    return [round(depth * (slices - 1)) for depth in DEPTHS]


def sagittal_reformat(volume: np.ndarray) -> np.ndarray:
    """The sagittal image (H, S) at `SAGITTAL_AT`: down is inferior, the front of the knee on the left."""
    return volume[:, int(SAGITTAL_AT * volume.shape[1]), ::-1]


def axial_reformat(volume: np.ndarray) -> np.ndarray:
    """The axial image (S, W) at `AXIAL_AT`: seen from the feet, the front of the knee on top."""
    return volume[int(AXIAL_AT * volume.shape[0]), :, ::-1].T


def sobel_difference(image: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Absolute difference of the Sobel gradient magnitudes of two images (H, W) in [0, 1]."""
    return np.abs(sobel(image.astype(np.float64)) - sobel(real.astype(np.float64)))


def _volume_row(volume: np.ndarray, spacing_mm: tuple[float, float, float]) -> Row:
    down, across, through = spacing_mm
    return Row(
        coronal=tuple(panel(volume[..., index], (down, across)) for index in slice_indices(volume.shape[2])),
        sagittal=panel(sagittal_reformat(volume), (down, through)),
        axial=panel(axial_reformat(volume), (through, across)),
    )


def _difference_row(volume: np.ndarray, real: np.ndarray, spacing_mm: tuple[float, float, float]) -> Row:
    maps = (sobel_difference(volume[..., i], real[..., i]) for i in slice_indices(real.shape[2]))
    # Agreement is paper-white, so that the eye goes to what differs.
    return Row(coronal=tuple(panel(1.0 - image / SOBEL_CEILING, spacing_mm[:2]) for image in maps))
