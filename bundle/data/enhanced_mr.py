"""The frames of an enhanced MR file, each with the header and the pixels that a classic file of one slice has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom import encaps
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from bundle.transforms.dicom_file import FRAME_GROUPS, number
from bundle.transforms.dicom_pixels import BIG_ENDIAN, UNCOMPRESSED

GROUPS = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing"},
    "PixelValueTransformationSequence": {"RescaleSlope": "RescaleSlope", "RescaleIntercept": "RescaleIntercept"},
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRImageFrameTypeSequence": {"FrameType": "ImageType"},
    "FrameAnatomySequence": {"FrameLaterality": "FrameLaterality"},
}
"""What describes a frame: a group's entries, and what a classic file calls them.

Source:
    DICOM PS3.3 C.7.6.16 (multi-frame functional groups) and C.8.13 (enhanced MR).
"""


def is_enhanced(dataset: Dataset) -> bool:
    """Whether a file describes its frames one by one."""
    return FRAME_GROUPS[1] in dataset


def frames_of(dataset: Dataset, *, what: str, most: int) -> list[Dataset]:
    """Every frame as a file of one slice; the frame's own group counts before the one that all share.

    Args:
        dataset: what `open_dicom` gave with `frames`; it loses its pixel data.
        what: how errors call it.
        most: frames that are read.

    Raises:
        ValueError: if the file has too many frames, describes another number than it has, or has other pixel data.
    """
    per_frame, shared = (list(dataset.get(name) or []) for name in reversed(FRAME_GROUPS))
    count = int(number(dataset, "NumberOfFrames", 1, what=what))
    if not 1 <= count <= most:
        raise ValueError(f"{what}: has {count} frames; expected 1 to {most}.")
    if len(per_frame) != count or len(shared) > 1:
        raise ValueError(f"{what}: has {count} frames and describes {len(per_frame)}.")
    plain = {tag: dataset.get_item(tag) for tag in dataset.keys() if not _is_of_frames(tag)}  # noqa: SIM118
    little = str(dataset.file_meta.TransferSyntaxUID) != BIG_ENDIAN
    result = []
    for own, pixels in zip(per_frame, _pixels(dataset, count, what), strict=True):
        frame = FileDataset("", dict(plain), file_meta=dataset.file_meta, is_little_endian=little)
        for group, names in GROUPS.items():
            item = next((items[0] for owner in (own, *shared) if (items := owner.get(group))), Dataset())
            for name, classic in names.items():
                if name in item:
                    setattr(frame, classic, item[name].value)
        frame.add_new("PixelData", "OW", pixels)
        result.append(frame)
    return result


def _is_of_frames(tag: int) -> bool:
    return tag in {Tag(name) for name in (*FRAME_GROUPS, "NumberOfFrames", "PixelData", "ExtendedOffsetTable")}


def _pixels(dataset: Dataset, count: int, what: str) -> Iterable[bytes]:
    """The stored bytes of every frame."""
    if "PixelData" not in dataset:
        raise ValueError(f"{what}: has no pixel data; the file may be cut short.")
    data: bytes = dataset.pop("PixelData").value
    if str(dataset.file_meta.TransferSyntaxUID) not in UNCOMPRESSED:
        return [encaps.encapsulate([frame]) for frame in _streams(data, count)]
    size = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    if len(data) not in (size * count, size * count + size * count % 2):
        raise ValueError(f"{what}: its pixel data has {len(data)} bytes, expected {size} for each of {count} frames.")
    return [data[place * size : (place + 1) * size] for place in range(count)]


def _streams(data: bytes, count: int) -> list[bytes]:
    """The coded streams of the frames, by pydicom 3 or 2.4."""
    generate: Any = getattr(encaps, "generate_frames", None)
    frames = generate(data, number_of_frames=count) if generate else encaps.generate_pixel_data_frame(data, count)
    return list(frames)
