"""Faults planted in a cohort: each is what its name says, and sound participants have none."""

import json
import tarfile
import zlib

import numpy as np
import pydicom
import pytest

from bundle.phantom.cohort import Recipe, make_cohort
from bundle.phantom.faults import FAULTS, PACKAGINGS, SOUND, fault_of, faults_for
from bundle.phantom.nda_writer import pack_series
from bundle.phantom.oai_tables import participant_rows
from bundle.phantom.oai_writer import write_participant
from bundle.phantom.series import plan_series

RECIPE = Recipe(seed=21, size="test")
PERSON = RECIPE.person(1)
"""Film in MONOCHROME2, MRI of the right knee."""
FILM = np.linspace(0, 4095, 24 * 32).reshape(24, 32).astype(np.uint16)
VOLUME = np.linspace(0.01, 0.06, 80 * 64).reshape(80, 8, 8).astype(np.float32)
AFFINE = np.array([[0, -20.0, 0, 0], [0, 0, 1.5, 0], [-20.0, 0, 0, 0], [0, 0, 0, 1]])


def series_of(name):
    return FAULTS[name].in_series(plan_series(PERSON))


def rows_of(name):
    return participant_rows(PERSON, series_of(name), film_spacing_mm=0.4, fault=FAULTS[name])


def write(root, name, series):
    """Write some of a participant's series, with small pictures and one fault."""
    fault = FAULTS.get(name, SOUND)
    return write_participant(root, PERSON, FILM, 0.4, VOLUME, AFFINE, series=series, fault=fault)


def film_of(root, name):
    (folder,) = write(root, name, [one for one in series_of(name) if one.is_film])
    return folder / "001"


def slices_of(root, name):
    (folder,) = write(root, name, [one for one in series_of(name) if not one.is_film])
    return [pydicom.dcmread(path, force=True) for path in sorted(folder.iterdir())]


def archive_of(root, name):
    """The packed MRI."""
    mri = series_of(name)[1]
    (folder,) = write(root, name, [mri])
    path = pack_series(folder)
    FAULTS[name].in_archive(mri, path)
    return path


def content(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.stage == "series"])
def test_faults_of_placement_change_the_series(name):
    assert series_of(name) != list(plan_series(PERSON))


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.stage == "rows"])
def test_faults_of_tables_change_rows(name):
    assert rows_of(name) != participant_rows(PERSON, plan_series(PERSON), film_spacing_mm=0.4)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.stage.startswith(("film", "slice"))])
def test_faults_of_images_change_files(tmp_path, name):
    """Against the sound participant's; `bits_12` is what sound films are."""
    touched = [one for one in plan_series(PERSON) if one.is_film == FAULTS[name].stage.startswith("film")]
    write(tmp_path / "sound", "", touched)
    write(tmp_path / "fault", name, touched)
    assert (content(tmp_path / "fault") != content(tmp_path / "sound")) == (name != "bits_12")


@pytest.mark.parametrize("packaging", PACKAGINGS)
def test_as_many_participants_as_there_are_faults_have_one_each(packaging):
    count = len(faults_for(packaging))
    names = [fault_of(index, packaging).name for index in range(count)]
    assert len(set(names)) == count
    assert fault_of(count, packaging).name == names[0]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_fault_says_what_a_reader_should_do(fault):
    assert fault.expect in ("read", "refuse")
    assert fault.reason
    assert fault.what.endswith(".")


@pytest.mark.parametrize("bits", [10, 12, 15, 16])
def test_bits_fill_their_range(tmp_path, bits):
    film = pydicom.dcmread(film_of(tmp_path, f"bits_{bits}"))
    assert (film.BitsStored, film.HighBit) == (bits, bits - 1)
    assert film.pixel_array.max() == 2**bits - 1


def test_monochrome1_is_the_same_film(tmp_path):
    film = pydicom.dcmread(film_of(tmp_path, "monochrome1"))
    assert film.PhotometricInterpretation == "MONOCHROME1"
    np.testing.assert_array_equal(4095 - film.pixel_array, FILM)


def test_spacing_is_elsewhere_text_or_absent(tmp_path):
    only = pydicom.dcmread(film_of(tmp_path / "a", "pixel_spacing_only"))
    assert only.PixelSpacing == [0.4, 0.4]
    assert "ImagerPixelSpacing" not in only
    text = pydicom.dcmread(film_of(tmp_path / "b", "spacing_as_text"))
    assert text["ImagerPixelSpacing"].VR == "LO"
    assert list(text.ImagerPixelSpacing) == ["0.4", "0.4"]
    absent = pydicom.dcmread(film_of(tmp_path / "c", "spacing_absent"))
    assert "ImagerPixelSpacing" not in absent
    assert "PixelSpacing" not in absent


def test_film_without_meta_is_read_by_force_alone(tmp_path):
    path = film_of(tmp_path, "no_file_meta")
    with pytest.raises(pydicom.errors.InvalidDicomError):
        pydicom.dcmread(path)
    assert pydicom.dcmread(path, force=True).SeriesDescription == "Bilateral PA Fixed Flexion Knee"


def test_film_of_one_knee_is_that_half(tmp_path):
    film = pydicom.dcmread(film_of(tmp_path, "film_of_one_knee"))
    assert film.SeriesDescription == "PA Fixed Flexion Right Knee"
    shown = 4095 - film.pixel_array if film.PhotometricInterpretation == "MONOCHROME1" else film.pixel_array
    np.testing.assert_array_equal(shown, FILM[:, :16])


@pytest.mark.parametrize(
    ("name", "count"), [("slices_79", 79), ("slices_72", 72), ("slices_8", 8), ("missing_slice", 79)]
)
def test_slices_are_missing(tmp_path, name, count):
    assert len(slices_of(tmp_path, name)) == count


def test_duplicate_slice_shares_a_place_and_no_uid(tmp_path):
    slices = slices_of(tmp_path, "duplicate_slice")
    assert len({tuple(one.ImagePositionPatient) for one in slices}) == 80
    assert len({one.SOPInstanceUID for one in slices}) == 81


def test_smaller_matrix_shows_the_same_field(tmp_path):
    """Corners of the field stay: half a pixel beyond the first centre, and matrix times spacing from there."""
    first, smaller = slices_of(tmp_path / "a", "bits_12")[0], slices_of(tmp_path / "b", "smaller_matrix")[0]
    assert (smaller.Rows, smaller.Columns) == (6, 6)

    def corner(one):
        step = np.reshape(np.array(one.ImageOrientationPatient, float), (2, 3)) * one.PixelSpacing[0] / 2
        return np.array(one.ImagePositionPatient, float) - step.sum(axis=0)

    np.testing.assert_allclose(corner(smaller), corner(first), atol=1e-3)
    assert 6 * smaller.PixelSpacing[0] == pytest.approx(8 * first.PixelSpacing[0], abs=1e-3)


def test_localiser_is_a_series_of_its_own_in_the_folder(tmp_path):
    slices = slices_of(tmp_path, "localiser_among_slices")
    assert len(slices) == 83
    assert {one.SeriesDescription for one in slices} == {"COR_T1_3D_FLASH_RIGHT", "MP_LOCATOR_RIGHT"}
    assert len({one.SeriesInstanceUID for one in slices}) == 2


def test_reversed_order_keeps_instance_numbers(tmp_path):
    assert [one.InstanceNumber for one in slices_of(tmp_path, "reversed_order")] == list(range(80, 0, -1))


def test_truncated_archive_ends_early(tmp_path):
    path = archive_of(tmp_path, "truncated_archive")
    with pytest.raises((EOFError, tarfile.ReadError, zlib.error)), tarfile.open(path) as archive:
        archive.getmembers()


def test_member_outside_is_beside_the_slices(tmp_path):
    with tarfile.open(archive_of(tmp_path, "member_outside")) as archive:
        assert archive.getnames() == [*(f"./{number:03d}" for number in range(1, 81)), "../../escaped"]


@pytest.mark.parametrize(("name", "films", "scans"), [("two_films", 2, 1), ("rescan", 1, 2)])
def test_repeats_have_barcodes_of_their_own(name, films, scans):
    series = series_of(name)
    assert (sum(one.is_film for one in series), sum(not one.is_film for one in series)) == (films, scans)
    assert len({one.barcode for one in series}) == len(rows_of(name)["contents"]) == 3


def test_unlisted_mri_is_on_disk_all_the_same(tmp_path):
    assert len(rows_of("mri_not_listed")["contents"]) == 1
    assert len(slices_of(tmp_path, "mri_not_listed")) == 80


def test_cohort_lists_its_faults(tmp_path):
    """Two participants have the first two faults; the table of readings is spelt in another case."""
    make_cohort(tmp_path, Recipe(seed=21, size="test", faults=True), participants=2, workers=1)
    said = json.loads((tmp_path / "faults.json").read_text())
    assert said["participants_for_all"] == len(faults_for("directory"))
    assert {entry["fault"] for entry in said["participants"].values()} == set(list(FAULTS)[:2])
    for entry in said["participants"].values():
        assert entry["expect"] == FAULTS[entry["fault"]].expect
    table = tmp_path / "X-Ray Image Assessments_ASCII" / "Semi-Quant Scoring_ASCII" / "KXR_SQ_BU00.TXT"
    assert table.read_text().startswith("id|side|readprj|")
    assert said["tables"].keys() == {"KXR_SQ_BU00.TXT"}
