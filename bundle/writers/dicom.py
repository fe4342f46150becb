"""Synthesised volumes as DICOM: a multi-frame Secondary Capture, or MR Image Storage slices, marked as synthetic."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    MRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from bundle.writers.dicom_header import IMPLEMENTATION, Origin, code, common_header
from bundle.writers.mark import MARK

LEVELS = 65535
"""Stored values 0 to 65535 are 0 to 1."""
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS, which NIfTI speaks, to LPS, which DICOM speaks."""
_ROLES = {"mri": "MRI from radiograph", "spread": "Spread over samples"}


def write_dicom(
    values: np.ndarray,
    affine: np.ndarray,
    folder: str | Path,
    *,
    origin: Origin,
    kind: str = "sc",
    role: str = "mri",
    study: UID | None = None,
    frame_of_reference: UID | None = None,
) -> Path:
    """Write a volume as one DICOM series in a folder of its own, which appears whole or not at all.

    Slices are stored in the order in which they advance along the normal that the orientation implies, so that a
    reader which sorts them and one which does not see the same knee. Every UID is new and random.

    Args:
        values: (H, W, S) in [0, 1]; clipped. Stored in 16 bits with a rescale that gives [0, 1] back.
        affine: (4, 4), voxel to RAS mm, axes at right angles.
        folder: of the series; one that is there is replaced.
        origin: what made the volume and, where it may be said, of whom.
        kind: of `KINDS`: `sc` is one multi-frame Secondary Capture, `mr` is MR Image Storage, a file a slice.
        role: `mri` or `spread`.
        study: study of the series; None is that of `origin`, or a new one.
        frame_of_reference: of the series; None is a new one. Volumes of one knee share it.

    Returns:
        `folder`.

    Raises:
        ValueError: if a value is not finite, the affine has no right angles, or kind or role are unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}.")
    if role not in _ROLES:
        raise ValueError(f"`role` must be one of {', '.join(_ROLES)}, got {role!r}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{folder}: `values` must be finite; the image would be damaged.")
    space = Space.of(values.shape, affine)
    stored = np.round(np.clip(values, 0, 1) * LEVELS).astype("<u2")[:, :, space.order]
    header = common_header(origin, study=study or origin.study or generate_uid(prefix=None))
    header.SeriesInstanceUID = generate_uid(prefix=None)
    header.FrameOfReferenceUID = frame_of_reference or generate_uid(prefix=None)
    header.SeriesNumber = 1 + list(_ROLES).index(role)
    header.SeriesDescription = f"{MARK}: {_ROLES[role]}"
    folder = Path(folder)
    unfinished = folder.with_name(f".{os.getpid()}.{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        for number, dataset in enumerate(KINDS[kind](header, stored, space), start=1):
            _save(dataset, unfinished / f"{number:04d}.dcm")
        if folder.is_dir():
            shutil.rmtree(folder)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


class Space:
    """Where the slices of a volume lie, in DICOM's terms.

    Args:
        order: indices of the slices as they are stored.
        positions: (S, 3) LPS mm, centre of the first pixel of each stored slice.
        orientation: cosines along a row, then down a column; six numbers.
        spacing: mm between rows, between columns, between slices.
    """

    def __init__(
        self, order: np.ndarray, positions: np.ndarray, orientation: np.ndarray, spacing: tuple[float, float, float]
    ) -> None:
        self.order, self.positions, self.orientation, self.spacing = order, positions, orientation, spacing

    @classmethod
    def of(cls, shape: Sequence[int], affine: np.ndarray) -> Space:
        """From an array (H, W, S) and its affine, voxel to RAS mm.

        Raises:
            ValueError: if its axes are not at right angles, which DICOM slices cannot say.
        """
        lps = _LPS @ np.asarray(affine, dtype=float)
        edges = np.linalg.norm(lps[:3, :3], axis=0)
        if not edges.all() or not np.allclose(axes := (lps[:3, :3] / edges).T, np.linalg.inv(axes.T), atol=1e-5):
            raise ValueError(f"`affine` must have axes at right angles, got {np.asarray(affine).tolist()}.")
        down, across, through = axes
        order = np.arange(shape[2])
        if np.cross(across, down) @ through < 0:
            order = order[::-1]
        positions = lps[:3, 3] + order[:, None] * lps[:3, 2]
        return cls(order, positions, np.concatenate([across, down]), (edges[0], edges[1], edges[2]))

    @property
    def locations(self) -> np.ndarray:
        """(S,) mm along the normal, ascending."""
        return self.positions @ np.cross(self.orientation[:3], self.orientation[3:])


def _secondary_capture(header: Dataset, stored: np.ndarray, space: Space) -> list[Dataset]:
    """One file; geometry in functional groups, and in the attributes that older readers look at."""
    dataset = _copy(header, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, 1)
    dataset.Modality = "OT"
    dataset.ConversionType = "SYN"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.NumberOfFrames = stored.shape[2]
    dataset.FrameIncrementPointer = 0x00182005
    dataset.SliceLocationVector = _numbers(space.locations)
    dataset.PresentationLUTShape = "IDENTITY"
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = _numbers(space.spacing[:2])
    measures.SliceThickness = measures.SpacingBetweenSlices = _numbers(space.spacing[2:])[0]
    orientation.ImageOrientationPatient = _numbers(space.orientation)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [_frame(position) for position in space.positions]
    _pixels(dataset, np.moveaxis(stored, 2, 0))
    return [dataset]


def _frame(position: np.ndarray) -> Dataset:
    place, frame = Dataset(), Dataset()
    place.ImagePositionPatient = _numbers(position)
    frame.PlanePositionSequence = [place]
    return frame


def _mr_slices(header: Dataset, stored: np.ndarray, space: Space) -> list[Dataset]:
    """A file a slice. The sequence is `research mode`; what a scanner would have measured stays empty."""
    datasets = []
    for number, (position, location) in enumerate(zip(space.positions, space.locations, strict=True), start=1):
        dataset = _copy(header, MRImageStorage, number)
        dataset.Modality = "MR"
        dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
        for empty in ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"):
            setattr(dataset, empty, None)
        dataset.PatientPosition = ""
        dataset.SliceThickness = dataset.SpacingBetweenSlices = _numbers(space.spacing[2:])[0]
        dataset.PixelSpacing = _numbers(space.spacing[:2])
        dataset.ImageOrientationPatient = _numbers(space.orientation)
        dataset.ImagePositionPatient = _numbers(position)
        dataset.SliceLocation = _numbers([location])[0]
        _pixels(dataset, stored[:, :, number - 1])
        datasets.append(dataset)
    return datasets


KINDS: dict[str, Callable[[Dataset, np.ndarray, Space], list[Dataset]]] = {"sc": _secondary_capture, "mr": _mr_slices}
"""Name of a kind to what makes its files."""


def _copy(header: Dataset, storage: UID, number: int) -> Dataset:
    dataset = Dataset()
    dataset.update(header)
    dataset.SOPClassUID = storage
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.InstanceNumber = number
    return dataset


def _pixels(dataset: Dataset, stored: np.ndarray) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", _numbers([1 / LEVELS])[0], "US"
    # The same statement for readers that know no rescale of this storage class (PS3.3 C.7.6.16.2.11).
    mapping = Dataset()
    mapping.LUTExplanation = mapping.LUTLabel = "Unit range"
    mapping.MeasurementUnitsCodeSequence = [code("1", "UCUM", "no units")]
    mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = 0, LEVELS
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 1 / LEVELS
    dataset.RealWorldValueMappingSequence = [mapping]
    dataset.PixelData = np.ascontiguousarray(stored).tobytes()
    dataset["PixelData"].VR = "OW"


def _numbers(values: Sequence[float] | np.ndarray) -> list[str]:
    """Decimal strings of at most 16 characters; a number that rounds to nothing is 0, never -0."""
    return [format_number_as_ds(0.0 if abs(value) < 1e-9 else float(value)) for value in values]


def _save(dataset: Dataset, path: Path) -> None:
    """With calls that pydicom 2.4 and 3 share, none of them deprecated in either."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # pydicom puts the true length here
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = "KNEE_XRAY_TO_MRI"
    file = FileDataset(
        str(path), dataset, preamble=bytes(128), file_meta=meta, is_implicit_VR=False, is_little_endian=True
    )
    file.save_as(path)
