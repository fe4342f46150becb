"""MR series from DICOM files: geometry from positions, and what is refused by name."""

import copy
import tarfile

import fabricate_oai as oai
import numpy as np
import pytest
from pydicom.uid import generate_uid

from bundle.data.oai_dicom import read_mr_series

VOLUME = oai.knee_volume(32, 24, 12)


def series(tmp_path, edit=lambda datasets: None, *, reverse=False, **options):
    datasets = oai.mr_datasets(VOLUME, **options)
    edit(datasets)
    return oai.save_series(datasets, tmp_path / "series", reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_series_is_ila_whatever_the_files_are_called(tmp_path, reverse):
    read = read_mr_series(series(tmp_path, reverse=reverse))
    np.testing.assert_array_equal(read.volume, VOLUME)
    steps = read.affine[:3, :3]
    np.testing.assert_allclose(steps @ [1, 0, 0], [0, 0, -0.625])  # rows run inferior-wards
    np.testing.assert_allclose(steps @ [0, 1, 0], [-0.625, 0, 0])  # columns leftwards
    np.testing.assert_allclose(steps @ [0, 0, 1], [0, 1.5, 0])  # slices anterior-wards
    middle = read.affine @ [15.5, 11.5, 5.5, 1]
    np.testing.assert_allclose(middle, [80, 0, 10, 1], atol=1e-4)  # LPS -80 is RAS +80: the right knee
    assert (read.side, read.participant) == ("R", "9000001")


def test_left_knee_is_read_as_it_is(tmp_path):
    read = read_mr_series(series(tmp_path, side="L"))
    np.testing.assert_array_equal(read.volume, VOLUME)
    assert read.side == "L"
    assert (read.affine @ [15.5, 11.5, 5.5, 1])[0] < 0


def test_oblique_series_keeps_the_position_of_every_voxel(tmp_path):
    """Turned by 20 degrees about the long axis: a voxel's place equals its own slice's header."""
    angle = np.radians(20)
    across = (np.cos(angle), np.sin(angle), 0.0)
    datasets = oai.mr_datasets(VOLUME, row_direction=across)
    read = read_mr_series(oai.save_series(datasets, tmp_path / "s"))
    np.testing.assert_array_equal(read.volume, VOLUME)
    slice7 = datasets[7]
    lps = np.array(slice7.ImagePositionPatient) + 0.625 * (4 * np.array(across) + 9 * np.array([0, 0, -1]))
    np.testing.assert_allclose((read.affine @ [9, 4, 7, 1])[:3], lps * [-1, -1, 1], atol=1e-4)


def test_every_slice_has_its_own_rescale(tmp_path):
    def rescale(datasets):
        for index, dataset in enumerate(datasets):
            dataset.RescaleSlope, dataset.RescaleIntercept = str(1 + index), "5"

    read = read_mr_series(series(tmp_path, rescale))
    np.testing.assert_allclose(read.volume, VOLUME * np.arange(1.0, 13.0) + 5, rtol=1e-6)


def test_distance_of_slices_comes_from_positions_and_not_from_thickness(tmp_path):
    read = read_mr_series(series(tmp_path, lambda ds: [setattr(d, "SliceThickness", 9) for d in ds]))
    assert np.linalg.norm(read.affine[:3, 2]) == pytest.approx(1.5)


def test_thumbnails_and_hidden_files_are_passed_over(tmp_path):
    folder = series(tmp_path)
    for name in ("thumb.jpg", ".DS_Store", "notes.txt"):
        (folder / name).write_bytes(b"x")
    assert read_mr_series(folder).volume.shape == VOLUME.shape


def test_identical_copies_are_read_once_and_a_localiser_is_passed_over(tmp_path):
    def more(datasets):
        twin = copy.deepcopy(datasets[5])
        twin.SOPInstanceUID, twin.InstanceNumber = generate_uid(), 99
        scout = copy.deepcopy(datasets[0])
        scout.SeriesInstanceUID, scout.ImageType = generate_uid(), ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        scout.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        datasets += [twin, scout]

    read = read_mr_series(series(tmp_path, more))
    np.testing.assert_array_equal(read.volume, VOLUME)
    assert read.notes == ("passed over 1 localiser images", "passed over 1 identical copies of slices")


def test_series_in_an_archive_equals_the_folder(tmp_path):
    folder = series(tmp_path)
    with tarfile.open(tmp_path / "1.tar.gz", "w:gz") as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.add(path, f"./{path.name}")
    read, expected = read_mr_series(tmp_path / "1.tar.gz"), read_mr_series(folder)
    np.testing.assert_array_equal(read.volume, expected.volume)
    np.testing.assert_array_equal(read.affine, expected.affine)
    whole = (tmp_path / "1.tar.gz").read_bytes()
    (tmp_path / "1.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"series .*1\.tar\.gz: the archive is damaged or cut short"):
        read_mr_series(tmp_path / "1.tar.gz")


def _move(datasets, index, millimetres):
    x, y, z = datasets[index].ImagePositionPatient
    datasets[index].ImagePositionPatient = [x, float(y) + millimetres, z]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda ds: ds.pop(5), "gap"),
        (lambda ds: setattr(ds[4], "ImagePositionPatient", ds[5].ImagePositionPatient), "duplicate"),
        (lambda ds: _move(ds, 11, -4), "gap"),
        (lambda ds: _move(ds, 5, 0.5), "gap"),
        (
            lambda ds: [setattr(d, "ImagePositionPatient", [0, 0, 0]) for d in ds],
            "all its slices lie at the same place",
        ),
        (lambda ds: setattr(ds[3], "ImagePositionPatient", [0, float("nan"), 0]), "not 3 numbers"),
        (lambda ds: ds[3].add_new("PixelSpacing", "LO", "wide"), "PixelSpacing is absent or not 2 numbers"),
        (lambda ds: [setattr(d, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]) for d in ds], "perpendicular"),
        (lambda ds: [setattr(d, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]) for d in ds], "axial"),
        (lambda ds: ds[3].add_new("RescaleSlope", "LO", "much"), "file 004: its RescaleSlope is not a number"),
        (lambda ds: setattr(ds[3], "EchoNumbers", 2), "EchoNumbers differs"),
        (lambda ds: setattr(ds[3], "NumberOfFrames", 80), "file 004: has 80 frames"),
        (
            lambda ds: [setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]) for d in ds],
            "localiser images alone",
        ),
        (lambda ds: setattr(ds[3], "SeriesInstanceUID", generate_uid()), "more than one series"),
        (lambda ds: setattr(ds[3], "PatientID", "9000002"), "PatientID differs"),
        (lambda ds: setattr(ds[3], "SeriesDescription", "COR_T1_3D_FLASH_LEFT"), "SeriesDescription differs"),
        (lambda ds: [setattr(d, "Laterality", "L") for d in ds], "both sides"),
        (lambda ds: setattr(ds[3], "EchoTime", 12), "EchoTime differs"),
        (lambda ds: setattr(ds[3], "PixelSpacing", [0.5, 0.5]), "PixelSpacing differs"),
        (lambda ds: setattr(ds[3], "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]), "ImageOrientationPatient differs"),
        (lambda ds: [setattr(d, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]) for d in ds], "sagittal"),
        (lambda ds: delattr(ds[3], "ImagePositionPatient"), "ImagePositionPatient is absent"),
        (lambda ds: setattr(ds[3], "Modality", "CT"), "004: modality must be MR, got CT"),
        (lambda ds: setattr(ds[3], "PixelData", b"12"), "004: its pixel data cannot be decoded"),
        (lambda ds: [setattr(ds[3], "Rows", 60000), setattr(ds[3], "Columns", 60000)], "004: the header says 60000"),
        (lambda ds: setattr(ds[3], "Rows", 31), "Rows differs"),
        (
            lambda ds: [
                setattr(d, "ImagePositionPatient", [float(10 * i), float(-1.5 * i), 0]) for i, d in enumerate(ds)
            ],
            "sheared",
        ),
        (lambda ds: ds.__delitem__(slice(1, None)), "one slice only"),
    ],
)
def test_faults_are_refused_by_name(tmp_path, edit, message):
    folder = series(tmp_path, edit)
    with pytest.raises(ValueError, match=message) as error:
        read_mr_series(folder)
    assert str(folder) in str(error.value)


def test_damaged_and_missing_files_are_named(tmp_path):
    folder = series(tmp_path)
    (folder / "005").write_bytes(b"not DICOM at all")
    with pytest.raises(ValueError, match="file 005: is no DICOM file"):
        read_mr_series(folder)
    with pytest.raises(ValueError, match="no such folder"):
        read_mr_series(tmp_path / "absent")
