"""One participant in OAI's directory layout: a bilateral film and a knee's T1 3-D FLASH as DICOM series."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from bundle.geometry import SOURCE_DETECTOR_MM
from bundle.phantom.anatomy import Person
from bundle.phantom.faults import SOUND, Fault
from bundle.phantom.film import BITS, Clutter
from bundle.phantom.mri import SLICE_MM, SLICES
from bundle.phantom.series import Series, plan_series
from bundle.phantom.streams import stream
from bundle.phantom.tissues import FLIP_DEG, SIGNAL, TE_MS, TR_MS

SYNTHETIC_MARK = "synthetic-phantom"
"""ManufacturerModelName of every file: the only thing by which a reader can tell the phantom."""
_ORGANISATION = "MONAI bundle"
_VIEW_CODES = {"PA": ("272479007", "SCT", "postero-anterior"), "LL": ("399067008", "SCT", "lateral")}
_MRI_GAIN = 700 / SIGNAL["cartilage"]


def write_participant(
    root: Path,
    person: Person,
    film: np.ndarray,
    film_spacing_mm: float,
    mri: np.ndarray,
    mri_affine: np.ndarray,
    *,
    series: Sequence[Series] | None = None,
    fault: Fault = SOUND,
    clutter: Clutter | None = None,
) -> tuple[Path, ...]:
    """Write the series of a participant.

    Args:
        root: folder that stands for `<out>/00m/<release>/<participant>`; `<date>/<barcode>/001...` go below it.
        person: whose images.
        film: (H, W) uint16 of 12 bits, bone bright, the patient's right on the left.
        film_spacing_mm: detector pixel.
        mri: (S, H, W) float signal, posterior first.
        mri_affine: (4, 4), voxel (row, column, slice) to RAS mm.
        series: what to write; None means `plan_series(person)`.
        fault: damage to plant.
        clutter: what the film was made with.

    Returns:
        the folder of each series.
    """
    folders = []
    for one in series or plan_series(person):
        folder = root / one.date / one.barcode
        folder.mkdir(parents=True, exist_ok=True)
        if one.is_film:
            datasets = [_film_of(person, one, film, film_spacing_mm, clutter or Clutter())]
        else:
            datasets = _mri_datasets(person, one, mri, mri_affine)
        for number, dataset in enumerate(fault.in_headers(one, datasets), start=1):
            _save(dataset, folder / f"{number:03d}")
        fault.in_files(one, folder)
        folders.append(folder)
    return tuple(folders)


def _film_of(person: Person, series: Series, film: np.ndarray, spacing_mm: float, clutter: Clutter) -> Dataset:
    """The film as it is, or the half of a bilateral one that shows the series' knee."""
    if series.side != "B" and len(clutter.sides) > 1:
        middle = film.shape[1] // 2
        film = film[:, :middle] if series.side == "R" else film[:, middle:]
    dataset = _film_dataset(person, series, film, spacing_mm, clutter)
    if series.side != "B":
        setattr(dataset, "ImageLaterality" if dataset.Modality == "DX" else "Laterality", series.side)
    return dataset


def _uid(*parts: object) -> UID:
    """A 2.25 UID that depends on `parts` alone (PS3.5 B.2: a 128-bit number)."""
    digest = hashlib.sha256("/".join(map(str, (SYNTHETIC_MARK, *parts))).encode()).hexdigest()
    return UID(f"2.25.{int(digest[:32], 16)}")


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _common(person: Person, series: Series, modality: str, number: int) -> Dataset:
    """What film and MRI headers share; the study is the day's visit."""
    who = person.covariates
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.InstanceCreationDate = series.date
    dataset.InstanceCreationTime = "120000"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = series.date
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = series.barcode
    dataset.Modality = modality
    dataset.Manufacturer = _ORGANISATION
    dataset.ManufacturerModelName = SYNTHETIC_MARK
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "1"
    dataset.InstitutionName = f"Clinic {who.site}"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = series.study
    dataset.SeriesDescription = series.description
    dataset.PatientName = ""
    dataset.PatientID = who.participant
    dataset.PatientBirthDate = ""
    dataset.PatientSex = who.sex
    dataset.PatientAge = f"{who.age:03d}Y"
    dataset.PatientSize = f"{who.height_mm / 1000:.3f}"
    dataset.PatientWeight = f"{who.weight_kg:.1f}"
    dataset.QualityControlSubject = "YES"
    dataset.BodyPartExamined = "KNEE"
    dataset.StudyInstanceUID = _uid(person.seed, series.participant, series.date)
    dataset.SeriesInstanceUID = _uid(person.seed, series.participant, series.barcode)
    dataset.StudyID = series.barcode
    dataset.SeriesNumber = number
    return dataset


def _pixels(dataset: Dataset, image: np.ndarray, bits: int, photometric: str) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.ascontiguousarray(image, dtype="<u2").tobytes()


def _film_dataset(
    person: Person, series: Series, film: np.ndarray, spacing_mm: float, clutter: Clutter | None = None
) -> Dataset:
    clutter = clutter or Clutter()
    rng = stream(person.seed, person.index, "film_header").spawn(1)[0]
    digital, inverted, also_spacing = rng.random() < 0.5, rng.random() < 0.2, rng.random() < 0.3
    dataset = _common(person, series, "DX" if digital else "CR", 1)
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation if digital else ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = _uid(person.seed, series.participant, series.barcode, 1)
    dataset.InstanceNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.ViewPosition = clutter.view
    # Columns run leftwards; on a lateral film forwards for a right knee, backwards for a left one.
    columns = "L" if clutter.view == "PA" else {"R": "A", "L": "P"}[clutter.sides[0]]
    dataset.PatientOrientation = [columns, "F"]
    dataset.KVP = f"{person.world.tube_kv}"
    dataset.DistanceSourceToDetector = f"{SOURCE_DETECTOR_MM:.0f}"
    # YES would say that the text on the film identifies somebody (PS3.3 C.7.6.1); letters and label do not.
    dataset.BurnedInAnnotation = "NO"
    spacing = [f"{spacing_mm:g}", f"{spacing_mm:g}"]
    dataset.ImagerPixelSpacing = spacing
    if also_spacing:
        dataset.PixelSpacing = spacing
    top = 2**BITS - 1
    dataset.WindowCenter, dataset.WindowWidth = f"{(top + 1) / 2:g}", f"{top + 1:g}"
    if digital:
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.ImageLaterality = "B" if len(clutter.sides) == 2 else clutter.sides[0]
        dataset.AnatomicRegionSequence = [_code("72696002", "SCT", "Knee")]
        dataset.ViewCodeSequence = [_code(*_VIEW_CODES[clutter.view])]
        dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
        dataset.PixelIntensityRelationship = "LOG"
        dataset.PixelIntensityRelationshipSign = 1 if inverted else -1
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
        dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
        dataset.LossyImageCompression = "00"
        dataset.DetectorType = "DIRECT"
        dataset.PositionerType = "NONE"
        dataset.AcquisitionContextSequence = []
    else:
        dataset.Laterality = "" if len(clutter.sides) == 2 else clutter.sides[0]
    _pixels(dataset, top - film if inverted else film, BITS, "MONOCHROME1" if inverted else "MONOCHROME2")
    return dataset


def _mri_datasets(person: Person, series: Series, mri: np.ndarray, affine: np.ndarray) -> list[Dataset]:
    """Slices in the order of their file numbers: posterior first in about half of the participants."""
    rng = stream(person.seed, person.index, "mri_header")
    posterior_first = rng.random() < 0.5
    gain = _MRI_GAIN * rng.uniform(0.8, 1.3)
    stored = np.clip(np.round(mri * gain), 0, 4095).astype(np.uint16)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    frame = _uid(person.seed, series.participant, series.barcode, "frame")
    order = range(SLICES) if posterior_first else range(SLICES - 1, -1, -1)
    datasets = []
    for number, index in enumerate(order, start=1):
        dataset = _common(person, series, "MR", 5)
        dataset.SOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = _uid(person.seed, series.participant, series.barcode, number)
        dataset.InstanceNumber = number
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        dataset.Laterality = series.side
        dataset.PatientPosition = "FFS"
        dataset.ProtocolName = series.description
        dataset.ScanningSequence = "GR"
        dataset.SequenceVariant = "SP"
        dataset.ScanOptions = ""
        dataset.MRAcquisitionType = "3D"
        dataset.RepetitionTime, dataset.EchoTime, dataset.FlipAngle = f"{TR_MS:g}", f"{TE_MS:g}", f"{FLIP_DEG:g}"
        dataset.EchoTrainLength = "1"
        dataset.NumberOfAverages = "1"
        dataset.MagneticFieldStrength = "3"
        dataset.SliceThickness = dataset.SpacingBetweenSlices = f"{SLICE_MM:g}"
        dataset.FrameOfReferenceUID = frame
        dataset.PositionReferenceIndicator = ""
        # PixelSpacing: between rows, then between columns. Orientation: along a row, then down a column.
        dataset.PixelSpacing = [f"{spacing[0]:g}", f"{spacing[1]:g}"]
        along_row, down_column = lps[:3, 1] / spacing[1], lps[:3, 0] / spacing[0]
        dataset.ImageOrientationPatient = [f"{value:g}" for value in (*along_row, *down_column)]
        position = (lps @ np.array([0, 0, index, 1.0]))[:3]
        dataset.ImagePositionPatient = [f"{value:.6g}" for value in position]
        dataset.SliceLocation = f"{position[1]:.6g}"
        _pixels(dataset, stored[index], 12, "MONOCHROME2")
        datasets.append(dataset)
    return datasets


def _save(dataset: Dataset, path: Path) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = _uid("implementation")
    dataset.file_meta.ImplementationVersionName = "KNEE_PHANTOM"
    dataset.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
