"""Faults of an MR series: slices missing, doubled, turned round, damaged, or of another series."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset
from pydicom.uid import UID
from torch.nn.functional import interpolate

from bundle.phantom.faults.registry import READ, REFUSE, plants

_MIDDLE = 40


@plants("slices", READ, "79 slices lie on the same physical grid as 80")
def slices_79(slices: list[Dataset]) -> list[Dataset]:
    """The series lacks its last slice."""
    return slices[:79]


@plants("slices", READ, "72 slices lie on the same physical grid as 80")
def slices_72(slices: list[Dataset]) -> list[Dataset]:
    """The series lacks four slices at either end."""
    return slices[4:76]


@plants("slices", REFUSE, "8 slices are no volume of the knee")
def slices_8(slices: list[Dataset]) -> list[Dataset]:
    """The series has eight slices."""
    return slices[36:44]


@plants("slices", READ, "positions and not file names order slices")
def reversed_order(slices: list[Dataset]) -> list[Dataset]:
    """File names run against InstanceNumber."""
    return slices[::-1]


@plants("slices", READ, "the two are the same picture at one place, and it counts once")
def duplicate_slice(slices: list[Dataset]) -> list[Dataset]:
    """One slice is there twice, under two instance UIDs."""
    twin = deepcopy(slices[_MIDDLE])
    _rename(twin, "twin")
    twin.InstanceNumber = len(slices) + 1
    return [*slices, twin]


@plants("slices", REFUSE, "the slices have a gap")
def missing_slice(slices: list[Dataset]) -> list[Dataset]:
    """A slice in the middle is missing."""
    return slices[:_MIDDLE] + slices[_MIDDLE + 1 :]


@plants("slices", READ, "the header's spacing goes with its matrix")
def smaller_matrix(slices: list[Dataset]) -> list[Dataset]:
    """The matrix is three quarters of the usual one, 384 for 512, and its pixels are larger."""
    for dataset in slices:
        stored = np.frombuffer(dataset.PixelData, dtype="<u2").reshape(dataset.Rows, dataset.Columns)
        image = torch.from_numpy(stored.astype(np.float32))[None, None]
        image = interpolate(image, scale_factor=0.75, mode="bilinear", align_corners=False, antialias=True)[0, 0]
        old = [float(value) for value in dataset.PixelSpacing]
        new = [spacing * edge / got for spacing, edge, got in zip(old, stored.shape, image.shape, strict=True)]
        # The corner of the field of view stays; the first pixel's centre moves inwards.
        along_row, down_column = np.reshape([float(v) for v in dataset.ImageOrientationPatient], (2, 3))
        shift = (new[1] - old[1]) / 2 * along_row + (new[0] - old[0]) / 2 * down_column
        position = np.array([float(v) for v in dataset.ImagePositionPatient]) + shift
        dataset.ImagePositionPatient = [f"{value:.6g}" for value in position]
        dataset.PixelSpacing = [f"{value:g}" for value in new]
        dataset.Rows, dataset.Columns = image.shape
        dataset.PixelData = np.round(image.numpy()).astype("<u2").tobytes()
    return slices


@plants("slices", REFUSE, "slices of one volume share their pixel spacing")
def spacing_differs(slices: list[Dataset]) -> list[Dataset]:
    """PixelSpacing of one slice differs from the others'."""
    odd = slices[_MIDDLE]
    odd.PixelSpacing = [f"{float(value) * 1.2:g}" for value in odd.PixelSpacing]
    return slices


@plants("slices", REFUSE, "the folder holds slices of two series")
def localiser_among_slices(slices: list[Dataset]) -> list[Dataset]:
    """Three axial slices of the localiser lie in the series' folder."""
    localiser = [deepcopy(one) for one in slices[_MIDDLE - 1 : _MIDDLE + 2]]
    for number, one in enumerate(localiser, start=1):
        _rename(one, f"localiser{number}")
        one.SeriesInstanceUID = _other(one.SeriesInstanceUID, "localiser")
        one.SeriesDescription = one.ProtocolName = one.SeriesDescription.replace("COR_T1_3D_FLASH", "MP_LOCATOR")
        one.InstanceNumber, one.SeriesNumber = number, 1
        one.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    return localiser + slices


@plants("slices", REFUSE, "a slice has fewer pixels than its header says")
def short_pixels(slices: list[Dataset]) -> list[Dataset]:
    """The pixel data of one slice lack their last row."""
    odd = slices[_MIDDLE]
    odd.PixelData = odd.PixelData[: -2 * odd.Columns]
    return slices


@plants("slice_files", REFUSE, "a slice's file ends early")
def truncated_slice(folder: Path) -> None:
    """The file of one slice is cut off in its middle."""
    path = folder / f"{_MIDDLE:03d}"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _other(uid: str, word: str) -> UID:
    digest = hashlib.sha256(f"{uid}/{word}".encode()).hexdigest()
    return UID(f"2.25.{int(digest[:32], 16)}")


def _rename(dataset: Dataset, word: str) -> None:
    dataset.SOPInstanceUID = _other(dataset.SOPInstanceUID, word)
