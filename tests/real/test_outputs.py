"""What leaves the bundle, as other programs see it: a DICOM validator, SimpleITK, nibabel, a browser; and kill -9."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

sitk = pytest.importorskip("SimpleITK")
ROOT = Path(__file__).resolve().parents[2]
UNKNOWN_TO_OLD_VALIDATORS = "(0x0008,0x001c)"
"""Synthetic Data, newer than the dictionary of Debian's dicom3tools; no other error is let pass."""
pytestmark = pytest.mark.slow


def script(name, *arguments):
    command = [sys.executable, ROOT / "scripts" / f"{name}.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A bilateral DICOM film with a name, dates and UIDs in its header."""
    out = tmp_path_factory.mktemp("film")
    script("make_phantom", "--out", out / "oai", "--participants", 1, "--seed", 1_000_003, "--size", "demo")
    found = (out / "oai" / "00m").rglob("001")
    source = pydicom.dcmread(next(path for path in found if not path.with_name("002").exists()))
    source.PatientName = "Featherstone^Jane"
    source.PatientBirthDate = "19480229"
    source.save_as(out / "film.dcm")
    return out / "film.dcm"


@pytest.fixture(scope="module", params=["sc", "mr"])
def made(request, film, tmp_path_factory):
    """Both knees with spread, by the shipped weights."""
    out = tmp_path_factory.mktemp(request.param)
    options = ["--side", "both", "--samples", 2, "--steps", 1, "--slices", 20, "--format", "dicom"]
    script("synthesise", film, "--out", out, *options, "--dicom-kind", request.param)
    return request.param, out


def dicom_image(kind, folder):
    if kind == "sc":
        return sitk.ReadImage(str(folder / "0001.dcm"))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("side", ["R", "L"])
@pytest.mark.parametrize("role", ["mri", "spread"])
def test_simpleitk_reads_dicom_and_nifti_to_the_same_place(made, side, role):
    """Brought to the same order of axes, they have one geometry and the same values."""
    kind, out = made
    stem = out / f"film_{side}_{role}_synthetic"
    images = [sitk.ReadImage(f"{stem}.nii.gz"), dicom_image(kind, Path(f"{stem}_dicom"))]
    nifti, dicom = (sitk.DICOMOrient(sitk.Cast(image, sitk.sitkFloat64), "LPS") for image in images)
    assert nifti.GetSize() == dicom.GetSize()
    for geometry in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(nifti, geometry)(), getattr(dicom, geometry)(), atol=1e-5)
    values = sitk.GetArrayFromImage(nifti)
    np.testing.assert_allclose(values, sitk.GetArrayFromImage(dicom), atol=1e-6)
    mirrored = np.abs(values - values[:, :, ::-1]).max()
    assert mirrored > 0.05, "else a mirrored knee would not be seen"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_dciodvfy_finds_no_error(made):
    _, out = made
    files = sorted(out.rglob("*.dcm"))
    assert files
    for path in files:
        found = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
        lines = (found.stdout + found.stderr).splitlines()
        errors = [line for line in lines if "Error" in line and UNKNOWN_TO_OLD_VALIDATORS not in line]
        assert not errors, (path.name, errors)


def test_no_output_names_the_patient(made, film):
    """Header entries of the film, and every UID but the one that the reference to it needs."""
    _, out = made
    source = pydicom.dcmread(film)
    words = {str(element.value) for element in source if element.VR in ("DA", "UI", "LO", "SH", "PN", "AS")}
    common = {str(source.SOPClassUID), str(source.SOPInstanceUID), str(source.Modality)}
    # shorter words turn up in pixels by chance
    words = {word for word in words - common if len(word) > 5} | {"Featherstone", source.PatientID}
    words -= {"synthetic-phantom"}
    assert len(words) > 6
    for path in (path for path in out.rglob("*") if path.is_file()):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert not [word for word in words if word.encode() in content], path.name


def test_nifti_header_is_what_viewers_need(made):
    _, out = made
    for path in out.glob("*.nii.gz"):
        image = nib.load(path)
        header = image.header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (2, 2)
        np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-5)
        assert header.get_xyzt_units()[0] == "mm"
        assert header.get_data_dtype() == np.uint16
        assert bytes(header["descrip"]).rstrip(b"\0") == b"SYNTHETIC, NOT FOR DIAGNOSIS"
        assert not any(bytes(header[field]).strip(b"\0") for field in ("db_name", "aux_file", "intent_name"))
        assert not header.extensions
    for path in out.glob("*.png"):
        assert Image.open(path).text == {"Description": "SYNTHETIC, NOT FOR DIAGNOSIS"}


def test_nothing_is_half_written_after_kill_9_and_the_next_run_goes_on(film, tmp_path):
    folder, out = tmp_path / "films", tmp_path / "out"
    for number in range(6):
        (folder / f"p{number}").mkdir(parents=True)
        shutil.copy(film, folder / f"p{number}" / "film.dcm")
    command = [sys.executable, ROOT / "scripts" / "synthesise.py", folder, "--side", "R", "--out", out]
    command += ["--mean", "--json", "--format", "dicom"]
    running = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    running.stdout.readline()
    time.sleep(0.7)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = set(out.glob("*.json"))
    assert before
    for sidecar in before:
        assert all((out / name).exists() for name in json.loads(sidecar.read_text())["files"])
    for path in out.glob("*.nii.gz"):
        assert np.isfinite(nib.load(path).get_fdata()).all()
    lines = [json.loads(line) for line in script("synthesise", *command[2:]).splitlines()]
    assert len(lines) == 6
    assert sum(line["skipped"] for line in lines) == len(before)
    assert not list(out.glob(".unfinished-*"))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_a_machine_without_network_makes_a_volume(film, tmp_path):
    probe = subprocess.run(["unshare", "-rn", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    command = ["unshare", "-rn", sys.executable, ROOT / "scripts" / "synthesise.py", film, "--side", "R", "--mean"]
    done = subprocess.run([*map(str, command), "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


TURN = """<script>
const figure = document.querySelector('[data-plane=coronal]'), stack = figure.querySelector('.stack');
const slider = figure.querySelector('input'), seen = [];
for (const value of [1, 7, 20]) {
  slider.value = value; slider.dispatchEvent(new Event('input'));
  seen.push(Math.round(stack.scrollTop / +figure.dataset.frame) + 1);
}
document.title = 'seen ' + seen.join(' ');
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_sliders_of_the_page_move_the_picture(made, film, tmp_path):
    kind, out = made
    if kind == "mr":
        pytest.skip("the page is the same for either kind of DICOM")
    stem = out / "film_L_mri_synthetic"
    spread = f"{out}/film_L_spread_synthetic.nii.gz"
    printed = script("view", f"{stem}.nii.gz", "--film", film, "--spread", spread, "--out", tmp_path / "view.html")
    assert Path(printed.strip()) == tmp_path / "view.html"
    page = (tmp_path / "view.html").read_text()
    (tmp_path / "turned.html").write_text(page.replace("</body>", TURN + "</body>"))
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1500,760"]
    browser += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000"]
    dumped = subprocess.run(
        [*browser, "--dump-dom", f"file://{tmp_path}/turned.html"], capture_output=True, text=True, timeout=120
    )
    assert re.search(r"<title>seen ([\d ]+)</title>", dumped.stdout).group(1) == "1 7 20"
    shots = []
    for name, address in {"a": "coronal=3&overlay=0", "b": "coronal=12&overlay=0", "c": "coronal=12&overlay=1"}.items():
        target = tmp_path / f"{name}.png"
        subprocess.run(
            [*browser, f"--screenshot={target}", f"file://{tmp_path}/view.html#{address}"],
            capture_output=True,
            timeout=120,
            check=True,
        )
        shots.append(np.asarray(Image.open(target).convert("RGB"), dtype=float))
    coronal = (slice(175, 520), slice(400, 740))
    assert np.abs(shots[0][coronal] - shots[1][coronal]).mean() > 5
    grey = shots[1][coronal]
    assert np.abs(grey[40:, 40:, 0] - grey[40:, 40:, 2]).mean() < 2
    coloured = shots[2][coronal]
    assert (coloured[40:, 40:, 0] - coloured[40:, 40:, 2]).mean() > 5
