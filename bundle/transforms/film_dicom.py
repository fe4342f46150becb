"""Read a radiograph from a DICOM file: which files are a film of the knee, and what their headers say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from bundle.geometry import FILM_MAGNIFICATION
from bundle.transforms.dicom_file import open_dicom, quiet, text
from bundle.transforms.dicom_pixels import check_frame, decode

MODALITIES = ("CR", "DX", "RG")
OTHER_VIEWS: tuple[str, ...] = ("LATERAL", "LAT", "LL", "RL", "LLD", "RLD", "LLO", "RLO", "SKYLINE", "SUNRISE")
OTHER_VIEWS += ("MERCHANT", "AXIAL", "ML", "LM", "OBLIQUE", "TANGENTIAL", "TUNNEL", "NOTCH", "INTERCONDYLAR")
FRONTAL, SIDEWAYS = ("AP", "PA"), ("LATERAL", "LAT", "ML", "LM")
OTHER_PARTS: tuple[str, ...] = ("HAND", "WRIST", "PELVIS", "HIP", "CHEST", "THORAX", "ABDOMEN", "SPINE", "SKULL")
OTHER_PARTS += ("FOOT", "ANKLE", "SHOULDER", "ELBOW", "LIMB", "BREAST", "HEAD", "NECK", "FINGER", "THUMB", "TOE")
OTHER_PARTS += ("FOREARM", "HUMERUS", "CLAVICLE", "SCAPULA", "RIBS", "STERNUM", "SACRUM", "COCCYX", "CALCANEUS")
OTHER_PARTS += ("HEEL", "JAW", "BRAIN")
KNEE_PARTS = ("KNEE", "LEG", "EXTREMITY", "LOWER LIMB", "LOWERLIMB", "JOINT", "PATELLA")
SPACING_TAGS = ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing")
SPACING_RANGE_MM = (0.02, 5.0)


@dataclass(frozen=True)
class DicomFilm:
    """A radiograph of the knee.

    Args:
        pixels: (H, W) float32, bright where bone is dense.
        spacing_mm: pixel edges along rows and columns, at the detector.
        spacing_source: tag or `argument`.
        side: `R` or `L` where the header says it.
        bilateral: whether both knees are on it; None where the header says nothing.
        model_name: of the device.
        sop_instance_uid: of the image.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float]
    spacing_source: str
    side: str | None
    bilateral: bool | None
    model_name: str
    sop_instance_uid: str | None


@quiet()
def read_dicom_film(source: Path | bytes, *, what: str, spacing_mm: float | None, max_pixels: int) -> DicomFilm:
    """Read a film from a file or its content; see `read_film`.

    Raises:
        ValueError: if the file is no PA film of the knee, is damaged, or has no spacing; `what` begins the message.
    """
    dataset = open_dicom(source, what=what)
    check_kind(dataset, what=what)
    check_frame(dataset, what=what, max_pixels=max_pixels)
    spacing, spacing_source = film_spacing(dataset, what=what, spacing_mm=spacing_mm)
    return DicomFilm(
        decode(dataset, what=what),
        spacing,
        spacing_source,
        side=film_side(dataset),
        bilateral=film_bilateral(dataset),
        model_name=text(dataset, "ManufacturerModelName"),
        sop_instance_uid=text(dataset, "SOPInstanceUID") or None,
    )


def check_kind(dataset: Dataset, *, what: str) -> None:
    """Refuse, with the reason, what is no frontal radiograph of the knee."""
    modality = text(dataset, "Modality")
    if modality not in MODALITIES:
        raise ValueError(f"{what}: modality must be one of {', '.join(MODALITIES)}, got {modality[:40] or 'none'}.")
    part = " ".join(
        [text(dataset, "BodyPartExamined").upper().replace("_", " "), *_meanings(dataset, "AnatomicRegionSequence")]
    )
    description = _words(text(dataset, "SeriesDescription"))
    # a part in another language or of the maker's own naming is left to the knee finder
    other = [] if any(word in part for word in KNEE_PARTS) else [word for word in OTHER_PARTS if word in part]
    if "KNEE" not in description:
        other += [word for word in OTHER_PARTS if word in description]
    if other:
        raise ValueError(f"{what}: shows {part.strip() or other[0]}; expected the knee.")
    views = description + _words(text(dataset, "ViewPosition"))
    for meaning in _meanings(dataset, "ViewCodeSequence"):
        views += _words(meaning)
    if text(dataset, "ViewPosition").upper() in FRONTAL and set(FRONTAL) & set(description):
        views = [view for view in views if view not in SIDEWAYS]  # `Knee AP/LAT` is what was asked for, not this film
    found = [view for view in OTHER_VIEWS if view in views]
    if found:
        raise ValueError(f"{what}: is a {found[0].lower()} view; expected posterior-anterior (PA).")


def film_spacing(dataset: Dataset, *, what: str, spacing_mm: float | None = None) -> tuple[tuple[float, float], str]:
    """Pixel edges (rows, columns) at the detector in mm, and where they came from.

    `ImagerPixelSpacing` is at the detector by definition. `PixelSpacing` is too, unless the header says that it was
    corrected to the patient (PS3.3 10.7.1.3): then the usual magnification is put back.

    Args:
        dataset: header.
        what: how errors call it.
        spacing_mm: for films without.

    Raises:
        ValueError: if there is none.
    """
    for tag in SPACING_TAGS:
        edges = _edges(dataset, tag)
        if edges is None:
            continue
        corrected = text(dataset, "PixelSpacingCalibrationType").upper() in ("GEOMETRY", "FIDUCIAL")
        factor = FILM_MAGNIFICATION if tag == "PixelSpacing" and corrected else 1.0
        return (edges[0] * factor, edges[1] * factor), tag
    if spacing_mm is not None:
        return (spacing_mm, spacing_mm), "argument"
    low, high = SPACING_RANGE_MM
    raise ValueError(
        f"{what}: has no usable pixel spacing ({' or '.join(SPACING_TAGS)} of {low} to {high} mm); give it with "
        "--spacing MM."
    )


def film_side(dataset: Dataset) -> str | None:
    """`R` or `L` if the header says that one knee is shown."""
    for tag in ("ImageLaterality", "Laterality", "FrameLaterality"):
        value = text(dataset, tag).upper()
        if value in ("R", "L"):
            return value
    words = set(_words(text(dataset, "SeriesDescription")))
    if "KNEE" in words and len(words & {"RIGHT", "LEFT"}) == 1:
        return "R" if "RIGHT" in words else "L"
    return None


def film_bilateral(dataset: Dataset) -> bool | None:
    """Whether the header says that both knees are shown; None where it says nothing."""
    description = text(dataset, "SeriesDescription").upper()
    if "BILAT" in description or "BOTH" in _words(description) or text(dataset, "ImageLaterality").upper() == "B":
        return True
    return None if film_side(dataset) is None else False


def _meanings(dataset: Dataset, tag: str) -> list[str]:
    """The texts of a sequence of codes; none where the sequence is damaged."""
    try:
        codes = list(dataset.get(tag) or [])
    except Exception:  # pydicom reads a sequence when it is asked for
        return []
    return [text(code, "CodeMeaning").upper() for code in codes if isinstance(code, Dataset)]


def _words(value: str) -> list[str]:
    return [word for word in re.split(r"[^A-Z0-9]+", value.upper()) if word]


def _edges(dataset: Dataset, tag: str) -> tuple[float, float] | None:
    """Two edges from a tag that may be a list, one number or text; None if it is no spacing."""
    try:
        value = dataset.get(tag)
    except Exception:  # an entry that cannot be converted
        return None
    if value is None:
        return None
    parts = (
        list(value)
        if isinstance(value, MultiValue | list | tuple)
        else re.split(r"[\\,;\s]+", str(value).strip("[]() "))
    )
    try:
        edges = float(parts[0]), float(parts[-1])
    except (TypeError, ValueError, IndexError):
        return None
    low, high = SPACING_RANGE_MM
    return edges if len(parts) <= 2 and all(low <= edge <= high for edge in edges) else None
