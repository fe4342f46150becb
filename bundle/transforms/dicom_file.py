"""One DICOM file: opened without trusting it, its stored values decoded after its header has been checked."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

try:  # its home since pydicom 3
    from pydicom.pixels import apply_modality_lut
except ImportError:
    from pydicom.pixel_data_handlers.util import apply_modality_lut

MAX_PIXELS = 50_000_000
"""Twice what the largest detector has; a header that claims more is refused before memory is taken."""
MAX_BYTES = 512 * 2**20
"""Larger files are no film and no slice."""
DEFLATED = b"1.2.840.10008.1.2.1.99"


def open_dicom(path: Path, *, what: str, pixels: bool = True) -> Dataset:
    """Read a file's data elements; no pixel is decoded.

    Files without preamble or file meta information occur in OAI and are read.

    Args:
        path: the file.
        what: how errors call it, such as `film /data/001`.
        pixels: False leaves the pixel data unread.

    Raises:
        ValueError: if the file is no DICOM image.
    """
    size = path.stat().st_size
    if not size:
        raise ValueError(f"{what}: the file is empty.")
    if size > MAX_BYTES:
        raise ValueError(f"{what}: has {size // 2**20} MiB; expected at most {MAX_BYTES // 2**20}.")
    with path.open("rb") as file:
        head = file.read(1024)
    # pydicom reads anything when forced; without preamble a data set begins with group 2 or 8
    if head[128:132] != b"DICM" and head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        raise ValueError(f"{what}: is no DICOM file.")
    if DEFLATED in head:
        raise ValueError(f"{what}: its transfer syntax is deflated, which is not read; convert it to Explicit VR.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # malformed character sets and values occur in OAI and change no pixel
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
    meta = getattr(dataset, "file_meta", None)
    if meta is None or "TransferSyntaxUID" not in meta:
        dataset.file_meta = meta if meta is not None else FileMetaDataset()
        implicit, little = _encoding(dataset)
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def check_frame(dataset: Dataset, *, what: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Rows and columns of a grey single frame, or ValueError saying what the header claims instead."""
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ValueError(f"{what}: is no image; it has no rows and columns.")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    check_size(rows, columns, what=what, max_pixels=max_pixels)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise ValueError(f"{what}: has {frames} frames; expected one.")
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or int(dataset.get("SamplesPerPixel", 1) or 1) != 1:
        raise ValueError(f"{what}: must be grey (MONOCHROME1 or MONOCHROME2), got {photometric or 'nothing'}.")
    allocated = int(dataset.get("BitsAllocated", 0) or 0)
    stored = int(dataset.get("BitsStored", 0) or 0)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise ValueError(f"{what}: says {stored} bits stored of {allocated} allocated; expected 8 to 16 of 8 or 16.")
    return rows, columns


def check_size(rows: int, columns: int, *, what: str, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse images that are too small to show a knee or too large to be one."""
    if min(rows, columns) < 16 or rows * columns > max_pixels:
        raise ValueError(
            f"{what}: the header says {rows} x {columns} pixels; expected 16 or more an edge and at most {max_pixels} "
            "in all."
        )


def decode(dataset: Dataset, *, what: str) -> np.ndarray:
    """Pixel values after rescale, bright where the tissue attenuates much (a film) or gives signal (MR).

    MONOCHROME1 is inverted against the bit depth: against the largest pixel, one hot pixel would move the grey scale.
    Padding pixels get the darkest value of the rest. Windows are left alone: intensities are normalised later.

    Args:
        dataset: what `open_dicom` gave and `check_frame` accepted.
        what: how errors call it.

    Returns:
        (rows, columns) float32.

    Raises:
        ValueError: if the pixel data is absent or damaged.
    """
    if "PixelData" not in dataset:
        raise ValueError(f"{what}: has no pixel data.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = dataset.pixel_array
    except Exception as error:  # decoders raise anything from KeyError to struct.error on damaged data
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{what}: its pixel data cannot be decoded ({text}).") from None
    if stored.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise ValueError(f"{what}: the header says {dataset.Rows} x {dataset.Columns} pixels, the data {stored.shape}.")
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation", 0))
    padding = _padding(dataset, stored)
    if not signed and int(stored.max()) >> bits:
        stored = stored & ((1 << bits) - 1)  # overlays in the unused high bits
    inverted = str(dataset.PhotometricInterpretation).strip() == "MONOCHROME1"
    if "ModalityLUTSequence" in dataset:
        values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
        values = values.max() - values if inverted else values
    else:
        values = stored.astype(np.float32)
        if inverted:
            values = (-1.0 if signed else 2.0**bits - 1) - values
        with np.errstate(over="ignore", invalid="ignore"):
            values = values * _number(dataset, "RescaleSlope", 1.0) + _number(dataset, "RescaleIntercept", 0.0)
    if padding is not None and padding.any() and not padding.all():
        values[padding] = values[~padding].min()
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: has values that are not finite; see its rescale slope and intercept.")
    return values


def text(dataset: Dataset, tag: str) -> str:
    """A header entry as stripped text; empty where it is absent."""
    value = dataset.get(tag, "")
    return "" if value is None else str(value).strip()


def _number(dataset: Dataset, tag: str, default: float) -> float:
    value = dataset.get(tag)
    return default if value is None or str(value).strip() == "" else float(value)


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return (stored >= low) & (stored <= high)


def _encoding(dataset: Dataset) -> tuple[bool, bool]:
    """Whether the data set was implicit and little endian, as pydicom 3 and 2.4 say it."""
    encoding = getattr(dataset, "original_encoding", None)
    if encoding is None or None in encoding:
        encoding = (getattr(dataset, "is_implicit_VR", True), getattr(dataset, "is_little_endian", True))
    return bool(encoding[0]), bool(encoding[1])
