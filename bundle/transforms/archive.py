"""The files of one series in an archive, read one after the other without unpacking anything to disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARCHIVES = (".tar.gz", ".tgz", ".tar")
MAX_UNPACKED = 512 * 2**20
"""Bytes of all members together, with what lies between them; 160 slices of 512 x 512 are 84 MB."""
MAX_MEMBER = 256 * 2**20
MAX_MEMBERS = 1024
PASSED_OVER = (".jpg", ".jpeg", ".png", ".gif", ".txt", ".csv", ".xml", ".json")
"""Thumbnails and notes that lie beside images."""


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(ARCHIVES)


def is_image_name(name: str) -> bool:
    """Whether a file beside images may be one itself: no thumbnail, no note, nothing hidden."""
    plain = name.rsplit("/", 1)[-1].lower()
    return not plain.startswith(".") and plain not in ("thumbs.db", "dicomdir") and not plain.endswith(PASSED_OVER)


def members(path: Path, *, what: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in a `.tar.gz` or `.tar`, in the archive's order.

    Nothing is written, so a member's name decides nothing; one that points out of the archive all the same is refused,
    since such an archive is no download of OAI's. Sizes are checked before and while reading: a small archive may
    unpack to a very large one.

    Args:
        path: the archive.
        what: how errors call it.

    Raises:
        ValueError: if it is damaged or cut short, too large, or has links, devices or names with `..` in it.
    """
    packed = path.name.lower().endswith(("gz", "tgz"))
    try:
        with gzip.open(path) if packed else path.open("rb") as raw:
            content: Any = _Bounded(raw, what)
            with tarfile.open(fileobj=content, mode="r|", bufsize=2**16) as archive:
                yield from _files(archive, what)
            while content.read(2**20):  # the checksum is at the end
                pass
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{what}: the archive is damaged or cut short ({reason}).") from None


def _files(archive: tarfile.TarFile, what: str) -> Iterator[tuple[str, bytes]]:
    count = 0
    for member in archive:
        count += 1
        name = member.name
        if count > MAX_MEMBERS:
            raise ValueError(f"{what}: has more than {MAX_MEMBERS} members; that is no series.")
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
            raise ValueError(f"{what}: a member's name points out of the archive; it is not read.")
        if member.isdir():
            continue
        if not member.isreg():
            raise ValueError(f"{what}: has a link or device in it; expected files alone.")
        if member.size > MAX_MEMBER:
            raise ValueError(f"{what}: a member has {member.size} bytes; expected at most {MAX_MEMBER}.")
        if not is_image_name(name):
            continue
        file = archive.extractfile(member)
        content = b"" if file is None else file.read()
        if len(content) != member.size:
            raise EOFError(f"a member has {len(content)} bytes of {member.size}")
        yield name.removeprefix("./"), content


class _Bounded(io.RawIOBase):
    """A stream that ends in an error where it goes on too long.

    Args:
        raw: what is read.
        what: how the error calls it.
    """

    def __init__(self, raw: Any, what: str) -> None:
        self.raw, self.what, self.left = raw, what, MAX_UNPACKED

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content: bytes = self.raw.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"{self.what}: unpacks to more than {MAX_UNPACKED // 2**20} MiB.")
        return content
