"""The pixels of one DICOM frame: its header checked against its data before memory is taken, then decoded."""

from __future__ import annotations

import numpy as np
from monai.utils import optional_import
from pydicom.dataset import Dataset
from pydicom.uid import UID

from bundle.transforms.dicom_file import number, quiet, text
from bundle.transforms.rle_stream import decoded_sizes

try:  # its home since pydicom 3
    from pydicom.pixels import apply_modality_lut
except ImportError:
    from pydicom.pixel_data_handlers.util import apply_modality_lut

_, HAS_DECODERS = optional_import("gdcm")

MAX_PIXELS = 50_000_000
"""Twice what the largest detector has; a header that claims more is refused before memory is taken."""
BIG_ENDIAN = "1.2.840.10008.1.2.2"
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", BIG_ENDIAN)
RLE = "1.2.840.10008.1.2.5"
CODED = {
    **dict.fromkeys(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"), "JPEG"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"), "JPEG lossless"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "JPEG-LS"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"), "JPEG 2000"),
}
"""Transfer syntaxes whose pixels are one coded stream (python-gdcm decodes all of them)."""
LOSSY = tuple(f"1.2.840.10008.1.2.4.{last}" for last in (50, 51, 81, 91))
OVERSHOOT = 0.05
"""Share of the range by which a lossy stream's values may lie beyond it; they are cut to it."""
END_OF_IMAGE = b"\xff\xd9"
"""The last marker of a stream, in all of JPEG, JPEG-LS and JPEG 2000."""
START_OF_SCAN, MAX_SCANS = b"\xff\xda", 64
"""A progressive JPEG of a grey picture has some ten scans."""
FRAME_MARKERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""JPEG's start-of-frame markers and that of JPEG-LS; the others define tables."""


def check_frame(dataset: Dataset, *, what: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Rows and columns of a grey single frame, or ValueError saying what the header claims instead."""
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ValueError(f"{what}: is no image; it has no rows and columns.")
    rows, columns, frames, samples, allocated, stored = (
        int(number(dataset, tag, default, what=what))
        for tag, default in (
            *(("Rows", 0), ("Columns", 0), ("NumberOfFrames", 1), ("SamplesPerPixel", 1)),
            *(("BitsAllocated", 0), ("BitsStored", 0)),
        )
    )
    check_size(rows, columns, what=what, max_pixels=max_pixels)
    if frames not in (0, 1):
        raise ValueError(f"{what}: has {frames} frames; expected one (convert it to files of one frame each).")
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        raise ValueError(f"{what}: must be grey (MONOCHROME1 or MONOCHROME2), got {photometric or 'nothing'}.")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise ValueError(f"{what}: says {stored} bits stored of {allocated} allocated; expected 8 to 16 of 8 or 16.")
    high = int(number(dataset, "HighBit", stored - 1, what=what))
    if high != stored - 1:
        raise ValueError(f"{what}: says high bit {high} of {stored} bits stored; expected {stored - 1}.")
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
    Padding pixels get the darkest value of the rest. The modality transform (rescale or its table) is applied, since
    it says what the numbers are. Values of interest (windows, sigmoids, VOI tables) are not: they bend or clip for a
    viewer's eye, and intensities are normalised later (docs/data.md).

    Args:
        dataset: what `open_dicom` gave and `check_frame` accepted.
        what: how errors call it.

    Returns:
        (rows, columns) float32.

    Raises:
        ValueError: if the pixel data is absent or damaged.
    """
    stored = _stored(dataset, what)
    bits, signed = int(dataset.BitsStored), bool(number(dataset, "PixelRepresentation", 0, what=what))
    padding = _padding(dataset, stored)
    inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    if dataset.get("ModalityLUTSequence"):
        try:
            values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
        except Exception as error:  # as above: a damaged table raises anything
            raise ValueError(f"{what}: its modality table cannot be used ({_short(error)}).") from None
        values = values.max() - values if inverted else values
    elif _is_intensity(dataset):
        values = _density(stored, bits, rising=number(dataset, "PixelIntensityRelationshipSign", 1, what=what) > 0)
    else:
        values = stored.astype(np.float32)
        if inverted:
            values = (-1.0 if signed else 2.0**bits - 1) - values
        slope = number(dataset, "RescaleSlope", 1.0, what=what)
        intercept = number(dataset, "RescaleIntercept", 0.0, what=what)
        if slope == 0 or not np.isfinite([slope, intercept]).all():
            raise ValueError(f"{what}: its rescale slope is {slope:g} and its intercept {intercept:g}.")
        if (slope, intercept) != (1.0, 0.0):
            with np.errstate(over="ignore", invalid="ignore"):
                values = values * np.float32(slope) + np.float32(intercept)
    if padding is not None and padding.any() and not padding.all():
        values[padding] = values[~padding].min()
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: has values that are not finite; see its rescale slope and intercept.")
    return values


def _stored(dataset: Dataset, what: str) -> np.ndarray:
    """Stored values as the header describes them, without what else lies in their unused bits."""
    if not dataset.get("PixelData"):
        raise ValueError(f"{what}: has no pixel data; the file may be cut short.")
    _check_data(dataset, what)
    try:
        with quiet():
            stored = _uncompressed(dataset) if _is_plain(dataset) else dataset.pixel_array
    except Exception as error:  # decoders raise anything from KeyError to struct.error on damaged data
        raise ValueError(f"{what}: its pixel data cannot be decoded ({_short(error)}).") from None
    if stored.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise ValueError(f"{what}: the header says {dataset.Rows} x {dataset.Columns} pixels, the data {stored.shape}.")
    bits = int(dataset.BitsStored)
    if bits == int(dataset.BitsAllocated):
        return stored
    mask = (1 << bits) - 1
    if str(dataset.file_meta.TransferSyntaxUID) in LOSSY:
        stored = _without_overshoot(stored, bits, signed=bool(dataset.get("PixelRepresentation", 0)))
    low, high = int(stored.min()), int(stored.max())
    overlay = any((0x6000 + 2 * plane, 0x0102) in dataset for plane in range(16))
    if bool(dataset.get("PixelRepresentation", 0)):
        if overlay or high >> (bits - 1):  # the sign was not carried to the unused bits
            sign = 1 << (bits - 1)
            stored = ((stored & mask) ^ sign) - sign
        elif low < -(1 << (bits - 1)):
            raise ValueError(f"{what}: has values below the {bits} bits stored that its header claims.")
    elif high > mask:
        if not overlay:
            raise ValueError(f"{what}: has values up to {high}, above the {bits} bits stored that its header claims.")
        stored = stored & mask
    return stored


def _without_overshoot(stored: np.ndarray, bits: int, *, signed: bool) -> np.ndarray:
    """Values of a lossy stream cut to their range, if they are near it at all."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    margin = OVERSHOOT * (high - low)
    near = low - margin <= int(stored.min()) and int(stored.max()) <= high + margin
    return np.clip(stored, low, high) if near else stored


def _is_plain(dataset: Dataset) -> bool:
    return str(dataset.file_meta.TransferSyntaxUID) in UNCOMPRESSED and int(dataset.BitsAllocated) > 8


def _uncompressed(dataset: Dataset) -> np.ndarray:
    """Every bit as stored: pydicom 3 drops the unused ones, and with them the sign that they are not unused."""
    order = ">" if str(dataset.file_meta.TransferSyntaxUID) == BIG_ENDIAN else "<"
    kind = "i" if dataset.get("PixelRepresentation", 0) else "u"
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    edge = int(dataset.BitsAllocated) // 8
    values = np.frombuffer(dataset.PixelData, f"{order}{kind}{edge}", rows * columns)
    return values.reshape(rows, columns).astype(f"={kind}{edge}", copy=False)


def _check_data(dataset: Dataset, what: str) -> None:
    """Compare the data's own size with the header's, so that no decoder takes memory for another."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    rows, columns, data = int(dataset.Rows), int(dataset.Columns), dataset.PixelData
    if syntax in UNCOMPRESSED:
        wanted = rows * columns * int(dataset.BitsAllocated) // 8
        if len(data) not in (wanted, wanted + wanted % 2):
            raise ValueError(
                f"{what}: its pixel data cannot be decoded (it has {len(data)} bytes, expected {wanted} for "
                f"{rows} x {columns} pixels); the file is cut short or its header wrong."
            )
        return
    if syntax == RLE:
        _check_rle(dataset, what)
        return
    if syntax not in CODED:
        name = UID(syntax).name if syntax else "none"
        raise ValueError(f"{what}: its transfer syntax ({name}) is not read; convert it to Explicit VR Little Endian.")
    size = coded_size(data)
    if size != (rows, columns):
        held = "no image" if size is None else f"{size[0]} x {size[1]} pixels"
        raise ValueError(
            f"{what}: its pixel data cannot be decoded (the {CODED[syntax]} stream holds {held}, the header says "
            f"{rows} x {columns})."
        )
    colours = coded_components(data)
    if colours != 1:
        raise ValueError(
            f"{what}: its pixel data cannot be decoded (the {CODED[syntax]} stream has {colours} colours, the header "
            "says that it is grey)."
        )
    check_scans(data, what=what)
    if syntax in LOSSY[:2] and coded_precision(data) != 8:
        depth = coded_precision(data)
        raise ValueError(
            f"{what}: is compressed as JPEG of {depth} bits (process 4), which is not read; convert it to "
            "Explicit VR Little Endian (dcmtk's dcmdjpeg does)."
        )
    # decoders fill up a stream that is cut short without a word
    if data.rfind(END_OF_IMAGE, len(data) - 64) < 0:
        raise ValueError(f"{what}: its pixel data cannot be decoded (the {CODED[syntax]} stream is cut short).")
    if not HAS_DECODERS and CODED[syntax] in ("JPEG lossless", "JPEG-LS"):
        raise ValueError(f"{what}: is compressed ({CODED[syntax]}); install python-gdcm to read it.")


def _check_rle(dataset: Dataset, what: str) -> None:
    """Compare what the segments decode to with the header; an odd number of bytes may be filled up to an even one."""
    plane, segments = int(dataset.Rows) * int(dataset.Columns), int(dataset.BitsAllocated) // 8
    data = dataset.PixelData
    # no encoder needs more than two bytes for one
    sizes = decoded_sizes(data, most=plane + 1) if len(data) <= 2 * plane * segments + 2**12 else []
    if len(sizes) != segments or not all(plane <= size <= plane + 1 for size in sizes):
        raise ValueError(
            f"{what}: its pixel data cannot be decoded (the RLE stream is damaged or cut short, or holds another size "
            f"than {dataset.Rows} x {dataset.Columns} pixels of {8 * segments} bits, which the header says)."
        )


def check_scans(data: bytes, *, what: str) -> None:
    """Refuse a JPEG stream that goes over its image again and again; each time takes as long as a sound image."""
    scans = data.count(START_OF_SCAN)
    if scans > MAX_SCANS:
        raise ValueError(f"{what}: its JPEG stream has {scans} scans; expected at most {MAX_SCANS}.")


def coded_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns in the header of the first JPEG, JPEG-LS or JPEG 2000 stream in some bytes; None without one.

    Source:
        ITU-T T.81 B.2.2 (frame header), T.87 C.2.2 (the same layout), T.800 A.5.1 (SIZ marker).
    """
    jpeg2000, jpeg = _stream_starts(data)
    if jpeg2000 is not None:
        fields = np.frombuffer(data[jpeg2000 + 8 : jpeg2000 + 24], ">u4")
        if len(fields) < 4:
            return None
        width, height, left, top = (int(field) for field in fields)
        return height - top, width - left
    at = _frame_header(data, jpeg)
    if at is None:
        return None
    return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")


def coded_precision(data: bytes) -> int | None:
    """Bits of a sample in the first JPEG stream in some bytes; None without one."""
    at = _frame_header(data, _stream_starts(data)[1])
    return None if at is None else data[at + 4]


def coded_components(data: bytes) -> int | None:
    """Colours of the first JPEG, JPEG-LS or JPEG 2000 stream in some bytes, 1 where it is grey; None without one.

    Source:
        as for `coded_size`.
    """
    jpeg2000, jpeg = _stream_starts(data)
    if jpeg2000 is not None:
        return int.from_bytes(data[jpeg2000 + 40 : jpeg2000 + 42], "big")
    at = _frame_header(data, jpeg)
    return None if at is None or at + 9 >= len(data) else data[at + 9]


def _stream_starts(data: bytes) -> tuple[int | None, int]:
    """Where a JPEG 2000 stream begins, None unless it is the first one; and a JPEG or JPEG-LS stream, -1 for none."""
    jpeg2000, jpeg = data.find(b"\xff\x4f\xff\x51"), data.find(b"\xff\xd8\xff")
    return (jpeg2000 if jpeg2000 >= 0 and (jpeg < 0 or jpeg2000 < jpeg) else None), jpeg


def _frame_header(data: bytes, jpeg: int) -> int | None:
    """Where the frame header of the JPEG stream that begins at `jpeg` lies."""
    at = jpeg + 2
    while 2 <= at <= len(data) - 9 and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in FRAME_MARKERS:
            return at
        # a marker without a segment, or a fill byte, is passed over
        alone = marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD9
        at += (1 if marker == 0xFF else 2) if alone else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _is_intensity(dataset: Dataset) -> bool:
    """Whether a film's values are the detector's raw signal, proportional to the beam's intensity behind the knee."""
    raw = text(dataset, "PresentationIntentType") == "FOR PROCESSING"
    return raw and text(dataset, "PixelIntensityRelationship") == "LIN"


def _density(stored: np.ndarray, bits: int, *, rising: bool) -> np.ndarray:
    """Minus the logarithm of intensity, from 0 (full beam) upwards: the scale of every film for presentation."""
    intensity = stored.astype(np.float32) if rising else 2.0**bits - 1 - stored.astype(np.float32)
    return np.log(np.float32(2.0**bits)) - np.log(np.clip(intensity, 0, None) + 1)


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    try:
        value = dataset.get("PixelPaddingValue")
        limit = dataset.get("PixelPaddingRangeLimit", value)
        if value is None:
            return None
        sign = 1 << (int(dataset.BitsStored) - 1)
        signed = int(number(dataset, "PixelRepresentation", 0, what=""))
        values = [int(value), int(value if limit is None else limit)]
        # some files say -2000 as 63536
        values = [((one & (2 * sign - 1)) ^ sign) - sign if signed and one >= sign else one for one in values]
        low, high = sorted(values)
    except Exception:  # a padding value that is no number marks nothing
        return None
    return (stored >= low) & (stored <= high)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
