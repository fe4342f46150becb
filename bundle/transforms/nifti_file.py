"""One NIfTI file: opened without trusting it, and its values read in full or not at all."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

PAIR = (".hdr", ".img", ".hdr.gz", ".img.gz")
NIFTI = (".nii", ".nii.gz", *PAIR)
MAX_BYTES = 256 * 2**20
"""Of an image's values as stored."""
MAX_BEFORE, MAX_AFTER = 2**20, 2**20
"""Bytes before the values, for the header and its extensions, and after them, for zeros with which it was filled up."""
AXES_AGREE = 0.99
"""Least cosine between an axis by a NIfTI's sform and by its qform: 8 degrees."""
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_IMAGES = {
    (348, False): nib.Nifti1Image,
    (348, True): nib.Nifti1Pair,
    (540, False): nib.Nifti2Image,
    (540, True): nib.Nifti2Pair,
}


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by its name: one file, or either of a pair."""
    return path.name.lower().endswith(NIFTI)


def open_nifti(path: Path, *, what: str) -> nib.Nifti1Pair:
    """Open a NIfTI-1 or -2 file, single or as a pair of header and image; it then lies in memory.

    What nibabel would repair in silence is refused: a scale that is not finite (it leaves the values unscaled), voxel
    edges of 0 (it takes 1 mm), a file that goes on after its image or whose checksum is wrong (it looks no further).

    Args:
        path: either file of a pair will do.
        what: how errors call it.

    Raises:
        FileNotFoundError: if a file of a pair is absent.
        ValueError: if the header is not sound, claims too much, or is not followed by the values that it claims.
    """
    files, pair = _files(path), path.name.lower().endswith(PAIR)
    for file in files:
        if file.exists() and not file.is_file():
            raise ValueError(f"{what}: {file.name} is a folder, a device or a pipe; expected a file.")
    try:
        with ImageOpener(files[0]) as file:
            content = file.read(MAX_BEFORE)
            header = _header(content, pair, what)
            least, start, size = 0 if pair else header.sizeof_hdr + 4, float(header["vox_offset"]), _size(header, what)
            if not least <= start <= MAX_BEFORE:
                raise ValueError(f"{what}: its values begin at byte {start:g}; expected {least} to {MAX_BEFORE}.")
            start = int(start)
            if not pair:
                content += file.read(max(0, start + size + MAX_AFTER + 1 - len(content)))
        values = content
        if pair:
            with ImageOpener(files[1]) as file:
                values = file.read(start + size + MAX_AFTER + 1)
    except (zlib.error, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise ValueError(f"{what}: is damaged or cut short ({' '.join(str(error).split())[:120]}).") from None
    if len(values) < start + size or len(values) > start + size + MAX_AFTER or any(values[start + size :]):
        more = "more" if len(values) > start + size else f"{max(len(values) - start, 0)}"
        raise ValueError(f"{what}: its header claims {size} bytes of values, the file has {more}.")
    kind = _IMAGES[int(header["sizeof_hdr"]), pair]
    parts = {"header": content, "image": values} if pair else {"image": values}
    return kind.from_file_map({name: FileHolder(fileobj=BytesIO(part)) for name, part in parts.items()})


def check_space(header: Any, what: str) -> None:
    """Refuse a NIfTI header whose two affines turn the voxels differently, or whose unit is not the millimetre."""
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:
        unit = f"unknown code {int(header['xyzt_units'])}"
    if unit not in ("mm", "unknown"):
        raise ValueError(f"{what}: its unit of length is the {unit}; expected millimetres.")
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        raise ValueError(f"{what}: its header does not say how it lies in the patient (sform and qform codes are 0).")
    if sform is None or qform is None or not np.isfinite(sform).all():
        return
    ways, others = (form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform))
    if not ((ways * others).sum(0) > AXES_AGREE).all():
        raise ValueError(f"{what}: its sform and qform turn it differently; set the wrong one's code to 0.")


def _files(path: Path) -> tuple[Path, Path]:
    """The files of header and values: one and the same but for a pair."""
    name = path.name
    ending = next((end for end in PAIR if name.lower().endswith(end)), None)
    if ending is None:
        return path, path
    stem, packed = name[: -len(ending)], name[len(name) - len(ending) + 4 :]
    upper = name[-len(ending) :].isupper()
    endings = ((end.upper() if upper else end) + packed for end in (".hdr", ".img"))
    header, image = (path.with_name(stem + end) for end in endings)
    return header, image


def _header(content: bytes, pair: bool, what: str) -> nib.Nifti1Header:
    """The header as the file holds it, before nibabel repairs anything."""
    for order in ("little", "big"):
        kind = _HEADERS.get(int.from_bytes(content[:4], order))
        if kind is None:
            continue
        block = content[: kind.sizeof_hdr]
        if len(block) < kind.sizeof_hdr:
            break
        header = kind(block, endianness="<" if order == "little" else ">", check=False)
        if bytes(header["magic"])[:2] not in ((b"ni",) if pair else (b"n+",)):
            raise ValueError(f"{what}: is Analyze, or half of a pair; expected NIfTI, which says how an image lies.")
        _check(header, what)
        return header
    raise ValueError(f"{what}: cannot be read (it does not begin with a NIfTI header).")


def _check(header: nib.Nifti1Header, what: str) -> None:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or (slope != 0 and not np.isfinite(intercept)):
        raise ValueError(f"{what}: its scale is {slope:g} and its intercept {intercept:g}; expected finite numbers.")
    edges = [float(edge) for edge in header["pixdim"][1:4]]
    if int(header["sform_code"]) == 0 and not all(np.isfinite(edge) and edge > 0 for edge in edges):
        raise ValueError(f"{what}: its voxel edges are {edges} mm; expected positive numbers.")


def _size(header: nib.Nifti1Header, what: str) -> int:
    """Bytes of the values, by the header."""
    rank = int(header["dim"][0])
    shape = [int(edge) for edge in header["dim"][1 : rank + 1]]
    if not 1 <= rank <= 7 or min(shape) < 1:
        raise ValueError(f"{what}: its header gives no shape ({rank} dimensions, {shape}).")
    try:
        size = header.get_data_dtype().itemsize
    except (HeaderDataError, KeyError):
        raise ValueError(f"{what}: has values of an unknown kind (datatype {int(header['datatype'])}).") from None
    wanted = float(np.prod(shape, dtype=float)) * size
    if wanted > MAX_BYTES:
        raise ValueError(
            f"{what}: its header claims {shape} voxels; expected at most {MAX_BYTES // 2**20} MiB of them."
        )
    return int(wanted)
