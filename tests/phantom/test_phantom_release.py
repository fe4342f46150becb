"""The phantom's cohort on disk, read by others' readers."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from bundle.phantom.anatomy import sample_person
from bundle.phantom.cohort import Recipe, make_cohort
from bundle.phantom.oai_writer import SYNTHETIC_MARK, _film_dataset, _mri_datasets, plan_series
from bundle.phantom.population import derive_kl
from bundle.readings import VARIABLES

RECIPE = Recipe(seed=21, size="test", truth=True)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def contents(root: Path, description: str) -> list[dict[str, str]]:
    with (root / "00m" / "contents.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["SeriesDescription"] == description]


def without_gzip_time(digest: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in digest.items() if not name.endswith(".nii.gz")}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cohort") / "oai"
    assert make_cohort(root, RECIPE, participants=3, workers=1) == 3
    return root


def test_two_processes_and_a_longer_cohort_give_the_same_bytes(cohort, tmp_path):
    """Participants 0 to 2 do not depend on the fourth, on the order, or on the processes."""
    root = tmp_path / "oai"
    make_cohort(root, RECIPE, participants=4, workers=2)
    expected, found = without_gzip_time(digests(cohort)), without_gzip_time(digests(root))
    images = [name for name in expected if name.rsplit("/", 1)[-1].isdigit()]
    assert len(images) == 3 * 81
    assert all(found[name] == expected[name] for name in images)


def test_cut_off_cohort_is_completed_to_the_same_bytes(cohort, tmp_path):
    root = tmp_path / "oai"
    shutil.copytree(cohort, root)
    row = contents(root, "COR_T1_3D_FLASH_RIGHT")[1]
    home = root / "00m" / row["Folder"].split("/")[0] / row["ParticipantID"]
    # As after kill -9: half a participant under its temporary name, no tables.
    home.rename(home.with_name(f".unfinished-{home.name}"))
    (root / "00m" / "contents.csv").unlink()
    assert make_cohort(root, RECIPE, participants=3, workers=1) == 1
    assert without_gzip_time(digests(root)) == without_gzip_time(digests(cohort))
    assert make_cohort(root, RECIPE, participants=3, workers=1) == 0


@pytest.mark.parametrize("other", [Recipe(seed=22, size="test", truth=True), Recipe(seed=21, size="demo", truth=True)])
def test_folder_of_another_cohort_is_refused(cohort, other):
    with pytest.raises(ValueError, match="choose another folder"):
        make_cohort(cohort, other, participants=3, workers=1)


def test_folder_of_someone_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(ValueError, match="not empty"):
        make_cohort(tmp_path, RECIPE, participants=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_simpleitk_reads_the_series_to_the_truth_s_geometry(cohort):
    """A foreign reader sorts the slices; each labelled voxel must lie where the truth's affine says."""
    sitk = pytest.importorskip("SimpleITK")
    for row in contents(cohort, "COR_T1_3D_FLASH_RIGHT"):
        folder = str(cohort / "00m" / row["Folder"])
        reader = sitk.ImageSeriesReader()
        names = reader.GetGDCMSeriesFileNames(folder)
        assert len(names) == 80
        reader.SetFileNames(names)
        image = reader.Execute()
        np.testing.assert_allclose(sorted(image.GetSpacing()), [1.5, 2.5, 2.5])
        truth = nib.load(cohort / "truth" / f"{row['ParticipantID']}_R_labels.nii.gz")
        labels = np.asarray(truth.dataobj)
        assert labels.shape == (64, 64, 80)
        voxels = np.array([[0, 0, 0], [63, 0, 0], [0, 63, 0], [0, 0, 79], [20, 31, 40]])
        points = nib.affines.apply_affine(truth.affine, voxels) * [-1, -1, 1]
        indices = np.array([image.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in points])
        # SimpleITK's index runs along columns, rows, slices; slices may be counted from either end.
        np.testing.assert_allclose(indices[:, 0], voxels[:, 1], atol=1e-3)
        np.testing.assert_allclose(indices[:, 1], voxels[:, 0], atol=1e-3)
        slices = voxels[:, 2] if indices[0, 2] < 40 else 79 - voxels[:, 2]
        np.testing.assert_allclose(indices[:, 2], slices, atol=1e-3)
        # And the picture lies under the labels: cartilage is brighter than marrow.
        array = sitk.GetArrayFromImage(image).transpose(1, 2, 0)
        array = array if indices[0, 2] < 40 else array[:, :, ::-1]
        assert array[labels == 5].mean() > 1.8 * array[labels == 1].mean()


def test_headers_say_synthetic_and_hold_the_protocol(cohort):
    for path in (cohort / "00m").rglob("001"):
        header = pydicom.dcmread(path)
        assert header.ManufacturerModelName == SYNTHETIC_MARK
        assert header.SyntheticData == "YES"
        assert header.SOPInstanceUID.startswith("2.25.")
        assert header.PatientID == path.parts[-4]
        if header.Modality == "MR":
            assert (header.RepetitionTime, header.EchoTime, header.FlipAngle) == (20, 7.57, 12)
            assert header.SliceThickness == 1.5
        else:
            assert header.SeriesDescription == "Bilateral PA Fixed Flexion Knee"
            assert header.ImagerPixelSpacing == [1.6, 1.6]
            assert (header.Rows, header.Columns, header.BitsStored) == (192, 256, 12)


def test_both_slice_orders_and_photometric_interpretations_occur():
    """Over 24 participants, from the headers' own random streams; no image is rendered."""
    film, volume = np.zeros((4, 4), dtype=np.uint16), np.zeros((80, 2, 2), dtype=np.float32)
    affine = np.array([[0, -1.0, 0, 0], [0, 0, 1.5, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1]])
    photometric, first, modality = set(), set(), set()
    for index in range(24):
        person = sample_person(0, index)
        film_series, mri_series = plan_series(person)
        header = _film_dataset(person, film_series, film, 0.4)
        photometric.add(header.PhotometricInterpretation)
        modality.add(header.Modality)
        # Dark air is 0 after the inversion that MONOCHROME1 asks for.
        stored = int.from_bytes(header.PixelData[:2], "little")
        assert stored == (4095 if header.PhotometricInterpretation == "MONOCHROME1" else 0)
        positions = [dataset.ImagePositionPatient[1] for dataset in _mri_datasets(person, mri_series, volume, affine)]
        first.add(positions[0] > positions[-1])
    assert photometric == {"MONOCHROME1", "MONOCHROME2"}
    assert modality == {"DX", "CR"}
    assert first == {True, False}


def test_tables_agree_with_the_truth(cohort):
    """KL recomputed from a row's readings is the row's KL, and each row is the knee's truth."""
    table = cohort / "X-Ray Image Assessments_ASCII" / "Semi-Quant Scoring_ASCII" / "kxr_sq_bu00.txt"
    lines = [line.split("|") for line in table.read_text(encoding="latin-1").splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert len(rows) == 6
    for row in rows:
        side = {"1: Right": "R", "2: Left": "L"}[row["SIDE"]]
        truth = json.loads((cohort / "truth" / f"{row['ID']}_{side}.json").read_text(encoding="utf-8"))
        read = {v: int(row[f"V00{v}"][0]) for v in VARIABLES if not row[f"V00{v}"].startswith(".")}
        assert read.items() <= truth["readings"].items()
        assert truth["readings"]["XRKL"] == derive_kl(truth["readings"])
        assert {"XRKL", "XRJSM", "XRJSL"} <= read.keys()


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="participants"):
        make_cohort(tmp_path / "a", RECIPE, participants=0)
    with pytest.raises(ValueError, match="size"):
        Recipe(seed=0, size="huge")
