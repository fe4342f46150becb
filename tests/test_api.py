"""The bundle as a library and as a command: geometry, sides, seeds, identity of weights, and bad input."""

import gzip
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

import bundle
from bundle.api import Synthesiser
from bundle.geometry import Grid
from bundle.transforms import film_trial
from bundle.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """The compact network on a 64 x 64 grid, untrained, with no layer at zero: everything reaches the output."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / "inference.json"), str(ROOT / "configs" / "smoke.json")])
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    for parameter in network.denoiser.parameters():
        if not parameter.abs().max():
            torch.nn.init.normal_(parameter, std=0.1)
    return save_weights(network, tmp_path_factory.mktemp("weights") / "model.pt", trained_on="synthetic-phantom; test")


@pytest.fixture(scope="session")
def synthesiser(weights):
    return Synthesiser(ROOT, weights=weights)


@pytest.fixture(scope="session")
def films(phantom_oai):
    """The bilateral films of the cohort: series of a single file."""
    found = sorted(path for path in phantom_oai.glob("00m/*/*/*/*/001") if not path.with_name("002").exists())
    assert found
    return found


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """The same with covariates in denoiser and mean head."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / "inference.json"), str(ROOT / "configs" / "smoke.json")])
    parser["covariates"] = "mask"
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    for parameter in network.parameters():
        if not parameter.abs().max():
            torch.nn.init.normal_(parameter, std=0.1)
    path = save_weights(network, tmp_path_factory.mktemp("told") / "model.pt", trained_on="synthetic-phantom; test")
    return Synthesiser(ROOT, weights=path)


def quick(synthesiser, film, **options):
    return synthesiser(film, slices=4, steps=1, **options)


def test_a_left_knee_comes_out_as_the_mirror_of_a_right_one(synthesiser, prepared, tmp_path):
    source = nib.load(next((prepared / "films").glob("*.nii.gz")))
    mirrored = nib.Nifti1Image(np.asarray(source.dataobj)[:, ::-1], source.affine, source.header)
    nib.save(source, tmp_path / "right.nii.gz")
    nib.save(mirrored, tmp_path / "left.nii.gz")
    right = quick(synthesiser, tmp_path / "right.nii.gz", side="R")
    left = quick(synthesiser, tmp_path / "left.nii.gz", side="L")
    assert torch.equal(left.volume.as_tensor(), right.volume.as_tensor().flip(-2))
    assert torch.equal(left.volume.affine, right.volume.affine)
    assert torch.equal(left.film.as_tensor(), right.film.as_tensor().flip(-1))
    assert not torch.equal(left.volume.as_tensor(), right.volume.as_tensor())


def test_the_volume_lies_where_the_grid_says(synthesiser, films):
    """2.5 mm in plane and 1.5 mm in depth; the joint's centre is the in-plane origin."""
    volume = synthesiser(films[0], side="R", steps=1).volume
    assert volume.shape == (1, 64, 64, 50)
    affine = volume.affine.numpy()
    assert nib.aff2axcodes(affine) == ("I", "L", "A")
    np.testing.assert_allclose(nib.affines.voxel_sizes(affine), [2.5, 2.5, 1.5])
    middle = affine @ [31.5, 31.5, 24.5, 1]
    np.testing.assert_allclose(middle[[0, 2]], 0, atol=1e-9)
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], Grid.of(image_size=64, slices=50).affine()[:, 3])
    assert volume.min() >= 0
    assert volume.max() <= 1


def test_more_slices_and_single_depths_lie_inside_the_same_window(synthesiser, films):
    many = synthesiser(films[0], side="R", slices=99, steps=1).volume
    few = synthesiser(films[0], side="R", depths=[0.0, 21 / 49, 42 / 49], steps=1).volume
    assert many.shape[-1] == 99
    np.testing.assert_allclose(nib.affines.voxel_sizes(many.affine.numpy()), [2.5, 2.5, 0.75])
    np.testing.assert_allclose(many.affine.numpy() @ [0, 0, 84, 1], few.affine.numpy() @ [0, 0, 2, 1])
    whole = synthesiser(films[0], side="R", steps=1).volume
    torch.testing.assert_close(whole[..., [0, 21, 42]].as_tensor(), few.as_tensor(), atol=2e-4, rtol=0)


def test_the_sides_of_a_bilateral_film_are_two_knees(synthesiser, films):
    right, left = (quick(synthesiser, films[0], side=side) for side in "RL")
    assert (right.film - left.film).abs().mean() > 0.02
    assert right.record["side"] == "R"
    with pytest.raises(ValueError, match="--side"):
        quick(synthesiser, films[0])


def test_a_film_gives_the_same_volume_from_dicom_as_prepared(synthesiser, prepared, phantom_oai):
    """Preparation and inference cut the same region: the two films agree up to 16-bit storage."""
    item = json.loads((prepared / "dataset.json").read_text())["training"][0]
    found = phantom_oai.glob(f"00m/*/{item['participant']}/*/*/001")
    dicom = next(path for path in found if not path.with_name("002").exists())
    raw = quick(synthesiser, dicom, side="R")
    stored = quick(synthesiser, prepared / item["film"], side="R")
    torch.testing.assert_close(raw.film.as_tensor(), stored.film.as_tensor(), atol=1e-4, rtol=0)


def test_seed_and_samples(synthesiser, films):
    first, again = (quick(synthesiser, films[0], side="R", seed=1).volume for _ in range(2))
    assert torch.equal(first.as_tensor(), again.as_tensor())
    three = quick(synthesiser, films[0], side="R", seed=1, samples=3)
    draws = [synthesiser.network(three_film(three), slices=4, steps=1, seed=1, sample=k) for k in range(3)]
    stack = torch.stack([(draw[0] + 1) / 2 for draw in draws])
    torch.testing.assert_close(three.volume.as_tensor(), stack.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(three.spread.as_tensor(), stack.std(0), atol=1e-4, rtol=0)


def three_film(result):
    return result.film.as_tensor()[None] * 2 - 1


def test_readings_change_the_volume_and_unknown_ones_are_refused(synthesiser, films):
    without = quick(synthesiser, films[0], side="R").volume
    with_grade = quick(synthesiser, films[0], readings={"XRKL": 4, "XRJSM": 3}, side="R")
    assert (without - with_grade.volume).abs().max() > 1e-3
    assert with_grade.record["readings"] == {"XRKL": 4, "XRJSM": 3}
    with pytest.raises(ValueError, match="unknown reading `XRXX`"):
        quick(synthesiser, films[0], readings={"XRXX": 1}, side="R")
    with pytest.raises(ValueError, match="`XRKL` must be a whole grade from 0 to 4"):
        quick(synthesiser, films[0], readings={"XRKL": 5}, side="R")


def test_covariates_change_samples_and_mean_of_weights_that_know_them(told, films):
    given = {"age": 61, "sex": "F", "bmi": 27.5}
    for mean in (False, True):
        without, known, side = (
            quick(told, films[0], side="R", mean=mean, covariates=covariates)
            for covariates in (None, given, {"side": "R", "age": None})
        )
        assert known.record["covariates"] == given
        assert without.record["covariates"] == {}
        assert (without.volume - known.volume).abs().max() > 1e-3
        assert torch.equal(without.volume.as_tensor(), side.volume.as_tensor()), "the film's side is always known"
    with pytest.raises(ValueError, match=r"covariates say side L, the film's knee is R"):
        quick(told, films[0], side="R", covariates={"side": "L"})


def test_covariates_are_refused_by_weights_that_know_none_and_outside_their_limits(synthesiser, weights, films):
    with pytest.raises(ValueError, match=r"covariates age, bmi: weights .* were trained without any"):
        quick(synthesiser, films[0], side="R", covariates={"age": 61, "bmi": 30})
    with pytest.raises(ValueError, match="`age` must be a number from 18 to 120"):
        quick(synthesiser, films[0], side="R", covariates={"age": 6})
    with pytest.raises(ValueError, match="trained without any"):
        bundle.synthesise(films[0], side="R", covariates={"sex": "M"}, weights=weights, root=ROOT)


@pytest.fixture(scope="session")
def png(films, tmp_path_factory):
    """A film as a picture: no spacing, no mark of its origin."""
    dataset = pydicom.dcmread(films[0])
    pixels = dataset.pixel_array.astype(float)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 4095 - pixels
    path = tmp_path_factory.mktemp("png") / "film.png"
    Image.fromarray((pixels / 4095 * 255).astype(np.uint8)).save(path)
    return path


def test_phantom_weights_are_refused_on_a_film_that_may_be_real(weights, png):
    options = {"side": "R", "spacing_mm": 1.6, "weights": weights, "root": ROOT, "slices": 2}
    with pytest.raises(ValueError, match="accept-phantom-weights"):
        bundle.synthesise(png, **options)
    assert bundle.synthesise(png, accept_phantom_weights=True, **options).shape == (1, 64, 64, 2)


def test_a_picture_gives_nearly_the_volume_of_its_dicom(weights, synthesiser, films, png):
    from_png = Synthesiser(ROOT, weights=weights, spacing_mm=1.6)(
        png, side="R", slices=4, steps=1, accept_phantom_weights=True
    )
    from_dicom = quick(synthesiser, films[0], side="R")
    assert (from_png.film - from_dicom.film).abs().mean() < 0.02


def run(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "synthesise.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent)


def test_the_command_writes_marked_files_and_says_where(weights, films, tmp_path):
    done = run(films[0], "--side", "both", "--out", tmp_path, "--weights", weights, "--slices", 3, "--samples", 2)
    assert done.returncode == 0, done.stderr
    for side in "RL":
        image = nib.load(tmp_path / f"001_{side}_mri_synthetic.nii.gz")
        assert image.shape == (64, 64, 3)
        assert b"SYNTHETIC" in bytes(image.header["descrip"])
        record = json.loads((tmp_path / f"001_{side}_mri_synthetic.json").read_text())
        assert record["synthetic"] is True
        assert record["trained_on"].startswith("synthetic-phantom")
        assert len(record["weights_sha256"]) == 16
        assert (tmp_path / f"001_{side}_spread_synthetic.nii.gz").is_file()
        assert Image.open(tmp_path / f"001_{side}_mri_synthetic.png").size[0] > 500
    listed = [Path(line) for line in done.stdout.split()]
    assert sorted(listed) == sorted(tmp_path.iterdir())


def bad_input(kind, films, png, weights, tmp_path):
    """Arguments of a call that must fail, and a word of its reason."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.dcm").write_bytes(films[0].read_bytes()[:3000])
    (tmp_path / "noise.dcm").write_bytes(bytes(range(256)) * 8)
    film = [films[0], "--side", "R"]
    return {
        "missing film": ([tmp_path / "none.dcm"], "no such file"),
        "empty folder": ([tmp_path / "empty"], "no film"),
        "truncated DICOM": ([tmp_path / "broken.dcm", "--side", "R"], "broken.dcm"),
        "not a film": ([tmp_path / "noise.dcm", "--side", "R"], "noise.dcm"),
        "missing weights": ([*film, "--weights", tmp_path / "none.pt"], "make weights"),
        "no spacing": ([png, "--side", "R"], "--spacing"),
        "no side": ([films[0]], "--side"),
        "unknown reading": ([*film, "--readings", "XRFOO=1"], "unknown reading"),
        "unknown grade": ([*film, "--readings", "XRKL=9"], "0 to 4"),
        "malformed reading": ([*film, "--readings", "XRKL"], "no such file"),
        "malformed covariate": ([*film, "--covariates", "61"], "NAME=VALUE"),
        "unknown covariate": ([*film, "--covariates", "height=170"], "unknown covariate `height`"),
        "covariate of other weights": ([*film, "--covariates", "age=61", "sex=F"], "trained without any"),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "missing film",
        "empty folder",
        "truncated DICOM",
        "not a film",
        "missing weights",
        "no spacing",
        "no side",
        "unknown reading",
        "unknown grade",
        "malformed reading",
        "malformed covariate",
        "unknown covariate",
        "covariate of other weights",
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(kind, films, png, weights, tmp_path, monkeypatch, capsys):
    """The script itself, run in this process to spare the imports."""
    arguments, reason = bad_input(kind, films, png, weights, tmp_path)
    if "--weights" not in map(str, arguments):
        arguments = [*arguments, "--weights", weights]
    script = str(ROOT / "scripts" / "synthesise.py")
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    assert ended.value.code not in (0, None)
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert reason in errors[0]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert not printed.out.strip()


def call(monkeypatch, *arguments):
    """The script in this process; its exit code."""
    script = str(ROOT / "scripts" / "synthesise.py")
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    return ended.value.code


@pytest.fixture
def no_network(monkeypatch):
    """Whoever looks up a name or opens a connection fails."""

    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)


def test_a_folder_is_made_resumed_and_counted_without_network(
    weights, films, tmp_path, monkeypatch, capsys, no_network
):
    """Two films of one name, one that is none; the second run makes nothing again, until something changes."""
    for number, film in enumerate(films[:2]):
        (tmp_path / "in" / f"p{number}").mkdir(parents=True)
        shutil.copy(film, tmp_path / "in" / f"p{number}" / "001")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "in" / "out"  # what lies there is no film
    common = [tmp_path / "in", "--side", "R", "--out", out, "--weights", weights, "--slices", 2, "--steps", 1, "--json"]

    def run(*options):
        assert call(monkeypatch, *common, *options) == 1
        printed = capsys.readouterr()
        lines = [json.loads(line) for line in printed.out.splitlines()]
        assert len(lines) == 3
        assert "1 of 3 volumes could not be made" in printed.err
        (bad,) = [line for line in lines if "error" in line]
        assert bad["film"].endswith("bad.png")
        return [line for line in lines if "error" not in line]

    made = run()
    assert {Path(line["files"][0]).name for line in made} == {f"p{n}_001_mri_synthetic.nii.gz" for n in (0, 1)}
    assert not any(line["skipped"] for line in made)
    record = json.loads((out / "p0_001_mri_synthetic.json").read_text())
    assert 0 < record["knee_confidence"] <= 1
    assert record["bundle_version"] == bundle.__version__
    assert made[0]["weights_sha256"] == record["weights_sha256"]
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert all(line["skipped"] for line in run())
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    (out / "p1_001_mri_synthetic.png").unlink()
    assert sorted(line["skipped"] for line in run()) == [False, True]
    assert not any(line["skipped"] for line in run("--seed", 3))
    assert not any(line["skipped"] for line in run("--seed", 3, "--overwrite"))


def test_dicom_comes_beside_the_nifti_and_names_nobody_unless_told(weights, films, tmp_path, monkeypatch, capsys):
    source = pydicom.dcmread(films[0])
    source.PatientName, source.PatientBirthDate = "Featherstone^Jane", "19480229"
    source.PatientAddress, source.InstitutionName = "12 Mulberry Lane", "Saint Elsewhere"
    (tmp_path / "in").mkdir()
    source.save_as(tmp_path / "in" / "film")
    common = [tmp_path / "in" / "film", "--side", "L", "--weights", weights, "--slices", 2, "--steps", 1]
    common += ["--samples", 2, "--format", "dicom"]
    secret = [
        "19480229",
        "Mulberry",
        "Elsewhere",
        source.PatientID,
        "Featherstone",
        source.StudyDate,
        source.StudyInstanceUID,
        source.SeriesInstanceUID,
    ]
    for out, options, kept in (
        ("a", [], []),
        ("b", ["--dicom-kind", "mr", "--keep-identity"], [source.PatientID, "Featherstone", source.StudyInstanceUID]),
    ):
        assert call(monkeypatch, *common, "--out", tmp_path / out, *options) == 0
        files = [path for path in (tmp_path / out).rglob("*") if path.is_file()]
        names = {path.relative_to(tmp_path / out).parts[0] for path in files}
        assert {f"film_{role}_synthetic_dicom" for role in ("mri", "spread")} < names
        for path in files:
            content = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
            found = [word for word in secret if word.encode() in content]
            assert set(found) == set(kept if path.suffix == ".dcm" else ()), path
        (first, *_) = sorted((tmp_path / out / "film_mri_synthetic_dicom").iterdir())
        dataset = pydicom.dcmread(first)
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert dataset.Laterality == "L"
        assert str(json.loads((tmp_path / out / "film_mri_synthetic.json").read_text())["weights_sha256"]) in (
            dataset.DerivationDescription
        )
    assert sum(line.endswith("_dicom") for line in capsys.readouterr().out.splitlines()) == 4


def test_dicom_options_without_dicom_are_refused(weights, films, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, films[0], "--out", tmp_path, "--weights", weights, "--keep-identity") == 1
    assert "--format dicom" in capsys.readouterr().err


def test_film_that_ends_its_decoder_is_one_error_and_the_others_are_made(weights, films, tmp_path, monkeypatch, capsys):
    """GDCM throws where nothing catches; here the trial dies in its place over one film of two."""
    shutil.copy(films[0], tmp_path / "bad.dcm")
    shutil.copy(films[0], tmp_path / "good.dcm")

    def die(path, **_):
        return os.kill(os.getpid(), signal.SIGKILL) if path.name == "bad.dcm" else None

    monkeypatch.setattr(film_trial, "read_film", die)
    common = ["--side", "R", "--out", tmp_path / "out", "--weights", weights, "--slices", 2, "--steps", 1]
    assert call(monkeypatch, tmp_path / "bad.dcm", tmp_path / "good.dcm", *common) == 1
    printed = capsys.readouterr()
    assert "bad.dcm: cannot be read (it ends the process that reads it" in printed.err
    assert "good_mri_synthetic.nii.gz" in printed.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 0}, "`slices` must lie between 1 and 512, got 0"),
        ({"slices": 100_000}, "`slices` must lie between"),
        ({"steps": 0}, "`steps` must lie between 1 and 1000, got 0"),
        ({"steps": -1}, "`steps` must lie between"),
        ({"depths": [float("nan")]}, "`depths` must be at most 512 numbers"),
        ({"depths": [0.5] * 600}, "`depths` must be at most 512 numbers"),
    ],
)
def test_numbers_that_no_volume_has_are_refused(synthesiser, films, options, message):
    """Of slices and steps 0 would silently mean the network's own number."""
    with pytest.raises(ValueError, match=message):
        synthesiser(films[0], side="R", **options)


def test_the_place_of_another_film_is_not_taken(weights, films, tmp_path, monkeypatch, capsys):
    common = ["--side", "R", "--out", tmp_path, "--weights", weights, "--slices", 2, "--steps", 1]
    assert call(monkeypatch, films[0], *common) == 0
    assert call(monkeypatch, films[1], *common) == 1
    assert "another film" in capsys.readouterr().err
    assert call(monkeypatch, films[1], *common, "--overwrite") == 0
