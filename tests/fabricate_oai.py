"""Fabricated OAI files for tests of the reader: films, MR series, tables and trees, with or without faults."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from bundle.readings import VARIABLES


def knee_picture(rows: int, columns: int, spacing: float, joints: list[tuple[float, float, str]]) -> np.ndarray:
    """A drawing of knees: (rows, columns) in [0, 1], bright bones, joint centres given as (row_mm, column_mm, side)."""
    y = (np.arange(rows)[:, None] + 0.5) * spacing
    x = (np.arange(columns)[None] + 0.5) * spacing
    image = np.zeros((rows, columns))
    for row_mm, column_mm, side in joints:
        lateral = -1 if side == "R" else 1  # the right knee's lateral side is on the image's left
        dx, dy = x - column_mm, y - row_mm
        leg = np.abs(dx) < 60 - 0.05 * dy
        image = np.where(leg, np.maximum(image, 0.35), image)
        femur = (dy < -2.5) & (dy > -300) & (np.abs(dx) < np.where(dy > -35, 37, np.where(dy > -50, 25, 16)))
        notch = (dy > -14) & (np.abs(dx) < 8) & (dy < -2.5)
        tibia = (dy > 2.5) & (np.abs(dx) < np.where(dy < 18, 38, np.where(dy < 40, 25, 14)))
        fibula = (dy > 14) & (np.abs(dx - lateral * 38) < 6)
        for bone, value in ((femur & ~notch, 0.4), (tibia, 0.4), (fibula, 0.2)):
            image = image + value * bone
    return image / max(image.max(), 1e-9)


def film_dataset(pixels: np.ndarray, *, spacing: float | None = 0.4, bits: int = 12) -> Dataset:
    """A DX film in MONOCHROME2 with `pixels` in [0, 1]."""
    dataset = _image(np.round(pixels * (2**bits - 1)).astype(np.uint16), bits=bits)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "KNEE", "PA"
    dataset.SeriesDescription = "Bilateral PA Fixed Flexion Knee"
    if spacing is not None:
        dataset.ImagerPixelSpacing = [spacing, spacing]
    return dataset


def mr_datasets(
    volume: np.ndarray,
    *,
    spacing: float = 0.625,
    pitch: float = 1.5,
    side: str = "R",
    participant: str = "9000001",
    row_direction: tuple[float, float, float] = (1, 0, 0),
    column_direction: tuple[float, float, float] = (0, 0, -1),
) -> list[Dataset]:
    """A coronal FLASH series; `volume` is (H, W, S) in ILA axes: rows down, columns leftwards, posterior first."""
    rows, columns, slices = volume.shape
    across, down = np.asarray(row_direction, float), np.asarray(column_direction, float)
    backwards = -np.cross(across, down)  # LPS: +y is posterior
    backwards = backwards if backwards[1] > 0 else -backwards
    series, study = generate_uid(), generate_uid()
    corner = np.array([-80.0 if side == "R" else 80.0, 0, 10.0])
    corner = corner - across * (columns - 1) / 2 * spacing - down * (rows - 1) / 2 * spacing
    corner = corner + backwards * (slices - 1) / 2 * pitch
    datasets = []
    for index in range(slices):
        dataset = _image(volume[..., index].astype(np.uint16), bits=12)
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.Modality, dataset.BodyPartExamined, dataset.Laterality = "MR", "KNEE", side
        dataset.SeriesDescription = f"COR_T1_3D_FLASH_{'RIGHT' if side == 'R' else 'LEFT'}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.PatientID = participant
        dataset.PixelSpacing, dataset.SliceThickness = [spacing, spacing], pitch
        dataset.ImageOrientationPatient = [float(x) for x in (*across, *down)]
        dataset.ImagePositionPatient = [float(f"{x:.6f}") for x in corner - backwards * pitch * index]
        dataset.InstanceNumber = index + 1
        datasets.append(dataset)
    return datasets


def save_series(datasets: list[Dataset], folder: Path, *, reverse: bool = False) -> Path:
    """Write slices as `001`, `002`, ..., in order of the list or reversed."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(reversed(datasets) if reverse else datasets, start=1):
        save(dataset, folder / f"{number:03d}")
    return folder


def save(dataset: Dataset, path: Path) -> Path:
    """Write one DICOM file, with pydicom 2.4 or 3."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pydicom.__version__.startswith("2."):
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        pydicom.dcmwrite(path, dataset, write_like_original=False)
    else:
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def _image(stored: np.ndarray, *, bits: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, bits, bits - 1, 0
    dataset.PixelData = stored.astype("<u2").tobytes()
    return dataset


def knee_volume(rows: int = 64, columns: int = 64, slices: int = 80) -> np.ndarray:
    """(H, W, S) integers in which every axis can be told from every other, and each from its reverse."""
    y, x, z = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), np.linspace(0, 1, slices), indexing="ij")
    return np.round(100 + 1000 * y + 500 * x + 2000 * z**2 + 200 * np.sin(9 * x * y)).astype(np.uint16)


class Tree:
    """A directory release of OAI under `root`, filled one participant at a time.

    Args:
        root: folder to fill.
        visit: name of the visit's folder.
    """

    def __init__(self, root: Path, visit: str = "00m") -> None:
        self.root, self.visit = root, visit
        self.rows: list[list[str]] = []
        self.barcode = 361200

    def series(
        self,
        participant: str,
        description: str,
        datasets: list[Dataset],
        *,
        release: str = "0.C.2",
        listed: bool = True,
    ) -> Path:
        """Add one series (a film is a series of one file)."""
        self.barcode += 1
        barcode = f"{self.barcode:08d}"
        folder = f"{release}/{participant}/20050131/{barcode}"
        save_series(datasets, self.root / self.visit / folder)
        if listed:
            kind = "MR^ENROLLMENT^RIGHT " if len(datasets) > 1 else "XRAY^SCREENING^KNEE"
            self.rows.append([folder, participant, "20050131", barcode, f"OAI^{kind}", f"{description} "])
        return self.root / self.visit / folder

    def write_contents(self) -> None:
        """Write `contents.csv`."""
        header = ["Folder", "ParticipantID", "StudyDate", "Barcode", "StudyDescription", "SeriesDescription"]
        path = self.root / self.visit / "contents.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *self.rows])

    def readings(self, rows: list[dict[str, str]], *, name: str = "kxr_sq_bu00.txt", prefix: str = "V00") -> Path:
        """Write the readings' table; each row is a mapping with ID, SIDE, READPRJ and un-prefixed variables."""
        columns = ["ID", "SIDE", "READPRJ", *VARIABLES]
        lines = ["|".join(c if c in columns[:3] else prefix + c for c in columns)]
        lines += ["|".join(row.get(c, ".A: Not Expected") for c in columns) for row in rows]
        path = self.root / "X-Ray Image Assessments_ASCII" / "Semi-Quant Scoring_ASCII" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\r\n".join(lines) + "\r\n", encoding="latin-1")
        return path

    def table(self, name: str, lines: list[str]) -> Path:
        """Write another table, one line after the other."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="latin-1")
        return path
