"""NIfTI files that nibabel would repair in silence, take for something else, or read for ever."""

import gzip
import os
import time

import nibabel as nib
import numpy as np
import pytest

from bundle.data.volume_files import read_volume
from bundle.transforms import LoadFilm
from bundle.transforms.nifti_file import open_nifti

VOLUME = np.arange(20 * 18 * 16, dtype=np.int16).reshape(20, 18, 16)
AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])


def raw(path, *, image=None, **fields):
    """A file whose header holds `fields` as they are; nibabel would not write them."""
    image = image or nib.Nifti1Image(VOLUME, AFFINE)
    content = bytearray(image.to_bytes())
    header = type(image.header)(bytes(content[: image.header.sizeof_hdr]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[: image.header.sizeof_hdr] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scl_slope": np.nan, "scl_inter": 0}, "its scale is nan and its intercept 0"),
        ({"scl_slope": np.inf}, "its scale is inf"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "its intercept nan"),
        ({"scl_slope": 1, "scl_inter": -np.inf}, "its intercept -inf"),
        ({"scl_slope": 1e39}, "its scale is inf"),
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, 0, 2, 2, 0, 0, 0, 0]}, "its voxel edges are .0.0, 2.0, 2.0."),
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, 2, -2, 2, 0, 0, 0, 0]}, "expected positive"),
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, 2, np.nan, 2, 0, 0, 0, 0]}, "expected positive"),
        ({"sform_code": 0, "qform_code": 0}, "does not say how it lies"),
        ({"dim": [3, 20, 18, 17, 1, 1, 1, 1]}, "claims 12240 bytes of values, the file has 11520"),
        ({"dim": [3, 20, -18, 16, 1, 1, 1, 1]}, "gives no shape"),
        ({"dim": [0, 1, 1, 1, 1, 1, 1, 1]}, "gives no shape"),
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "claims .30000, 30000, 30000. voxels"),
        ({"vox_offset": 1e30}, "values begin at byte 1e"),
        ({"vox_offset": 3e8}, "values begin at byte 3e"),
        ({"vox_offset": np.nan}, "cannot be read|values begin"),
        ({"vox_offset": 0}, "values begin at byte 0; expected 352 to"),
        ({"dim": [3, 20, 18, 15, 1, 1, 1, 1]}, "claims 10800 bytes of values, the file has more"),
        ({"xyzt_units": 7}, "its unit of length is the unknown code 7"),
        ({"datatype": 777}, "values of an unknown kind"),
        ({"datatype": 128}, "claims 17280 bytes of values, the file has 11520"),
        ({"magic": b"\0\0\0\0"}, "is Analyze, or half of a pair"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "voxel edges|cannot be read"),
    ],
)
def test_what_would_be_misread_is_refused(tmp_path, name, fields, message):
    path = raw(tmp_path / name, **fields)
    with pytest.raises(ValueError, match=message) as error:
        read_volume(path)
    assert str(error.value).startswith(f"series {path}: ")


def test_infinite_scale_of_a_film_is_refused_too(tmp_path):
    film = nib.Nifti1Image(VOLUME[:, :1], AFFINE)
    with pytest.raises(ValueError, match=r"film .*its scale is inf"):
        LoadFilm()(raw(tmp_path / "f.nii", image=film, scl_slope=np.inf))


@pytest.mark.parametrize(("slope", "expected"), [(2.5, VOLUME * 2.5 + 7), (0, VOLUME), (-1, 7.0 - VOLUME)])
def test_finite_scales_are_applied_and_zero_means_none(tmp_path, slope, expected):
    image = open_nifti(raw(tmp_path / "v.nii.gz", scl_slope=slope, scl_inter=7), what="series")
    np.testing.assert_array_equal(np.asarray(image.dataobj), expected)


@pytest.mark.parametrize(("kind", "names"), [(nib.Nifti1Pair, (".hdr", ".img")), (nib.Nifti2Pair, (".img", ".hdr"))])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_pair_of_header_and_image_equals_the_single_file(tmp_path, kind, names, packed):
    nib.save(nib.Nifti1Image(VOLUME, AFFINE), tmp_path / "one.nii.gz")
    nib.save(kind(VOLUME, AFFINE), str(tmp_path / f"two.img{packed}"))
    one, two = read_volume(tmp_path / "one.nii.gz"), read_volume(tmp_path / f"two{names[0]}{packed}")
    np.testing.assert_array_equal(one.volume, two.volume)
    np.testing.assert_array_equal(one.affine, two.affine)
    (tmp_path / f"two{names[1]}{packed}").unlink()
    with pytest.raises(ValueError, match=r"series .*No such file"):
        read_volume(tmp_path / f"two{names[0]}{packed}")


def test_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "v.nii.gz")
    nib.save(nib.Nifti1Pair(VOLUME, AFFINE), tmp_path / "w.img")
    (tmp_path / "w.img").unlink()
    os.mkfifo(tmp_path / "w.img")
    for path in (tmp_path / "v.nii.gz", tmp_path / "w.hdr"):
        with pytest.raises(ValueError, match=r"series .*is a folder, a device or a pipe; expected a file"):
            read_volume(path)


def test_zeros_behind_the_values_are_passed_over(tmp_path):
    path = raw(tmp_path / "v.nii")
    path.write_bytes(path.read_bytes() + bytes(512))
    assert read_volume(path).volume.size == VOLUME.size


def test_analyze_says_nothing_of_orientation_and_is_refused(tmp_path):
    nib.save(nib.Spm99AnalyzeImage(VOLUME, AFFINE), tmp_path / "a.img")
    with pytest.raises(ValueError, match="is Analyze"):
        read_volume(tmp_path / "a.hdr")


def test_checksum_of_a_packed_file_is_looked_at(tmp_path):
    """One bit of the values is turned, and unpacks without complaint; the checksum at the end does not agree."""
    path = raw(tmp_path / "v.nii.gz")
    stored = gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0)
    place = stored.index(VOLUME.tobytes("F")[:64]) + 41
    path.write_bytes(stored[:place] + bytes([stored[place] ^ 4]) + stored[place + 1 :])
    with pytest.raises(ValueError, match=r"damaged or cut short \(CRC"):
        read_volume(path)


def test_bomb_behind_a_sound_header_is_refused_at_once(tmp_path):
    """300 MB of zeros follow the image, and an extension says that it has no length (nibabel reads it to the end)."""
    path = raw(tmp_path / "v.nii")
    content = path.read_bytes()
    bomb = tmp_path / "v.nii.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(content)
        for _ in range(300):
            file.write(bytes(2**20))
    began = time.process_time()
    with pytest.raises(ValueError, match="the file has more"):
        read_volume(bomb)
    endless = content[:348] + b"\1\0\0\0" + bytes(8) + bytes(16) + content[352:]
    path.write_bytes(endless)
    with pytest.raises(ValueError, match="series "):
        read_volume(raw_offset(path, 376))
    assert time.process_time() - began < 20


def raw_offset(path, offset):
    """The same file, its values said to begin elsewhere."""
    content = path.read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    header["vox_offset"] = offset
    path.write_bytes(header.binaryblock + content[348:])
    return path
