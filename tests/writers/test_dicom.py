"""DICOM files: geometry, values, what they say of themselves, and what they keep quiet."""

import re

import numpy as np
import pydicom
import pytest

from bundle.geometry import Grid
from bundle.writers import KINDS, Origin, write_dicom

SHAPE = (6, 8, 5)
AFFINE = Grid.of(image_size=8, slices=5).affine()
FILM = {"film_class": "1.2.840.10008.5.1.4.1.1.1", "film_instance": "1.2.3.4"}
ORIGIN = Origin(side="L", version="0.1.0", weights="0123456789abcdef", trained_on="synthetic-phantom", **FILM)


def values():
    return np.random.default_rng(0).random(SHAPE)


def read(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def frames(folder):
    """(position, orientation, row and column edges, image) of every slice, as the standard says where they are."""
    for dataset in read(folder):
        if "NumberOfFrames" not in dataset:
            yield dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing, scaled(dataset)
            continue
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for frame, image in zip(dataset.PerFrameFunctionalGroupsSequence, scaled(dataset), strict=True):
            yield (
                frame.PlanePositionSequence[0].ImagePositionPatient,
                shared.PlaneOrientationSequence[0].ImageOrientationPatient,
                shared.PixelMeasuresSequence[0].PixelSpacing,
                image,
            )


def scaled(dataset):
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


@pytest.mark.parametrize("kind", KINDS)
def test_each_pixel_lies_where_the_affine_says_and_has_its_value(kind, tmp_path):
    """PS3.3 C.7.6.2.1.1: position + row index x row edge x column cosines + column index x edge x row cosines, LPS."""
    original, seen = values(), np.zeros(SHAPE, dtype=int)
    back = np.linalg.inv(AFFINE)
    for position, orientation, spacing, image in frames(
        write_dicom(original, AFFINE, tmp_path / "d", origin=ORIGIN, kind=kind)
    ):
        along_row, down_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
        for row, column in np.ndindex(image.shape):
            lps = (
                np.array(position, float)
                + column * float(spacing[1]) * along_row
                + row * float(spacing[0]) * down_column
            )
            voxel = back @ [-lps[0], -lps[1], lps[2], 1]
            index = tuple(voxel[:3].round().astype(int))
            np.testing.assert_allclose(voxel[:3], index, atol=1e-4)
            assert image[row, column] == pytest.approx(original[index], abs=1 / 65535)
            seen[index] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_slices_advance_along_the_normal(kind, tmp_path):
    """A reader that sorts and one that does not then see the same knee."""
    found = list(frames(write_dicom(values(), AFFINE, tmp_path / "d", origin=ORIGIN, kind=kind)))
    orientation = np.array(found[0][1], float)
    normal = np.cross(orientation[:3], orientation[3:])
    locations = [np.array(position, float) @ normal for position, *_ in found]
    np.testing.assert_allclose(np.diff(locations), AFFINE[1, 2], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_files_say_what_they_are(kind, tmp_path):
    for dataset in read(write_dicom(values(), AFFINE, tmp_path / "d", origin=ORIGIN, kind=kind)):
        assert dataset[0x0008001C].value == "YES"
        assert list(dataset.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert dataset.ContentQualification == "RESEARCH"
        assert dataset.SeriesDescription.startswith("SYNTHETIC, NOT FOR DIAGNOSIS")
        assert dataset.BurnedInAnnotation == "NO"
        assert dataset.Laterality == "L"
        assert all(word in dataset.DerivationDescription for word in ("0.1.0", "0123456789abcdef", "synthetic-phantom"))
        (source,) = dataset.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == "1.2.3.4"
        assert dataset.get("ConversionType") == ("SYN" if kind == "sc" else None)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_invented_and_nobody_is_named(kind, tmp_path):
    unknown = ("RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength", "AcquisitionDate", "StudyDate")
    unknown += ("SeriesDate", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber")
    for dataset in read(write_dicom(values(), AFFINE, tmp_path / "d", origin=ORIGIN, kind=kind)):
        assert {tag: dataset.get(tag) for tag in unknown if dataset.get(tag)} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_uids_are_new_each_time_and_volumes_of_a_knee_share_study_and_frame(kind, tmp_path):
    together = {
        "study": pydicom.uid.generate_uid(prefix=None),
        "frame_of_reference": pydicom.uid.generate_uid(prefix=None),
    }
    first = write_dicom(values(), AFFINE, tmp_path / "a", origin=ORIGIN, kind=kind, **together)
    second = write_dicom(values(), AFFINE, tmp_path / "b", origin=ORIGIN, kind=kind, role="spread", **together)
    alone = write_dicom(values(), AFFINE, tmp_path / "c", origin=ORIGIN, kind=kind)
    datasets = [read(folder)[0] for folder in (first, second, alone)]
    for tag, different in {
        "SOPInstanceUID": 3,
        "SeriesInstanceUID": 3,
        "StudyInstanceUID": 2,
        "FrameOfReferenceUID": 2,
    }.items():
        uids = {str(dataset.get(tag)) for dataset in datasets}
        assert len(uids) == different, tag
        assert all(re.fullmatch(r"2\.25\.[1-9][0-9]*", uid) and len(uid) <= 64 for uid in uids)
    every = [dataset.SOPInstanceUID for dataset in read(first)]
    assert len(set(every)) == len(every) == (1 if kind == "sc" else SHAPE[2])


def test_identity_that_is_kept_is_id_name_and_study(tmp_path):
    kept = Origin(
        side="R", version="1", weights="0", patient_id="P-7", patient_name="Müller^Änne", study=pydicom.uid.UID("1.2.9")
    )
    (dataset,) = read(write_dicom(values(), AFFINE, tmp_path / "d", origin=kept))
    assert (dataset.PatientID, dataset.PatientName, dataset.StudyInstanceUID) == ("P-7", "Müller^Änne", "1.2.9")
    assert "PatientIdentityRemoved" not in dataset
    assert "SourceImageSequence" not in dataset


def test_a_series_that_is_there_is_replaced_whole(tmp_path):
    write_dicom(values(), AFFINE, tmp_path / "d", origin=ORIGIN, kind="mr")
    write_dicom(values()[:, :, :2], AFFINE, tmp_path / "d", origin=ORIGIN, kind="mr")
    assert len(list((tmp_path / "d").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": "ct"}, "`kind` must be one of sc, mr"),
        ({"role": "mask"}, "`role` must be one of"),
        ({"values": np.full(SHAPE, np.nan)}, "finite"),
        ({"affine": AFFINE + np.diag([5.0, 0, 0, 0])}, "right angles"),
    ],
)
def test_what_dicom_cannot_hold_is_refused_and_leaves_nothing(options, reason, tmp_path):
    given = {"values": values(), "affine": AFFINE, "origin": ORIGIN} | options
    with pytest.raises(ValueError, match=reason):
        write_dicom(folder=tmp_path / "d", **given)
    assert not list(tmp_path.iterdir())
