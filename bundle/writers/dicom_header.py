"""What every DICOM file of a synthesised volume says of itself, of the film it came from, and of nobody else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.uid import UID

from bundle.writers.mark import MARK, MODEL

IMPLEMENTATION = UID("2.25.302817520453268917240131854731294110863")
"""Of this writer, made once by a random number (PS3.5 B.2)."""
SYNTHETIC_DATA = 0x0008001C
"""Newer than pydicom 2.4's dictionary, so it has no keyword there."""


@dataclass(frozen=True)
class Origin:
    """Where a synthesised volume comes from.

    Args:
        side: `R` or `L`.
        version: of the bundle.
        weights: hash of the weights.
        trained_on: what the weights have seen, such as phantoms alone.
        film_class: SOP class UID of a film that was DICOM.
        film_instance: its SOP instance UID.
        patient_id, patient_name: of the film, where its identity is to be kept; else empty.
        study: study instance UID of the film, where its identity is to be kept; else None, and the study is new.
    """

    side: str
    version: str
    weights: str
    trained_on: str = ""
    film_class: str = ""
    film_instance: str = ""
    patient_id: str = ""
    patient_name: str = ""
    study: UID | None = None

    @property
    def keeps_identity(self) -> bool:
        """Whether anything says of whom the film is."""
        return bool(self.patient_id or self.patient_name or self.study)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence.

    Args:
        value: code value.
        scheme: coding scheme designator.
        meaning: code meaning.
    """
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def common_header(origin: Origin, *, study: UID) -> Dataset:
    """What all files share; attributes that must be present and that nobody knows are empty.

    Args:
        origin: see `Origin`.
        study: study instance UID.
    """
    dataset, now = Dataset(), datetime.now()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.add_new(SYNTHETIC_DATA, "CS", "YES")
    dataset.PatientName, dataset.PatientID = origin.patient_name, origin.patient_id
    dataset.PatientBirthDate = dataset.PatientSex = ""
    if not origin.keeps_identity:
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "New object; nothing of the film's header but its SOP UID"
    dataset.StudyInstanceUID = study
    for empty in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(dataset, empty, "")
    dataset.Laterality = origin.side
    dataset.BodyPartExamined = "KNEE"
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = ""
    dataset.ManufacturerModelName = MODEL
    dataset.SoftwareVersions = origin.version[:64]
    dataset.DerivationDescription = _derivation(origin)
    dataset.ContentQualification = "RESEARCH"
    dataset.BurnedInAnnotation = "NO"
    dataset.ImageComments = f"{MARK}. Drawn by a model from one radiograph; no scanner measured it."
    dataset.PatientOrientation = ""
    # when the volume was made; when the film was taken is not said
    dataset.ContentDate, dataset.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.AnatomicRegionSequence = [code("72696002", "SCT", "Knee")]
    if origin.film_class and origin.film_instance:
        film = Dataset()
        film.ReferencedSOPClassUID, film.ReferencedSOPInstanceUID = origin.film_class, origin.film_instance
        film.PurposeOfReferenceCodeSequence = [code("121322", "DCM", "Source image for image processing operation")]
        dataset.SourceImageSequence = [film]
    return dataset


def _derivation(origin: Origin) -> str:
    """At most 1024 characters (VR ST)."""
    seen = f"; trained on {origin.trained_on}" if origin.trained_on else ""
    words = f"{MARK}. Synthesised from one radiograph by {MODEL} {origin.version}, weights {origin.weights}{seen}."
    return re.sub(r"\s+", " ", words)[:1024]
