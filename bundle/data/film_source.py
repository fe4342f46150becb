"""What a synthesised volume may say of the DICOM film it came from: a reference, and on request whose it is."""

from __future__ import annotations

import io
import re
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import UID

from bundle.transforms.archive import is_archive, members
from bundle.transforms.dicom_file import is_dicom, quiet, text
from bundle.writers import Origin

REFERENCE = ("SOPClassUID", "SOPInstanceUID")
IDENTITY = ("PatientID", "PatientName", "StudyInstanceUID", "SpecificCharacterSet")
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


def origin_of(
    film: str | Path, *, side: str, version: str, weights: str, trained_on: str = "", keep_identity: bool = False
) -> Origin:
    """Origin of a volume, for its DICOM files.

    Args:
        film: the film's file, which has been read before; only a DICOM film can be referred to.
        side: `R` or `L`.
        version: of the bundle.
        weights: their hash.
        trained_on: what they have seen.
        keep_identity: copy patient ID, patient name and study UID; without it they are not even read.

    Raises:
        ValueError: if the identity is to be kept and the film has none.
    """
    header = _header(Path(film), [*REFERENCE, *(IDENTITY if keep_identity else ())])
    found = {tag: text(header, tag) for tag in (*REFERENCE, *IDENTITY[:3])}
    uids = {tag: value if _is_uid(value) else "" for tag, value in found.items() if tag.endswith("UID")}
    if keep_identity and not (found["PatientID"] or found["PatientName"] or uids["StudyInstanceUID"]):
        raise ValueError(f"{film}: has no patient ID, name or study to keep; leave out --keep-identity.")
    return Origin(
        side=side,
        version=version,
        weights=weights,
        trained_on=trained_on,
        film_class=uids["SOPClassUID"],
        film_instance=uids["SOPInstanceUID"],
        patient_id=_clean(found["PatientID"])[:64],
        patient_name=_clean(found["PatientName"])[:64],
        study=UID(uids["StudyInstanceUID"]) if uids["StudyInstanceUID"] else None,
    )


def _header(film: Path, tags: list[str]) -> Dataset:
    """Entries of a DICOM film; nothing of other files."""
    if is_archive(film):
        content = next((content for _, content in members(film, what=f"film {film}")), b"")
    else:
        content = film.read_bytes()
    if not is_dicom(content[:256]):
        return Dataset()
    with quiet():
        return dcmread(io.BytesIO(content), force=True, stop_before_pixels=True, specific_tags=tags)


def _is_uid(value: str) -> bool:
    return len(value) <= 64 and bool(_UID.fullmatch(value))


def _clean(value: str) -> str:
    """Without the backslash and control characters that a DICOM text may not have."""
    return re.sub(r"[\\\x00-\x1f\x7f]", " ", value).strip()
