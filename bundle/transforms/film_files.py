"""Read a film from DICOM, NIfTI or a picture file: pixels, spacing, and what the header says of side and origin."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from monai.utils import optional_import

from bundle.geometry import ila_affine

Image, _ = optional_import("PIL.Image")

MAX_PIXELS = 100_000_000
"""More than any detector has; a header that claims more is refused before memory is taken."""
MODALITIES = ("CR", "DX", "RG")
PHANTOM_MARK = "synthetic-phantom"
PREPARED_MARK = "knee ROI"
"""In the header of a film that preparation cut and normalised; it is taken as it is."""
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
OTHER_VIEWS = ("LATERAL", "SKYLINE", "SUNRISE", "MERCHANT", "LL", "ML")


@dataclass(frozen=True)
class FilmFile:
    """A film as its file holds it.

    Args:
        pixels: (H, W) float32, rows downwards, bright where much is absorbed.
        affine: (4, 4) of the (H, W, 1) array, voxel to RAS mm; a film has no patient position, so its middle is at
            the origin unless a NIfTI says otherwise.
        side: `R` or `L` where the header says it.
        bilateral: whether the header says that both knees are on it; None where it says nothing.
        spacing_source: tag or argument from which the spacing came.
        synthetic_phantom: whether the file is marked as a phantom's.
        sop_instance_uid: of a DICOM film.
        prepared: whether it is a prepared region of interest: cut, normalised to [0, 1].
    """

    pixels: np.ndarray
    affine: np.ndarray
    side: str | None = None
    bilateral: bool | None = None
    spacing_source: str = "affine"
    synthetic_phantom: bool = False
    sop_instance_uid: str | None = None
    prepared: bool = False


def read_film(path: str | Path, *, spacing_mm: float | None = None) -> FilmFile:
    """Read a film.

    Args:
        path: DICOM (with or without ending), NIfTI, PNG, JPEG or TIFF file.
        spacing_mm: pixel edge at the detector, mm; needed where the file does not say it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a PA film of the knee that can be read, or has no spacing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"film {path}: no such file.")
    if spacing_mm is not None and not spacing_mm > 0:
        raise ValueError(f"`spacing_mm` must be positive, got {spacing_mm}.")
    if not path.stat().st_size:
        raise ValueError(f"film {path}: the file is empty.")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _guarded(_read_nifti, path, spacing_mm)
    if name.endswith(PICTURES):
        return _guarded(_read_picture, path, spacing_mm)
    return _guarded(_read_dicom, path, spacing_mm)


def _guarded(reader: Callable[[Path, float | None], FilmFile], path: Path, spacing_mm: float | None) -> FilmFile:
    """Call a reader; whatever a damaged file makes a decoder raise becomes one kind of error that names the file."""
    try:
        film = reader(path, spacing_mm)
    except Exception as error:  # decoders raise anything from KeyError to struct.error on damaged files
        text = str(error) or type(error).__name__
        if isinstance(error, ValueError) and text.startswith("film "):
            raise
        raise ValueError(f"film {path}: cannot be read ({text.splitlines()[0][:200]}).") from None
    if not np.isfinite(film.pixels).all():
        raise ValueError(f"film {path}: holds values that are not finite.")
    if np.ptp(film.pixels) == 0:
        raise ValueError(f"film {path}: every pixel has the same value; there is no film in it.")
    return film


def _check_size(path: Path, rows: int, columns: int) -> None:
    if not (min(rows, columns) >= 16 and rows * columns <= MAX_PIXELS):
        raise ValueError(
            f"film {path}: the header says {rows} x {columns} pixels; expected 16 or more an edge and at most "
            f"{MAX_PIXELS} in all."
        )


def _read_dicom(path: Path, spacing_mm: float | None) -> FilmFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # malformed character sets and values occur in OAI and change no pixel
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        if "Rows" not in header or "Columns" not in header:
            raise ValueError(f"film {path}: neither DICOM, NIfTI nor a picture; it has no rows and columns.")
        rows, columns = int(header.Rows), int(header.Columns)
        _check_size(path, rows, columns)
        _check_kind(path, header)
        spacing, source = _spacing(path, header, spacing_mm)
        dataset = pydicom.dcmread(path, force=True)
        if "PixelData" not in dataset:
            raise ValueError(f"film {path}: has no pixel data.")
        if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
            dataset.file_meta = getattr(dataset, "file_meta", None) or pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        pixels = dataset.pixel_array.astype(np.float32)
    if pixels.shape != (rows, columns):
        raise ValueError(f"film {path}: the header says {rows} x {columns} pixels, the data has {pixels.shape}.")
    if str(header.PhotometricInterpretation) == "MONOCHROME1":
        # against the bit depth: the largest pixel would move with one hot pixel
        pixels = (2 ** int(header.get("BitsStored", 12)) - 1) - pixels
    slope = float(header.get("RescaleSlope", 1) or 1)
    pixels = pixels * slope + float(header.get("RescaleIntercept", 0) or 0)
    model = str(header.get("ManufacturerModelName", ""))
    return FilmFile(
        pixels,
        _film_affine(pixels.shape, spacing),
        side=_side(header),
        bilateral=_bilateral(header),
        spacing_source=source,
        synthetic_phantom=PHANTOM_MARK in model,
        sop_instance_uid=str(header.get("SOPInstanceUID", "")) or None,
    )


def _check_kind(path: Path, header: pydicom.Dataset) -> None:
    modality = str(header.get("Modality", ""))
    if modality not in MODALITIES:
        raise ValueError(f"film {path}: modality must be one of {', '.join(MODALITIES)}, got {modality or 'none'}.")
    if int(header.get("NumberOfFrames", 1) or 1) != 1:
        raise ValueError(f"film {path}: has {header.NumberOfFrames} frames, expected one.")
    photometric = str(header.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"film {path}: must be MONOCHROME1 or MONOCHROME2, got {photometric or 'nothing'}.")
    part = str(header.get("BodyPartExamined", "")).upper()
    if part and not any(word in part for word in ("KNEE", "LEG", "EXTREMITY")):
        raise ValueError(f"film {path}: shows {part}, expected the knee.")
    words = " ".join(str(header.get(tag, "")) for tag in ("SeriesDescription", "ViewPosition")).upper().split()
    other = next((view for view in OTHER_VIEWS if view in words), None)
    if other:
        raise ValueError(f"film {path}: a {other} view, expected posterior-anterior (PA).")


def _spacing(path: Path, header: pydicom.Dataset, spacing_mm: float | None) -> tuple[tuple[float, float], str]:
    if spacing_mm is not None:
        return (spacing_mm, spacing_mm), "argument"
    for tag in ("ImagerPixelSpacing", "PixelSpacing"):
        value = header.get(tag)
        if not value:
            continue
        parts = str(value).strip("[]() ").replace("\\", ",").split(",") if isinstance(value, str) else list(value)
        try:
            row, column = float(parts[0]), float(parts[-1])
        except (TypeError, ValueError):
            continue
        if 0.01 <= row <= 5 and 0.01 <= column <= 5:
            return (row, column), tag
    raise ValueError(
        f"film {path}: has no usable pixel spacing (ImagerPixelSpacing or PixelSpacing of 0.01 to 5 mm); give it with "
        "--spacing MM."
    )


def _side(header: pydicom.Dataset) -> str | None:
    for tag in ("ImageLaterality", "Laterality"):
        value = str(header.get(tag, "")).strip().upper()
        if value in ("R", "L"):
            return value
    return None


def _bilateral(header: pydicom.Dataset) -> bool | None:
    text = str(header.get("SeriesDescription", "")).upper()
    if "BILAT" in text or str(header.get("ImageLaterality", "")).strip().upper() == "B":
        return True
    return False if "RIGHT" in text or "LEFT" in text else None


def _read_picture(path: Path, spacing_mm: float | None) -> FilmFile:
    if spacing_mm is None:
        raise ValueError(f"film {path}: a picture file holds no pixel spacing; give it with --spacing MM.")
    with Image.open(path) as picture:
        _check_size(path, picture.height, picture.width)
        if picture.mode not in ("L", "I", "I;16", "I;16B", "F", "LA", "RGB", "RGBA"):
            raise ValueError(f"film {path}: must be a grey picture, got mode {picture.mode}.")
        pixels = np.asarray(picture, dtype=np.float32)
    if pixels.ndim == 3:
        colours = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
        if np.ptp(colours, axis=2).max() > 0:
            raise ValueError(f"film {path}: must be a grey picture, got one with colours.")
        pixels = colours[..., 0]
    return FilmFile(pixels, _film_affine(pixels.shape, (spacing_mm, spacing_mm)), spacing_source="argument")


def _read_nifti(path: Path, spacing_mm: float | None) -> FilmFile:
    image = nib.load(path)
    shape = tuple(edge for edge in image.shape if edge != 1)
    if len(shape) != 2:
        raise ValueError(f"film {path}: must have one slice, got shape {tuple(image.shape)}.")
    _check_size(path, *shape)
    description = bytes(image.header["descrip"]).decode(errors="replace")
    flat = image if image.ndim == 3 else image.slicer[..., None] if image.ndim == 2 else None
    if flat is None:
        raise ValueError(f"film {path}: must have shape (H, W) or (H, W, 1), got {tuple(image.shape)}.")
    codes = nib.orientations.axcodes2ornt(("I", "L", "A"))
    turned = flat.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(flat.affine), codes))
    if turned.shape[2] != 1:
        raise ValueError(
            f"film {path}: its single slice must be coronal, but the affine says otherwise (shape {turned.shape} in "
            "inferior, left, anterior order)."
        )
    pixels = np.asarray(turned.dataobj, dtype=np.float32)[..., 0]
    affine, source = turned.affine, "affine"
    if spacing_mm is not None:
        affine, source = _film_affine(pixels.shape, (spacing_mm, spacing_mm)), "argument"
    return FilmFile(
        pixels,
        affine,
        spacing_source=source,
        synthetic_phantom=PHANTOM_MARK in description,
        prepared=PREPARED_MARK in description and spacing_mm is None,
    )


def _film_affine(shape: tuple[int, ...], spacing: tuple[float, float]) -> np.ndarray:
    return ila_affine((shape[0], shape[1], 1), (*spacing, 1.0), np.zeros(3))
