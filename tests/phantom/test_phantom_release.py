"""The phantom's cohort on disk, read by others' readers."""

import csv
import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from bundle.geometry import KNEE_DETECTOR_MM, SOURCE_DETECTOR_MM
from bundle.phantom.anatomy import sample_person
from bundle.phantom.cohort import MANIFEST, Recipe, make_cohort, make_participant
from bundle.phantom.oai_tables import TABLES, participant_rows
from bundle.phantom.oai_writer import SYNTHETIC_MARK, _film_dataset, _mri_datasets, write_participant
from bundle.phantom.population import derive_kl
from bundle.phantom.readers import read_film
from bundle.phantom.series import mri_side, plan_series
from bundle.phantom.worlds import WORLDS
from bundle.readings import VARIABLES

RECIPE = Recipe(seed=21, size="test", truth=True)
AFFINE = np.array([[0, -1.0, 0, 0], [0, 0, 1.5, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1]])
"""Of a volume whose rows run inferior-wards, columns leftwards, slices anterior-wards."""


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


def test_some_of_a_cohort_are_the_same_people_and_the_only_ones_in_its_tables(cohort, tmp_path):
    """What is made of one participant alone is, byte by byte, what the whole cohort holds of it."""
    chosen = sorted(path.name for path in (cohort / "00m").glob("*/9*"))[1]
    root = tmp_path / "oai"
    assert make_cohort(root, RECIPE, participants=3, only=[chosen], workers=1) == 1
    whole, found = without_gzip_time(digests(cohort)), without_gzip_time(digests(root))
    images = [name for name in found if name.rsplit("/", 1)[-1].isdigit()]
    assert len(images) == 81
    assert all(chosen in name and found[name] == whole[name] for name in images)
    assert {row["ParticipantID"] for row in contents(root, "COR_T1_3D_FLASH_RIGHT")} == {chosen}
    with pytest.raises(ValueError, match=r"holds a cohort of only .* \(asked: None\)"):
        make_cohort(root, RECIPE, participants=3, workers=1)
    with pytest.raises(ValueError, match="among the first 3, got 9999999"):
        make_cohort(tmp_path / "other", RECIPE, participants=3, only=["9999999"])


@pytest.mark.parametrize("other", [Recipe(seed=22, size="test", truth=True), Recipe(seed=21, size="demo", truth=True)])
def test_folder_of_another_cohort_is_refused(cohort, other):
    with pytest.raises(ValueError, match="choose another folder"):
        make_cohort(cohort, other, participants=3, workers=1)


def test_folder_of_before_an_option_existed_is_gone_on_with(cohort, tmp_path):
    root = tmp_path / "oai"
    shutil.copytree(cohort, root)
    manifest = json.loads((root / MANIFEST).read_text())
    del manifest["all_read"]
    (root / MANIFEST).write_text(json.dumps(manifest))
    assert make_cohort(root, RECIPE, participants=3, workers=1) == 0
    with pytest.raises(ValueError, match=r"all_read 0.0 \(asked: 0.5\)"):
        make_cohort(root, replace(RECIPE, all_read=0.5), participants=3, workers=1)


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
        assert header.QualityControlSubject == "YES"
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
        positions = [dataset.ImagePositionPatient[1] for dataset in _mri_datasets(person, mri_series, volume, AFFINE)]
        first.add(positions[0] > positions[-1])
    assert photometric == {"MONOCHROME1", "MONOCHROME2"}
    assert modality == {"DX", "CR"}
    assert first == {True, False}


def rows_of(path: Path) -> list[dict[str, str]]:
    lines = [line.split("|") for line in path.read_text(encoding="latin-1").splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_table_of_readings_is_what_the_readers_read(cohort):
    """Each row is its project's reading; KL recomputed from a row's complete readings is the row's KL."""
    people = {person.covariates.participant: person for person in map(RECIPE.person, range(3))}
    rows = rows_of(cohort / TABLES["readings"])
    assert {row["ID"] for row in rows} == set(people)
    complete = 0
    for row in rows:
        side = {"1: Right": "R", "2: Left": "L"}[row["SIDE"]]
        seen = read_film(people[row["ID"]], int(row["READPRJ"]))[side]
        read = {v: int(row[f"V00{v}"][0]) for v in VARIABLES if not row[f"V00{v}"].startswith(".")}
        assert read.items() <= seen.items()
        if read.keys() == set(VARIABLES):
            complete += 1
            assert read["XRKL"] == derive_kl(read)
    assert complete


def test_truth_holds_the_true_grades(cohort):
    """Not what a reader made of them."""
    for person in map(RECIPE.person, range(3)):
        for side, knee in person.knees.items():
            truth = json.loads((cohort / "truth" / f"{person.covariates.participant}_{side}.json").read_text())
            assert truth["readings"] == dict(knee.readings)
            assert truth["readings"]["XRKL"] == derive_kl(truth["readings"])


def test_every_table_has_every_participant(cohort):
    numbers = {person.covariates.participant for person in map(RECIPE.person, range(3))}
    for table, path in TABLES.items():
        if table != "contents":
            assert {row["ID"] for row in rows_of(cohort / path)} == numbers, table


def test_joint_space_table_measures_the_film(cohort):
    """Magnified by the knee's distance from the detector, 65 of 1828 mm: by 3.7 %, within three errors of 0.1 mm."""
    people = {person.covariates.participant: person for person in map(RECIPE.person, range(3))}
    rows = rows_of(cohort / TABLES["joint_space"])
    assert len(rows) == 6
    for row in rows:
        knee = people[row["ID"]].knees[{"1": "R", "2": "L"}[row["SIDE"][0]]]
        magnified = knee.joint_space_film["medial"] * SOURCE_DETECTOR_MM / (SOURCE_DETECTOR_MM - KNEE_DETECTOR_MM)
        assert float(row["V00MCMJSW"]) == pytest.approx(magnified, abs=0.3)
        assert float(row["V00IMPIXSZ"]) == 1.6


def test_few_participants_have_their_left_knee_imaged():
    """Design value 4 %; 400 participants."""
    share = np.mean([mri_side(RECIPE.person(index)) == "L" for index in range(400)])
    assert 0.01 < share < 0.08


def test_a_left_mri_says_so_and_lies_on_the_left(tmp_path):
    """Series, header and truth name the left knee; its voxels have negative RAS x."""
    index = next(index for index in range(400) if mri_side(RECIPE.person(index)) == "L")
    make_participant(tmp_path, RECIPE, index)
    _, series = plan_series(RECIPE.person(index))
    assert series.description == "COR_T1_3D_FLASH_LEFT"
    assert series.study.endswith("^LEFT")
    for path in (tmp_path / "00m" / series.folder).iterdir():
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert (header.Laterality, header.SeriesDescription) == ("L", "COR_T1_3D_FLASH_LEFT")
        centre = header.ImagePositionPatient[0] + 31.5 * header.PixelSpacing[1] * header.ImageOrientationPatient[0]
        assert centre > 50  # LPS: leftwards is positive
    labels = nib.load(tmp_path / "truth" / f"{series.participant}_L_labels.nii.gz")
    assert not (tmp_path / "truth" / f"{series.participant}_R_labels.nii.gz").exists()
    assert (labels.affine @ [32, 32, 40, 1])[0] < -50


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_dciodvfy_finds_no_error(tmp_path):
    """CR and DX, MONOCHROME1 and 2, MRI of either side; 14 participants, headers only, no image is rendered."""
    film, volume = np.arange(24 * 16, dtype=np.uint16).reshape(24, 16), np.ones((80, 8, 8), dtype=np.float32)
    kinds = set()
    indices = [*range(14), next(index for index in range(400) if mri_side(RECIPE.person(index)) == "L")]
    for index in indices:
        for folder in write_participant(tmp_path / str(index), RECIPE.person(index), film, 0.4, volume, AFFINE):
            header = pydicom.dcmread(folder / "001")
            laterality = header.get("Laterality", "")
            kinds.add((header.Modality, laterality if header.Modality == "MR" else header.PhotometricInterpretation))
            for name in ("001", "080") if header.Modality == "MR" else ("001",):
                found = subprocess.run(["dciodvfy", folder / name], capture_output=True, text=True)
                assert "Error" not in found.stderr + found.stdout, (index, name, found.stderr)
    films = {(modality, f"MONOCHROME{number}") for modality in ("CR", "DX") for number in (1, 2)}
    assert kinds == films | {("MR", "R"), ("MR", "L")}


@pytest.mark.parametrize("shift", ["pose", "exposure", "scanner", "anatomy", "missing"])
def test_a_shifted_cohort_is_of_another_world(shift):
    assert Recipe(seed=0, shift=shift).person(0).world == WORLDS[shift]


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="participants"):
        make_cohort(tmp_path / "a", RECIPE, participants=0)
    with pytest.raises(ValueError, match="size"):
        Recipe(seed=0, size="huge")
    with pytest.raises(ValueError, match="packaging"):
        Recipe(seed=0, packaging="zip")
    with pytest.raises(ValueError, match="shift"):
        Recipe(seed=0, shift="moon")


def cluttered(wanted) -> tuple[Recipe, int]:
    """The first participant of a cohort full of distractors whose clutter is as wanted."""
    recipe = Recipe(seed=3, size="test", truth=True, distractors=1.0)
    return recipe, next(index for index in range(400) if wanted(recipe.clutter(index)))


def rows_for(recipe: Recipe, index: int) -> dict:
    person = recipe.person(index)
    return participant_rows(person, recipe.series(person), film_spacing_mm=1.6, clutter=recipe.clutter(index))


def test_a_replaced_knee_is_in_the_outcomes_and_has_no_grades():
    recipe, index = cluttered(lambda clutter: clutter.implant and len(clutter.sides) == 2)
    side, rows = recipe.clutter(index).implant, rows_for(recipe, index)
    (outcome,) = rows["outcomes"]
    assert {knee: outcome[f"V99E{knee}KBLRP"][0] for knee in "RL"} == {knee: str(int(knee == side)) for knee in "RL"}
    assert {row["SIDE"] for row in rows["readings"] if row["V00XRKL"] == ".P: Prosthetic"} == {
        {"R": "1: Right", "L": "2: Left"}[side]
    }


def test_no_knee_is_replaced_without_distractors():
    for index in range(40):
        person = RECIPE.person(index)
        (outcome,) = participant_rows(person, plan_series(person), film_spacing_mm=1.6)["outcomes"]
        assert outcome["V99ERKBLRP"] == outcome["V99ELKBLRP"] == "0: No"


def test_a_lateral_film_says_so_and_is_not_graded(tmp_path):
    """Its knee has a place on it, the other none."""
    recipe, index = cluttered(lambda clutter: clutter.view == "LL")
    make_participant(tmp_path, recipe, index)
    film = recipe.series(recipe.person(index))[0]
    header = pydicom.dcmread(tmp_path / "00m" / film.folder / "001")
    side = recipe.clutter(index).sides[0]
    assert header.SeriesDescription == f"Lateral {'Right' if side == 'R' else 'Left'} Knee"
    assert header.ViewPosition == "LL"
    assert header.get("ImageLaterality", header.get("Laterality")) == side
    assert rows_for(recipe, index)["readings"] == []
    for knee in "RL":
        truth = json.loads((tmp_path / "truth" / f"{film.participant}_{knee}.json").read_text())
        assert bool(truth["film_pixels"]) == (knee == side)


def test_a_film_of_one_knee_grades_that_knee():
    recipe, index = cluttered(lambda clutter: clutter.view == "PA" and clutter.sides == ("L",))
    assert recipe.series(recipe.person(index))[0].description == "PA Fixed Flexion Left Knee"
    assert {row["SIDE"] for row in rows_for(recipe, index)["readings"]} == {"2: Left"}


@pytest.mark.parametrize("options", [{"distractors": 1.5}, {"distractors": 0.5, "faults": True}])
def test_distractors_are_a_share_and_no_faults(options):
    with pytest.raises(ValueError, match="distractors"):
        Recipe(seed=0, **options)
