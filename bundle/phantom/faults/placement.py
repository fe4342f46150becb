"""Faults of where series lie and how many there are: barcodes, repeats, sides, dates, archives."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bundle.phantom.faults.registry import READ, REFUSE, plants
from bundle.phantom.series import SIDE_WORDS, Series


def _each(series: list[Series], film: bool, **changes: Any) -> list[Series]:
    return [replace(one, **changes) if one.is_film == film else one for one in series]


@plants("series", READ, "the length of a barcode means nothing")
def long_barcodes(series: list[Series]) -> list[Series]:
    """Barcode folders have 11 digits in place of 8."""
    return [replace(one, barcode=f"166{one.barcode}") for one in series]


@plants("series", READ, "the headers say what the list leaves out", packaging="directory")
def mri_not_listed(series: list[Series]) -> list[Series]:
    """The MRI has no row in contents.csv."""
    return _each(series, False, listed=False)


@plants("series", READ, "of a film that was repeated the last counts")
def two_films(series: list[Series]) -> list[Series]:
    """The visit has a second bilateral film of the same day."""
    film = next(one for one in series if one.is_film)
    return [film, replace(film, barcode=f"{int(film.barcode) + 1:08d}"), *(one for one in series if not one.is_film)]


@plants("series", READ, "a film of one knee serves the knee it shows")
def film_of_one_knee(series: list[Series]) -> list[Series]:
    """There is no bilateral film, only one of the imaged knee."""
    side = next(one.side for one in series if not one.is_film)
    description = f"PA Fixed Flexion {SIDE_WORDS[side].title()} Knee"
    return _each(series, True, side=side, description=description)


@plants("series", REFUSE, "no film shows the imaged knee")
def film_of_the_other_knee(series: list[Series]) -> list[Series]:
    """There is no bilateral film, only one of the knee that was not imaged."""
    side = "L" if next(one.side for one in series if not one.is_film) == "R" else "R"
    description = f"PA Fixed Flexion {SIDE_WORDS[side].title()} Knee"
    return _each(series, True, side=side, description=description)


@plants("series", READ, "a left knee is read as one")
def left_mri(series: list[Series]) -> list[Series]:
    """The T1 series is of the left knee."""
    return _each(
        series, False, side="L", study="OAI^MR^ENROLLMENT^LEFT", description=f"COR_T1_3D_FLASH_{SIDE_WORDS['L']}"
    )


@plants("series", READ, "of a series that was repeated the last counts")
def rescan(series: list[Series]) -> list[Series]:
    """The MRI was repeated."""
    mri = next(one for one in series if not one.is_film)
    return [*series, replace(mri, barcode=f"{int(mri.barcode) + 1:08d}")]


@plants("series", READ, "film and MRI belong together by visit, not by date")
def dates_far_apart(series: list[Series]) -> list[Series]:
    """The MRI was taken 200 days after the day of the sound participant's."""
    mri = next(one for one in series if not one.is_film)
    later = date.fromisoformat(mri.date) + timedelta(days=200)
    return _each(series, False, date=f"{later:%Y%m%d}")


@plants("archive", REFUSE, "the archive ends before its last member", packaging="nda")
def truncated_archive(path: Path) -> None:
    """The archive of the MRI is cut off after 60 % of its bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])


@plants("archive", REFUSE, "a member's name leads out of the archive", packaging="nda")
def member_outside(path: Path) -> None:
    """The archive of the MRI has a member named `../../escaped`."""
    content = b"a reader that writes this file outside its folder has a fault"
    plain = io.BytesIO(gzip.decompress(path.read_bytes()))
    with tarfile.open(fileobj=plain, mode="a") as archive:
        member = tarfile.TarInfo("../../escaped")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(plain.getvalue(), 1, mtime=0))
