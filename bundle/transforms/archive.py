"""The files of one series in an archive, read one after the other without unpacking anything to disk."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARCHIVES = (".tar.gz", ".tgz", ".tar")
MAX_UNPACKED = 512 * 2**20
"""Bytes of all members together, with what lies between them; 160 slices of 512 x 512 are 84 MB."""
MAX_MEMBER = 256 * 2**20
MAX_MEMBERS = 4096
"""With extended headers, of which a file may have two; a series has some hundred files."""
MAX_EXTENDED = 2**16
"""Bytes of a long name, or of other entries of an extended header; tarfile would read on for ever."""
_BLOCK, _PIECE = 512, 2**20
_DIGITS = re.compile(rb"[0-9]{1,15}")
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
    if not path.is_file():
        raise ValueError(f"{what}: is no file.")  # a pipe would be waited for
    packed = path.name.lower().endswith(("gz", "tgz"))
    try:
        with gzip.open(path) if packed else path.open("rb") as raw:
            yield from _files(_Bounded(raw, what), what)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{what}: the archive is damaged or cut short ({reason}).") from None


def _files(content: _Bounded, what: str) -> Iterator[tuple[str, bytes]]:
    """The members one by one; tarfile would end at a damaged header without a word, and unpack files with holes."""
    extended: dict[str, str] = {}
    for count, block in enumerate(_headers(content)):
        if count == MAX_MEMBERS:
            raise ValueError(f"{what}: has more than {MAX_MEMBERS} members; that is no series.")
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if member.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            if not 0 <= member.size <= MAX_EXTENDED:
                raise ValueError(f"{what}: has a header of {member.size} bytes; expected at most {MAX_EXTENDED}.")
            entries = _data(content, member.size)
            if member.type == tarfile.GNUTYPE_LONGNAME:
                extended["path"] = entries.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif member.type == tarfile.XHDTYPE:
                extended |= _entries(entries)
            continue
        name, size = extended.get("path", member.name), int(extended.get("size", member.size))
        holes = any(entry.startswith("GNU.sparse.") for entry in extended)
        extended = {}
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
            raise ValueError(f"{what}: a member's name points out of the archive; it is not read.")
        if member.isdir():
            continue
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) or holes:
            raise ValueError(f"{what}: has a link or device in it, or a file with holes; expected whole files alone.")
        if not 0 <= size <= MAX_MEMBER:
            raise ValueError(f"{what}: a member has {size} bytes; expected at most {MAX_MEMBER}.")
        file = _data(content, size)
        if is_image_name(name):
            yield name.removeprefix("./"), file


def _headers(content: _Bounded) -> Iterator[bytes]:
    """The blocks in which members begin, up to the blocks of zeros that end an archive; nothing may follow these."""
    while any(block := content.read(_BLOCK)):
        yield block
    if len(block) < _BLOCK:
        raise EOFError("it has no end")
    while rest := content.read(_PIECE):  # the checksum is at the end
        if any(rest):
            raise EOFError("something follows its end")


def _data(content: _Bounded, size: int) -> bytes:
    """What is in a member; it is filled up to whole blocks."""
    data = content.read(size)
    if len(data) != size:
        raise EOFError(f"a member has {len(data)} bytes of {size}")
    content.read(-size % _BLOCK)
    return data


def _entries(content: bytes) -> dict[str, str]:
    """Entries of an extended header, each of which is its length, a blank, name, `=`, value and a line break."""
    found: dict[str, str] = {}
    while content:
        digits = content.partition(b" ")[0]
        length = int(digits) if _DIGITS.fullmatch(digits) else 0
        name, equals, value = content[len(digits) + 1 : length].partition(b"=")
        if not equals or not value.endswith(b"\n") or (name == b"size" and not _DIGITS.fullmatch(value[:-1])):
            raise EOFError("an extended header cannot be read")
        found[name.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        content = content[length:]
    return found


class _Bounded:
    """A stream that ends in an error where it goes on too long.

    Args:
        raw: what is read.
        what: how the error calls it.
    """

    def __init__(self, raw: Any, what: str) -> None:
        self.raw, self.what, self.left = raw, what, MAX_UNPACKED

    def read(self, size: int) -> bytes:
        content: bytes = self.raw.read(min(size, self.left + 1))
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"{self.what}: unpacks to more than {MAX_UNPACKED // 2**20} MiB.")
        return content
