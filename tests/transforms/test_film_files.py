"""Films read from DICOM, NIfTI and pictures, and what is refused."""

import os
import struct
import zlib

import fabricate_oai as oai
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.geometry import FILM_MAGNIFICATION
from bundle.transforms import LoadFilm, LoadFilmd
from bundle.transforms.film_files import check_film_file

RAMP = np.linspace(0, 1, 40 * 30).reshape(40, 30)


def saved(tmp_path, edit=lambda dataset: None, **options):
    dataset = oai.film_dataset(RAMP, **options)
    edit(dataset)
    return oai.save(dataset, tmp_path / "001")


def test_dicom_film_is_ila_with_its_middle_at_the_origin(tmp_path):
    film = LoadFilm()(saved(tmp_path, spacing=0.5))
    assert film.shape == (1, 40, 30, 1)
    affine = film.affine.numpy()
    assert np.allclose(affine @ [19.5, 14.5, 0, 1], [0, 0, 0, 1])
    assert np.allclose(affine @ [0, 0, 0, 1], [14.5 * 0.5, 0, 19.5 * 0.5, 1])  # top left: patient's right, superior
    assert film[0, -1, -1, 0] == 4095
    assert film.meta["spacing_source"] == "ImagerPixelSpacing"
    assert film.meta["bilateral"] is True
    assert "side" not in film.meta


@pytest.mark.parametrize("bits", [10, 12, 15, 16])
def test_monochrome1_is_inverted_once_against_the_bit_depth(tmp_path, bits):
    def negate(dataset):
        stored = np.frombuffer(dataset.PixelData, "<u2").copy()
        stored = 2**bits - 1 - stored
        stored = np.where(stored > 2**bits * 0.9, 2**bits // 2, stored).astype("<u2")  # none reaches the scale's top
        dataset.PixelData, dataset.PhotometricInterpretation = stored.tobytes(), "MONOCHROME1"
        dataset.RescaleSlope, dataset.RescaleIntercept = "2", "-7"

    upright = LoadFilm()(saved(tmp_path / "a", bits=bits))
    inverted = LoadFilm()(saved(tmp_path / "b", negate, bits=bits))
    expected = upright.numpy().ravel() * 2 - 7
    kept = RAMP.ravel() > 0.11
    np.testing.assert_allclose(inverted.numpy().ravel()[kept], expected[kept])


def test_padding_pixels_become_dark_on_both_polarities(tmp_path):
    def pad(dataset):
        stored = np.frombuffer(dataset.PixelData, "<u2").copy().reshape(40, 30) // 2 + 100
        stored[:, :4] = 0
        dataset.PixelData, dataset.PixelPaddingValue = stored.tobytes(), 0
        dataset["PixelPaddingValue"].VR = "US"
        dataset.PhotometricInterpretation = "MONOCHROME1"

    film = LoadFilm()(saved(tmp_path, pad))
    assert (film[0, :, :4, 0] == film.min()).all()


@pytest.mark.parametrize(
    ("edit", "edge", "source"),
    [
        (lambda d: setattr(d, "PixelSpacing", [0.7, 0.7]), 0.4, "ImagerPixelSpacing"),
        (lambda d: (delattr(d, "ImagerPixelSpacing"), setattr(d, "PixelSpacing", [0.7, 0.7])), 0.7, "PixelSpacing"),
        (
            lambda d: (
                delattr(d, "ImagerPixelSpacing"),
                setattr(d, "PixelSpacing", [0.7, 0.7]),
                setattr(d, "PixelSpacingCalibrationType", "GEOMETRY"),
            ),
            0.7 * FILM_MAGNIFICATION,
            "PixelSpacing",
        ),
        (lambda d: delattr(d, "ImagerPixelSpacing"), 0.3, "argument"),
        (lambda d: setattr(d, "ImagerPixelSpacing", [0, 0]), 0.3, "argument"),
    ],
)
def test_spacing_is_the_detectors(tmp_path, edit, edge, source):
    film = LoadFilm(spacing_mm=0.3)(saved(tmp_path, edit))
    assert film.meta["spacing_source"] == source
    assert np.allclose(np.linalg.norm(film.affine.numpy()[:3, :2], axis=0), edge)


@pytest.mark.parametrize("tag", ["ImageLaterality", "Laterality"])
def test_side_comes_from_the_header(tmp_path, tag):
    def one_knee(dataset):
        dataset.SeriesDescription = "PA Fixed Flexion Knee"
        setattr(dataset, tag, "L")

    path = saved(tmp_path, one_knee)
    assert LoadFilmd("image")({"image": path})["side"] == "L"
    assert LoadFilmd("image")({"image": path, "side": "R"})["side"] == "R"  # what the data says wins


def _several_frames(dataset):
    dataset.NumberOfFrames = 2
    dataset.PixelData = dataset.PixelData * 2


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: delattr(d, "ImagerPixelSpacing"), "--spacing"),
        (lambda d: setattr(d, "Modality", "MR"), "modality must be one of CR, DX, RG, got MR"),
        (lambda d: delattr(d, "Modality"), "got none"),
        (_several_frames, "2 frames"),
        (lambda d: setattr(d, "PhotometricInterpretation", "RGB"), "must be grey"),
        (lambda d: setattr(d, "SeriesDescription", "Lateral Left Knee"), "lateral view"),
        (lambda d: setattr(d, "ViewPosition", "LL"), "ll view"),
        (lambda d: setattr(d, "SeriesDescription", "Skyline knee"), "skyline view"),
        (lambda d: (setattr(d, "SeriesDescription", "PA Right Hand"), setattr(d, "BodyPartExamined", "")), "HAND"),
        (lambda d: setattr(d, "BodyPartExamined", "PELVIS"), "PELVIS"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:100]), "cannot be decoded"),
        (lambda d: delattr(d, "PixelData"), "no pixel data"),
        (lambda d: setattr(d, "Rows", 60000) or setattr(d, "Columns", 60000), "60000 x 60000"),
        (lambda d: setattr(d, "PixelData", bytes(2 * 40 * 30)), "every pixel has the same value"),
        (lambda d: setattr(d, "BitsStored", 0), "bits stored"),
        (lambda d: setattr(d, "RescaleSlope", "1e39"), "not finite"),
    ],
)
def test_what_is_no_film_is_refused_with_the_reason(tmp_path, edit, message):
    path = saved(tmp_path, edit)
    with pytest.raises(ValueError, match=message) as error:
        LoadFilm()(path)
    assert str(path) in str(error.value)


def test_film_without_preamble_and_file_meta_is_read(tmp_path):
    expected = LoadFilm()(saved(tmp_path))
    content = (tmp_path / "001").read_bytes()
    bare = tmp_path / "bare"
    bare.write_bytes(content[content.index(b"\x08\x00\x16\x00") :])
    np.testing.assert_array_equal(LoadFilm()(bare), expected)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(100_000), b"\x08\x00" + bytes(999), b"\x1f\x8b junk"])
@pytest.mark.parametrize("name", ["001", "film.dcm", "film.png", "film.nii.gz", "film.nii", "film.tif"])
def test_garbage_is_one_clear_error(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match="film "):
        LoadFilm(spacing_mm=0.2)(path)


def test_file_larger_than_any_film_is_refused_unread(tmp_path):
    """The file has holes in place of its content: 20 GiB that take a minute to read and no disk."""
    for name in ("001", "film.png", "film.tar.gz"):
        path = tmp_path / name
        path.write_bytes(b"II*\x00")
        os.truncate(path, 20 * 2**30)
        with pytest.raises(ValueError, match=rf"film .*{name}: has 20480 MiB; expected at most 512"):
            check_film_file(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        LoadFilm()(tmp_path / "nowhere.dcm")


def test_picture_is_not_transposed_and_needs_spacing(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray((RAMP * 65535).astype(np.uint16)).save(path)
    with pytest.raises(ValueError, match="--spacing MM"):
        LoadFilm()(path)
    film = LoadFilm(spacing_mm=0.2)(path)
    assert film.shape == (1, 40, 30, 1)
    np.testing.assert_array_equal(film[0, :, :, 0], (RAMP * 65535).astype(np.uint16))


def test_coloured_picture_is_refused_and_a_grey_one_in_colour_mode_is_not(tmp_path):
    grey = np.repeat((RAMP * 255).astype(np.uint8)[..., None], 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(LoadFilm(spacing_mm=0.2)(tmp_path / "grey.png")[0, :, :, 0], grey[..., 0])
    grey[3, 3, 0] ^= 255
    Image.fromarray(grey).save(tmp_path / "red.png")
    with pytest.raises(ValueError, match="colours"):
        LoadFilm(spacing_mm=0.2)(tmp_path / "red.png")


def test_nifti_keeps_its_position_and_is_turned_to_ila(tmp_path):
    """Stored as (x, y, z) = (right to left reversed, one slice, up): turned, not resampled."""
    values = (RAMP * 1000).astype(np.float32)
    stored = values[::-1, ::-1].T[:, None, :]  # L->R columns, then superior-wards rows
    affine = np.diag([0.5, 1, 0.5, 1.0])
    affine[:3, 3] = 11, 22, 33
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "film.nii.gz")
    film = LoadFilm()(tmp_path / "film.nii.gz")
    np.testing.assert_allclose(film[0, :, :, 0], values, rtol=1e-6)
    corner = film.affine.numpy() @ [0, 0, 0, 1]
    assert np.allclose(corner, affine @ [29, 0, 39, 1])


def test_nifti_that_is_no_coronal_slice_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(RAMP[..., None], np.eye(4)), tmp_path / "axial.nii")
    with pytest.raises(ValueError, match="coronal"):
        LoadFilm()(tmp_path / "axial.nii")
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 5)), np.eye(4)), tmp_path / "volume.nii")
    with pytest.raises(ValueError, match="one slice"):
        LoadFilm()(tmp_path / "volume.nii")


def test_phantom_mark_is_seen(tmp_path):
    path = saved(tmp_path / "a", lambda d: setattr(d, "ManufacturerModelName", "synthetic-phantom"))
    assert LoadFilm()(path).meta["synthetic_phantom"] is True
    assert LoadFilm()(saved(tmp_path / "b")).meta["synthetic_phantom"] is False


@pytest.mark.parametrize("kind", ["EPS", "BMP", "GIF", "PPM"])
def test_pictures_of_other_kinds_are_not_even_opened(tmp_path, kind):
    """Pillow would hand an EPS file to Ghostscript, whatever the file is called."""
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(tmp_path / "film.png", format=kind)
    with pytest.raises(ValueError, match=r"film .*is no PNG, JPEG or TIFF that can be read; save it as"):
        LoadFilm(spacing_mm=0.2)(tmp_path / "film.png")


def test_picture_of_16_bits_a_colour_is_refused(tmp_path):
    """Pillow reads the upper half of every value alone."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + np.repeat((row * 65535).astype(">u2"), 3).tobytes() for row in RAMP)
    header = struct.pack(">IIBBBBB", 30, 40, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "film.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(ValueError, match="16 bits a colour, of which 8 would be read"):
        LoadFilm(spacing_mm=0.2)(tmp_path / "film.png")


@pytest.mark.parametrize(
    ("description", "view", "message"),
    [
        ("Knee AP/LAT", "AP", None),
        ("KNEE 2 VIEWS PA + LATERAL", "PA", None),
        ("Knee AP/LAT", "LATERAL", "lateral view"),
        ("Knee AP/LAT", "", "lat view"),
        ("Knee lateral", "PA", "lateral view"),
        ("Knee PA notch", "PA", "notch view"),
    ],
)
def test_series_of_two_views_is_known_by_the_view_of_each_film(tmp_path, description, view, message):
    def edit(dataset):
        dataset.SeriesDescription, dataset.ViewPosition = description, view

    path = saved(tmp_path, edit)
    if message is None:
        assert LoadFilm()(path).shape == (1, 40, 30, 1)
    else:
        with pytest.raises(ValueError, match=message):
            LoadFilm()(path)


@pytest.mark.parametrize("part", ["LOWER LIMB", "LOWER_LIMB", "LOWERLIMB"])
def test_lower_limb_may_be_a_knee(tmp_path, part):
    assert LoadFilm()(saved(tmp_path, lambda d: setattr(d, "BodyPartExamined", part))).shape == (1, 40, 30, 1)
