"""One DICOM file: opened without trusting it, and only what is needed of its header."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

MAX_BYTES = 256 * 2**20
"""Larger files are no film and no slice."""
MAX_ELEMENTS = 20_000
"""Real headers have some hundred entries; one that goes on for ever takes time and memory."""
MAX_READS = 1_000_000
"""Pieces in which a header is read, two or three an entry, those of nested sequences with them."""
MAX_SEQUENCE, MAX_FRAMES_SEQUENCE = 256 * 2**10, 8 * 2**20
"""Bytes of a sequence that is read: of codes or a table, and of the groups that describe an enhanced file's frames."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
HEAD = 2**18
"""Bytes in which the file meta information ends."""
PIXEL_DATA = 0x7FE00010
FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "ImageType", "InstanceNumber"),
    *("Modality", "BodyPartExamined", "SeriesDescription", "StudyDescription", "ManufacturerModelName"),
    *("ViewPosition", "ViewCodeSequence", "AnatomicRegionSequence"),
    *("ImageLaterality", "Laterality", "FrameLaterality"),
    *("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing", "PixelSpacingCalibrationType"),
    *("PresentationIntentType", "PixelIntensityRelationship", "PixelIntensityRelationshipSign"),
    *("ImageOrientationPatient", "ImagePositionPatient", "EchoNumbers", "EchoTime"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
    *((0x6000 + 2 * plane, 0x0102) for plane in range(16)),  # where an overlay lies in the pixels' unused bits
]
"""What is read of a header; names, dates and addresses never reach memory."""
UNDEFINED = 0xFFFFFFFF
_MOST_BYTES = {int(Tag(tag)): MAX_SEQUENCE for tag in TAGS if str(tag).endswith("Sequence")}
_MOST_BYTES |= {int(Tag(tag)): MAX_FRAMES_SEQUENCE for tag in FRAME_GROUPS}


def open_dicom(source: Path | bytes, *, what: str, pixels: bool = True, frames: bool = False) -> Dataset:
    """Read the entries of `TAGS`; no pixel is decoded.

    Files without preamble or file meta information occur in OAI and are read.

    Args:
        source: the file, or its content.
        what: how errors call it, such as `film /data/001`.
        pixels: False leaves the pixel data unread.
        frames: True reads the groups that describe the frames of an enhanced file, too.

    Raises:
        ValueError: if the file is no DICOM image.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if not size:
        raise ValueError(f"{what}: the file is empty.")
    if size > MAX_BYTES:
        raise ValueError(f"{what}: has {size // 2**20} MiB; expected at most {MAX_BYTES // 2**20}.")
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        head = file.read(HEAD)
        if not is_dicom(head):
            raise ValueError(f"{what}: is no DICOM file (neither the letters DICM at byte 128 nor a data set).")
        file.seek(0)
        content: Any = _Counted(_inflated(file, head, what) if DEFLATED in head else file, what)
        with quiet():
            try:
                dataset = read_partial(
                    content,
                    stop_when=_limit(what, pixels=pixels),
                    force=True,
                    specific_tags=[Tag(tag) for tag in (*TAGS, *(FRAME_GROUPS if frames else ()))],
                )
            except RecursionError:
                raise ValueError(f"{what}: its header is nested without end.") from None
    if not len(dataset):  # pydicom gives nothing back where the file ends within an entry of no stated length
        raise ValueError(f"{what}: is cut short, or holds no entry of an image; no pixel data can be decoded.")
    meta = getattr(dataset, "file_meta", None)
    if meta is None or "TransferSyntaxUID" not in meta or DEFLATED in head:
        dataset.file_meta = meta if meta is not None else FileMetaDataset()
        implicit, little = _encoding(dataset)
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom, which warns of malformed character sets and values; they occur in OAI and change no pixel.

    It says everything twice, as a warning and in its log, there with the traces of decoders that gave up. What matters
    is raised.
    """
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is DICOM; pydicom reads anything when forced.

    Without preamble a data set begins with an entry of group 2 or 8, little or big endian.
    """
    return head[128:132] == b"DICM" or (len(head) >= 8 and head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08"))


@quiet()
def text(dataset: Dataset, tag: str) -> str:
    """A header entry as stripped text; empty where it is absent or cannot be read."""
    try:
        value = dataset.get(tag, "")
    except Exception:  # pydicom converts an entry when it is asked for, and bad ones raise anything
        return ""
    return "" if value is None else str(value).strip()


@quiet()
def number(dataset: Dataset, tag: str, default: float, *, what: str) -> float:
    """A header entry as one number, or `default` where it is absent or blank.

    Raises:
        ValueError: if it is something else.
    """
    try:
        value = dataset.get(tag)
        return default if value is None or str(value).strip() == "" else float(value)
    except Exception:  # as in `text`
        raise ValueError(f"{what}: its {tag} is not a number.") from None


def _limit(what: str, *, pixels: bool) -> Callable[[BaseTag, str | None, int], bool]:
    seen = 0

    def stop(tag: BaseTag, _vr: str | None, length: int) -> bool:
        nonlocal seen
        seen += 1
        if seen > MAX_ELEMENTS:
            raise ValueError(f"{what}: its header has more than {MAX_ELEMENTS} entries; that is no image's.")
        most = _MOST_BYTES.get(int(tag))
        if most is not None and most < length < UNDEFINED:  # of no stated length: see `_Counted`
            raise ValueError(f"{what}: its header has a sequence of {length} bytes; expected at most {most}.")
        return not pixels and tag >= PIXEL_DATA

    return stop


class _Counted:
    """A file that is read in at most `MAX_READS` pieces, and never to its end at once.

    pydicom reads sequences of no stated length whether they are wanted or not.

    Args:
        file: what is read.
        what: how the error calls it.
    """

    def __init__(self, file: Any, what: str) -> None:
        self.file, self.what, self.left = file, what, MAX_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        if self.left < 0 or size < 0:
            raise ValueError(f"{self.what}: its header goes on for ever; that is no image's.")
        content: bytes = self.file.read(size)
        return content


def _inflated(file: Any, head: bytes, what: str) -> io.BytesIO:
    """The data set of a deflated file, at most `MAX_BYTES` of it."""
    start = 132 + 12 + int.from_bytes(head[140:144], "little")  # preamble, length of the meta group, the group
    if head[128:136] != b"DICM\x02\x00\x00\x00" or start > len(head):
        raise ValueError(f"{what}: is deflated, but its file meta information is damaged.")
    file.seek(start)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflate.decompress(file.read(), MAX_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"{what}: is deflated, and damaged ({error}).") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{what}: inflates to more than {MAX_BYTES // 2**20} MiB.")
    return io.BytesIO(content)


def _encoding(dataset: Dataset) -> tuple[bool, bool]:
    """Whether the data set was implicit and little endian, as pydicom 3 and 2.4 say it."""
    encoding = getattr(dataset, "original_encoding", None)
    if encoding is None or None in encoding:
        encoding = (getattr(dataset, "is_implicit_VR", True), getattr(dataset, "is_little_endian", True))
    return bool(encoding[0]), bool(encoding[1])
