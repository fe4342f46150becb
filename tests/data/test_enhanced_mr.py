"""Enhanced MR files: many frames in one file give what the same frames give as classic files of one slice."""

import copy

import fabricate_oai as oai
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless, generate_uid

from bundle.data.oai_dicom import read_mr_series

VOLUME = oai.knee_volume(32, 24, 12)


def _group(**entries):
    item = Dataset()
    for name, value in entries.items():
        setattr(item, name, value)
    return Sequence([item])


def enhanced(classic, *, shared=("PlaneOrientationSequence", "PixelMeasuresSequence")):
    """The frames of a classic series in one file; what `shared` names is said once."""
    whole = copy.deepcopy(classic[0])
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    whole.NumberOfFrames = len(classic)
    whole.PixelData = b"".join(dataset.PixelData for dataset in classic)
    common, frames = Dataset(), []
    for index, dataset in enumerate(classic):
        frame = Dataset()
        frame.FrameContentSequence = _group(FrameAcquisitionDateTime="20050131120000", InStackPositionNumber=index + 1)
        groups = {
            "PlanePositionSequence": _group(ImagePositionPatient=dataset.ImagePositionPatient),
            "PlaneOrientationSequence": _group(ImageOrientationPatient=dataset.ImageOrientationPatient),
            "PixelMeasuresSequence": _group(PixelSpacing=dataset.PixelSpacing, SliceThickness=9),
            "MREchoSequence": _group(EffectiveEchoTime=7.57),
            "MRImageFrameTypeSequence": _group(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
        }
        if "RescaleSlope" in dataset:
            slope, intercept = dataset.RescaleSlope, dataset.RescaleIntercept
            groups["PixelValueTransformationSequence"] = _group(RescaleSlope=slope, RescaleIntercept=intercept)
        for name, sequence in groups.items():
            setattr(common if name in shared else frame, name, sequence)
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence, whole.SharedFunctionalGroupsSequence = Sequence(frames), Sequence([common])
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        if name in whole:
            delattr(whole, name)
    return whole


def _classic(**options):
    datasets = oai.mr_datasets(VOLUME, **options)
    for index, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = str(1 + index), "5"
    return datasets


@pytest.mark.parametrize("side", ["R", "L"])
@pytest.mark.parametrize("shared", [(), ("PlaneOrientationSequence", "PixelMeasuresSequence")])
def test_enhanced_file_equals_the_classic_series(tmp_path, side, shared):
    """Oblique, frames shuffled, a rescale of its own for each: voxel for voxel and affine for affine."""
    datasets = _classic(side=side, row_direction=(np.cos(0.3), np.sin(0.3), 0.0))
    expected = read_mr_series(oai.save_series(datasets, tmp_path / "classic"))
    shuffled = [datasets[index] for index in np.random.default_rng(0).permutation(len(datasets))]
    file = oai.save(enhanced(shuffled, shared=shared), tmp_path / "one" / "0001.dcm")
    for source in (file, file.parent):
        read = read_mr_series(source)
        np.testing.assert_array_equal(read.volume, expected.volume)
        np.testing.assert_array_equal(read.affine, expected.affine)
        assert (read.side, read.participant) == (side, "9000001")
    np.testing.assert_array_equal(read.volume, VOLUME * np.arange(1.0, 13.0) + 5)


def test_compressed_frames_are_told_apart(tmp_path):
    whole = enhanced(_classic())
    shape = (len(VOLUME[0, 0]), *VOLUME.shape[:2])
    stored = np.frombuffer(whole.PixelData, "<u2").reshape(shape)
    encode = get_encoder(RLELossless).encode
    described = {"rows": shape[1], "columns": shape[2], "samples_per_pixel": 1, "bits_allocated": 16}
    described |= {"bits_stored": 12, "pixel_representation": 0, "photometric_interpretation": "MONOCHROME2"}
    streams = [encode(frame, number_of_frames=1, **described) for frame in stored]
    whole.PixelData = encapsulate(streams)
    whole["PixelData"].is_undefined_length = True
    whole.file_meta.TransferSyntaxUID = RLELossless
    read = read_mr_series(oai.save(whole, tmp_path / "rle.dcm"))
    np.testing.assert_array_equal(read.volume, VOLUME * np.arange(1.0, 13.0) + 5)


def _groups(whole, name, edit):
    for frame in whole.PerFrameFunctionalGroupsSequence:
        edit(getattr(frame, name)[0])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "has 12 frames and describes 11"),
        (lambda d: setattr(d, "NumberOfFrames", 100_000), "has 100000 frames; expected 1 to 512"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-2000]), "expected 1536 for each of 12 frames"),
        (lambda d: delattr(d, "PixelData"), "no pixel data"),
        (
            lambda d: _groups(d, "PlanePositionSequence", lambda g: delattr(g, "ImagePositionPatient")),
            "ImagePositionPatient is absent",
        ),
        (
            lambda d: setattr(d.PerFrameFunctionalGroupsSequence[3].MREchoSequence[0], "EffectiveEchoTime", 12.0),
            r"EchoTime differs between its slices \(12.0, 7.57\)",
        ),
        (lambda d: delattr(d, "SharedFunctionalGroupsSequence"), "ImageOrientationPatient is absent"),
        (
            lambda d: setattr(
                d.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0],
                "ImagePositionPatient",
                d.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient,
            ),
            "0001, frame 3 and 0001, frame 4 lie at the same place and differ",
        ),
        (lambda d: setattr(d, "PhotometricInterpretation", "RGB"), "must be grey"),
    ],
)
def test_faults_are_refused_by_name(tmp_path, edit, message):
    whole = enhanced(_classic())
    edit(whole)
    with pytest.raises(ValueError, match=message):
        read_mr_series(oai.save(whole, tmp_path / "0001"))


def test_frames_without_a_description_are_refused(tmp_path):
    """Classic MR with several frames says of none where it lies."""
    whole = enhanced(_classic())
    del whole.PerFrameFunctionalGroupsSequence
    with pytest.raises(ValueError, match="has 12 frames; expected one"):
        read_mr_series(oai.save(whole, tmp_path / "0001"))


def test_two_series_in_two_enhanced_files_are_not_mixed(tmp_path):
    for name in ("0001", "0002"):
        whole = enhanced(_classic())
        whole.SeriesInstanceUID = generate_uid()
        oai.save(whole, tmp_path / name)
    with pytest.raises(ValueError, match="SeriesInstanceUID differs"):
        read_mr_series(tmp_path)
