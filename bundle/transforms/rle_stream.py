"""How much an RLE stream of DICOM holds, counted without decoding it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

HEADER = 64
MAX_SEGMENTS = 15
_ITEM = b"\xfe\xff\x00\xe0"


def decoded_sizes(data: bytes, *, most: int) -> list[int]:
    """Bytes that each segment of the frame in encapsulated pixel data decodes to; none where there is no frame.

    A run of two bytes decodes to 128, so a decoder would take 64 times the memory of the file.

    Args:
        data: the offset table and the fragments of one frame.
        most: where counting a segment ends; more than that is too much in any case.

    Source:
        DICOM PS3.5 A.4 (fragments), G.3 (runs) and G.5 (header).
    """
    table_and_fragments = list(_items(data))
    frame = b"".join(table_and_fragments[1:])
    count = int.from_bytes(frame[:4], "little")
    if len(frame) < HEADER or not 1 <= count <= MAX_SEGMENTS:
        return []
    starts = np.frombuffer(frame, "<u4", count, 4).tolist()
    return [_decoded_size(frame[start:end], most) for start, end in pairwise([*starts, len(frame)])]


def _items(data: bytes) -> Iterator[bytes]:
    at = 0
    while data[at : at + 4] == _ITEM:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at + 8 : end]
        at = end


def _decoded_size(segment: bytes, most: int) -> int:
    at = size = 0
    last = len(segment) - 1
    while at < last and size <= most:
        head = segment[at]
        if head < 128:
            size += min(head + 1, last - at)
            at += head + 2
        elif head > 128:
            size += 257 - head
            at += 2
        else:
            at += 1
    return size
