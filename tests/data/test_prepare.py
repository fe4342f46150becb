"""A release to a prepared set: geometry, sides, splits, counts, resuming, and agreement with the phantom's truth."""

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fabricate_oai as oai
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd
from small_release import SMALL, entries, knees, quiet, table

from bundle.data import Options, Series, find_knee, pairs, prepare, split_of
from bundle.data.datalist import SPLITS, source
from bundle.data.prepare_knee import resample_series
from bundle.geometry import Grid
from bundle.networks.knee_finder import KneeFinder
from bundle.transforms import CanonicalSided, FlattenFilmd, LoadFilm, LoadFilmd, NormaliseFilmd, ToGridd

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Two participants, one of them with both knees scanned."""
    tree = oai.Tree(tmp_path_factory.mktemp("release with space"))
    knees(tree, ["9000001"], sides="RL")
    knees(tree, ["9000002"])
    table(tree, ["9000001", "9000002"])
    return tree.root


@pytest.fixture(scope="module")
def done(release, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    return out, prepare(release, out, SMALL, workers=1, say=quiet)


def series(slices, pitch=1.5, size=64, edge=2.5):
    volume = oai.knee_volume(size, size, slices).astype(np.float32)
    affine = np.array([[0, -edge, 0, 90.0], [0, 0, pitch, -55], [-edge, 0, 0, 30], [0, 0, 0, 1]])
    return Series(volume, affine, "R", True, "9000001", "COR_T1_3D_FLASH_RIGHT")


def test_eighty_slices_of_the_protocol_are_cut_and_not_interpolated():
    whole = series(80)
    values, affine = resample_series(whole, image_size=64, slices=50)
    np.testing.assert_array_equal(values, whole.volume[..., 13:63])
    expected = whole.affine.copy()
    expected[:3, 3] += 13 * whole.affine[:3, 2]
    np.testing.assert_allclose(affine, expected, atol=1e-12)


@pytest.mark.parametrize(("slices", "pitch"), [(79, 1.5), (72, 1.5), (160, 0.75), (60, 2.0), (80, 1.5)])
def test_every_voxel_stays_where_it_was(slices, pitch):
    """A volume whose value is its own antero-posterior place in mm holds it after resampling, for any slice count."""
    whole = series(slices, pitch)
    place = whole.affine[1, 3] + pitch * np.arange(slices)
    ramp = Series(np.broadcast_to(place, whole.volume.shape).astype(np.float32), whole.affine, "R", True, "", "")
    values, affine = resample_series(ramp, image_size=32, slices=50)
    np.testing.assert_allclose(values[5, 5], affine[1, 3] + affine[1, 2] * np.arange(50), atol=0.3)
    assert affine[1, 2] == pytest.approx(1.5)
    # the middle of the field of view is the middle of the series
    np.testing.assert_allclose((affine @ [15.5, 15.5, 0, 1])[::2], (whole.affine @ [31.5, 31.5, 0, 1])[::2])


@pytest.mark.parametrize("kept", [slice(0, 79), slice(1, 80), slice(4, 76), slice(0, 72), slice(20, 72)])
def test_fewer_slices_land_on_the_same_physical_grid(kept):
    """What is prepared of a part of a knee's slices is what SimpleITK finds in the whole at the same places in mm."""
    whole = series(80)
    affine = whole.affine.copy()
    affine[:3, 3] += kept.start * affine[:3, 2]
    part = Series(whole.volume[..., kept], affine, "R", True, "", "")
    values, affine = resample_series(part, image_size=64, slices=50)
    reference = resample_series(whole, image_size=64, slices=50)[1]
    np.testing.assert_allclose(affine[:3, :3], reference[:3, :3], atol=1e-9)
    shift = (affine - reference)[:3, 3]
    np.testing.assert_allclose(shift[[0, 2]], 0, atol=1e-9)
    # half of what one end lost, half a slice to begin with one, and 3 mm where a short series ends
    assert abs(shift[1]) <= abs((kept.start + kept.stop) / 2 - 40) * 1.5 + 0.75 + 3 * (kept.stop - kept.start < 54)

    def itk(array, matrix):
        """An array whose axes are rows, columns, slices, as SimpleITK's image: x is the first axis of the affine."""
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
        lps = np.diag([-1, -1, 1, 1]) @ matrix
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        return image

    found = SimpleITK.Resample(itk(whole.volume, whole.affine), itk(values, affine), SimpleITK.Transform(3, 1))
    np.testing.assert_allclose(SimpleITK.GetArrayFromImage(found).transpose(2, 1, 0), values, atol=0.01)


def test_a_series_that_is_not_as_deep_as_the_window_is_refused():
    with pytest.raises(ValueError, match="is 60 mm deep from back to front; expected 75"):
        resample_series(series(40), image_size=64, slices=50)


def test_smaller_fields_are_filled_and_much_smaller_ones_refused():
    whole = series(80, edge=140 / 64)
    values, _ = resample_series(whole, image_size=64, slices=50)
    assert (values[0] == whole.volume.min()).all()
    assert (values[32, 8:56] > whole.volume.min()).all()
    with pytest.raises(ValueError, match="covers 64 x 64 mm"):
        resample_series(series(80, edge=1.0), image_size=64, slices=50)
    with pytest.raises(ValueError, match="has 8 slices; expected 25"):
        resample_series(series(8), image_size=64, slices=50)


def test_files_are_on_the_grid_in_zero_to_one(done):
    out, _ = done
    for entry in entries(out):
        film, mri = nib.load(out / entry["film"]), nib.load(out / entry["mri"])
        np.testing.assert_allclose(film.affine, Grid.of(image_size=64, slices=50).film_affine(), atol=1e-4)
        assert film.shape == (64, 64, 1)
        assert mri.shape == (64, 64, 50)
        assert nib.aff2axcodes(mri.affine) == ("I", "L", "A")
        np.testing.assert_allclose(mri.header.get_zooms(), (2.5, 2.5, 1.5))
        for image in (film, mri):
            values = image.get_fdata()
            assert values.min() == 0
            assert values.max() == pytest.approx(1, abs=1e-6)
            assert values.max() <= 1


def test_left_knee_is_true_in_the_file_and_mirrored_by_the_chain(done):
    """The left knee was made as the right one's mirror: equal after loading, mirrored in the file."""
    out, _ = done
    chain = Compose(
        [
            LoadFilmd("image"),
            NormaliseFilmd("image"),
            CanonicalSided("image"),
            FlattenFilmd("image"),
            LoadImaged("mri", image_only=True),
            EnsureChannelFirstd("mri", channel_dim="no_channel"),
            Orientationd("mri", axcodes="ILA", labels=None),
            ToGridd("mri", image_size=64),
            CanonicalSided("mri"),
        ]
    )
    found = {entry["side"]: entry for entry in entries(out) if entry["participant"] == "9000001"}
    raw = {side: nib.load(out / entry["mri"]).get_fdata() for side, entry in found.items()}
    np.testing.assert_allclose(raw["L"], raw["R"][:, ::-1], atol=1e-4)
    loaded = {
        side: chain({"image": str(out / entry["film"]), "mri": str(out / entry["mri"]), "side": side})
        for side, entry in found.items()
    }
    for key in ("image", "mri"):
        left, right = (loaded[side][key].numpy() for side in "LR")
        assert np.abs(left - right).mean() < 0.3 * np.abs(left - right[:, :, ::-1]).mean()
    positions = {side: nib.load(out / found[side]["mri"]).affine[0, 3] for side in "LR"}
    assert positions["L"] < positions["R"]  # in RAS the patient's right is positive


def test_entries_have_what_the_datalist_promises(done):
    out, report = done
    items = [item for split in SPLITS if report["counts"][split] for item in pairs(out, split)]
    assert len(items) == 3
    assert all(Path(item["image"]).is_file() and Path(item["mri"]).is_absolute() for item in items)
    assert items[0]["readings"]["XRKL"] == 1
    assert items[0]["readings"]["XROSFM"] is None
    assert (items[0]["age"], items[0]["sex"], items[0]["site"]) == (61, "F", "B")
    assert np.isnan(items[0]["bmi"])
    assert source(out) == "oai"


def test_report_accounts_for_every_knee(done):
    out, report = done
    counts = report["counts"]
    assert (counts["pairs"], counts["prepared"], counts["rejected"]) == (3, 3, 0)
    assert sum(counts[split] for split in SPLITS) == 3
    assert json.loads((out / "report.json").read_text()) == report
    with (out / "rejected.csv").open() as file:
        assert [row["knee"] for row in csv.DictReader(file)] == ["9000002_L_00m"]


def test_bad_knees_are_skipped_with_a_reason_that_names_no_path_or_date(tmp_path):
    tree = oai.Tree(tmp_path / "oai")
    knees(tree, ["9000001"])
    knees(tree, ["9000002"], edit_series=lambda slices: slices[:40] + slices[41:])
    knees(tree, ["9000003"], edit_film=lambda film: delattr(film, "ImagerPixelSpacing"))
    knees(tree, ["9000004"], edit_series=lambda slices: slices[:8])
    knees(tree, ["9000005"], edit_film=lambda film: setattr(film, "PixelData", bytes(len(film.PixelData))))
    knees(tree, ["9000006"], edit_film=lambda film: setattr(film, "ImagerPixelSpacing", [0.05, 0.05]))
    table(tree, ["9000001"])
    out = tmp_path / "out"
    report = prepare(tree.root, out, SMALL, workers=2, say=quiet)
    reasons = {item["knee"]: item["reason"] for item in report["dropped"]}
    for knee, reason in {
        "9000002_R_00m": "there is a gap",
        "9000003_R_00m": "--spacing MM",
        "9000004_R_00m": "has 8 slices",
        "9000005_R_00m": "same value",
        "9000006_R_00m": "pixel spacing",
    }.items():
        assert reason in reasons[knee]
    assert report["counts"]["prepared"] == 1
    assert report["counts"]["rejected"] == 5
    for path in (path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes() if path.suffix != ".gz" else nib.load(path).header.binaryblock
        assert not re.search(rb"20050131|Doe|" + str(tree.root).encode(), content), path
    with_spacing = prepare(tree.root, tmp_path / "b", Options(image_size=64, spacing_mm=1.0), workers=1, say=quiet)
    assert with_spacing["counts"]["prepared"] == 2


def test_nothing_usable_is_an_error(tmp_path):
    tree = oai.Tree(tmp_path / "oai")
    knees(tree, ["9000001"], edit_series=lambda slices: slices[:8])
    table(tree, ["9000001"])
    with pytest.raises(ValueError, match="no usable knee among 1 pairs; the commonest reason: series: has 8 slices"):
        prepare(tree.root, tmp_path / "out", SMALL, workers=1, say=quiet)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_interrupted_preparation_goes_on(release, done, tmp_path):
    """Finished knees are kept (their files are not written again), what is half-written is cleared away."""
    out = tmp_path / "out"
    prepare(release, out, SMALL, workers=1, say=quiet)
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/*.nii.gz")}
    lost = sorted(times)[0]
    lost.unlink()
    half = out / "volumes" / ".123.half.nii.gz"
    half.write_bytes(b"half")
    report = prepare(release, out, SMALL, workers=1, say=quiet)
    assert report == done[1]
    assert lost.is_file()
    assert not half.exists()
    name = lost.name
    assert all(path.stat().st_mtime_ns == times[path] for path in times if path.name != name)
    with pytest.raises(ValueError, match="other options"):
        prepare(release, out, Options(image_size=32), workers=1, say=quiet)


def test_split_is_by_participant_and_moves_nobody():
    names = [str(9_000_000 + 7 * n) for n in range(20_000)]
    shares = Counter(map(split_of, names))
    for split, share in zip(SPLITS, (0.7, 0.2, 0.1), strict=True):
        assert shares[split] / len(names) == pytest.approx(share, abs=0.01)
    assert [split_of(name) for name in names[:50]] == [split_of(name) for name in names][:50]


def test_grade0_is_oais_rule(release, tmp_path):
    prepare(release, tmp_path, Options(image_size=64, missing="grade0"), workers=1, say=quiet)
    assert entries(tmp_path)[0]["readings"]["XROSFM"] == 0


def test_two_processes_write_what_one_writes(release, done, tmp_path):
    prepare(release, tmp_path, SMALL, workers=2, say=quiet)
    for path in sorted(done[0].glob("*/*.nii.gz")):
        twin = tmp_path / path.relative_to(done[0])
        np.testing.assert_array_equal(nib.load(path).dataobj, nib.load(twin).dataobj)
    assert (tmp_path / "dataset.json").read_bytes() == (done[0] / "dataset.json").read_bytes()


def test_command_without_data_ends_in_one_line(tmp_path):
    arguments = ["--oai", str(tmp_path / "absent"), "--out", str(tmp_path / "b")]
    bad = subprocess.run(
        [sys.executable, "scripts/prepare_data.py", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert bad.returncode == 1
    assert bad.stdout == ""
    assert re.fullmatch(r"error: OAI data .*absent: no such folder\.\n", bad.stderr)


def test_prepared_volume_agrees_with_the_phantoms_truth_to_a_voxel(phantom_oai, prepared):
    """Bones are dark and cartilage bright where the labels say so, and a shift by a voxel makes it worse."""
    raw, out = phantom_oai, prepared
    assert source(out) == "synthetic-phantom"
    for entry in entries(out):
        mri = nib.load(out / entry["mri"])
        truth = nib.load(raw / "truth" / f"{entry['participant']}_{entry['side']}_labels.nii.gz")
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(truth.affine), nib.orientations.axcodes2ornt(tuple("ILA"))
        )
        truth = truth.as_reoriented(turn)
        # where the prepared volume's first voxel lies in the truth: a whole number of voxels, the window's first slice
        first = np.linalg.inv(truth.affine) @ mri.affine @ [0, 0, 0, 1]
        np.testing.assert_allclose(first[:3], [0, 0, 13], atol=1e-3)
        labels = np.asarray(truth.dataobj)[..., 13:63].astype(int)
        values = mri.get_fdata()
        bone, cartilage = np.isin(labels, (1, 2)), labels == 5

        def contrast(shift, axis, values=values, bone=bone, cartilage=cartilage):
            moved = np.roll(values, shift, axis)
            return moved[cartilage].mean() - moved[bone].mean()

        here = contrast(0, 0)
        assert here > 0.2
        assert all(contrast(shift, axis) < here for axis in range(3) for shift in (-1, 1))


def test_phantom_films_are_cut_within_2_mm_of_the_true_joint(phantom_oai):
    """The shipped finder against the phantom's landmarks, both knees of every film."""
    finder = KneeFinder.load(ROOT / "models/knee_finder.pt")
    films = [path for path in phantom_oai.glob("00m/*/*/*/*") if len(list(path.iterdir())) == 1]
    assert len(films) == 12
    for folder in films:
        film = LoadFilm()(folder / "001")
        edge = float(film.affine[:3, 0].norm())
        for side in "RL":
            truth = json.loads((phantom_oai / "truth" / f"{folder.parts[-3]}_{side}.json").read_text())
            row, column = truth["film_pixels"]["joint_centre"]
            knee = find_knee(film, side, finder)
            assert np.hypot(knee.row_mm - row * edge, knee.column_mm - column * edge) < 2
