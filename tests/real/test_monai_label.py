"""`make label`: the real server, over HTTP, against `scripts/synthesise.py`; and what a request can not do."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.transforms.film_files import read_film
from bundle.weights import read_weights
from bundle.writers.mark import MODEL

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("dcm", "png", "nii.gz")
START_S = 500
"""Longest wait for the server, its environment's set-up not counted."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix" or shutil.which("make") is None, reason="needs make on a POSIX system"),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """One bilateral phantom film in three formats."""
    folder = tmp_path_factory.mktemp("films")
    options = ["--out", str(folder / "oai"), "--participants", "1", "--seed", "5", "--size", "test"]
    subprocess.run([sys.executable, str(ROOT / "scripts/make_phantom.py"), *options], check=True, capture_output=True)
    source = next(p for p in sorted((folder / "oai/00m").rglob("001")) if not p.with_name("002").exists())
    film = read_film(source)
    paths = {ending: folder / f"{ending[:3]}.{ending}" for ending in FORMATS}
    shutil.copyfile(source, paths["dcm"])
    Image.fromarray((film.pixels / film.pixels.max() * 65535).astype(np.uint16)).save(paths["png"])
    image = nib.Nifti1Image(film.pixels[..., None], film.affine)
    image.header["descrip"] = b"synthetic-phantom"
    nib.save(image, paths["nii.gz"])
    return paths, float(np.linalg.norm(film.affine[:3, 0]))


@pytest.fixture(scope="module")
def environment():
    """`.venv-label`, as the make target sets it up."""
    done = subprocess.run(["sh", "requirements/install.sh", "label"], cwd=ROOT, capture_output=True, text=True)
    unreachable = ("Failed to fetch", "Could not find a version", "ConnectionError", "dns error", "Max retries")
    if done.returncode and any(sign in done.stderr for sign in unreachable):
        pytest.skip("the package index cannot be reached, and MONAI Label is not installed")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def server(environment, tmp_path_factory):
    """Address of a server that `make label` started; it is interrupted as a user would, with its children."""
    studies = tmp_path_factory.mktemp("studies")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = studies.parent / "label.log"
    command = ["make", "label", f"STUDIES={studies}", f"PORT={port}"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{address}/info/", timeout=10).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    with socket.socket() as closed:
        assert closed.connect_ex(("127.0.0.1", port)), "the server still answers after it was interrupted"


def infer(address: str, film: Path, parameters: dict[str, object]) -> bytes:
    """Send a film as 3D Slicer does, and give what comes back."""
    edge = uuid.uuid4().hex
    body = b"".join(
        [
            f'--{edge}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(parameters)}\r\n'.encode(),
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{film.name}"\r\n\r\n'.encode(),
            film.read_bytes(),
            f"\r\n--{edge}--\r\n".encode(),
        ]
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    request = urllib.request.Request(f"{address}/infer/{MODEL}?output=image", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=300) as response:
        return response.read()


def test_the_server_lists_the_model_and_no_more_settings_than_it_should(server):
    with urllib.request.urlopen(f"{server}/info/") as response:
        model = json.load(response)["models"][MODEL]
    assert model["version"] == json.loads((ROOT / "configs/metadata.json").read_text())["version"]
    assert model["config"]["model_filename"][0] == "model.pt"
    assert set(model["config"]) == {"device", "model_filename", "result_extension", "result_dtype"}


@pytest.fixture(scope="module")
def answers(server, films, tmp_path_factory):
    """What the server gave for each format, as files."""
    paths, spacing = films
    folder = tmp_path_factory.mktemp("answers")
    for ending, film in paths.items():
        (folder / f"{ending[:3]}.nii.gz").write_bytes(infer(server, film, {"side": "L", "spacing": str(spacing)}))
    return folder


@pytest.fixture(scope="module")
def commanded(films, tmp_path_factory):
    """What `scripts/synthesise.py` gave for each format, as files."""
    paths, spacing = films
    folder = tmp_path_factory.mktemp("commanded")
    program = [sys.executable, str(ROOT / "scripts/synthesise.py"), *map(str, paths.values()), "--side", "L"]
    options = ["--spacing", str(spacing), "--out", str(folder), "--device", "cpu", "--accept-phantom-weights"]
    subprocess.run([*program, *options], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("ending", FORMATS)
def test_a_film_gives_the_volume_of_the_command(answers, commanded, ending):
    got = nib.load(answers / f"{ending[:3]}.nii.gz")
    wanted = nib.load(commanded / f"{ending[:3]}_mri_synthetic.nii.gz")
    rows, columns, slices = read_weights(ROOT / "models/model.pt")["grid_description"][:3].int().tolist()
    assert got.shape == wanted.shape == (rows, columns, slices)
    assert nib.aff2axcodes(got.affine) == ("I", "L", "A")
    np.testing.assert_allclose(got.header.get_zooms(), [160 / rows, 160 / columns, 1.5], atol=1e-5)
    np.testing.assert_allclose(got.affine, wanted.affine, atol=1e-4)
    np.testing.assert_allclose(got.get_fdata(), wanted.get_fdata(), atol=1e-3)
    assert np.ptp(got.get_fdata()) > 0.5, "an empty volume would agree with an empty one"


def test_readings_in_a_request_give_the_volume_of_the_command(server, films, answers, tmp_path):
    """As `--readings`: not the volume without them; and a grade that does not exist is refused."""
    paths, spacing = films
    readings = {"XRKL": 4, "XRJSM": 3, "XROSFM": 3, "XROSTM": 3}
    answer = tmp_path / "read.nii.gz"
    answer.write_bytes(infer(server, paths["nii.gz"], {"side": "L", "spacing": spacing, "readings": readings}))
    program = [sys.executable, str(ROOT / "scripts/synthesise.py"), str(paths["nii.gz"]), "--side", "L"]
    program += ["--readings", *(f"{name}={grade}" for name, grade in readings.items()), "--accept-phantom-weights"]
    subprocess.run([*program, "--out", str(tmp_path), "--device", "cpu"], check=True, capture_output=True)
    got, wanted = (nib.load(path).get_fdata() for path in (answer, tmp_path / "nii_mri_synthetic.nii.gz"))
    np.testing.assert_allclose(got, wanted, atol=1e-3)
    # far more than the volumes of one request differ by; the film shows most of what these readings say
    assert np.abs(got - nib.load(answers / "nii.nii.gz").get_fdata()).max() > 0.02
    with pytest.raises(urllib.error.HTTPError) as error:
        infer(server, paths["nii.gz"], {"side": "L", "spacing": spacing, "readings": {"XRKL": 9}})
    assert error.value.code == 500


def test_a_film_of_both_knees_needs_a_side(server, films):
    paths, spacing = films
    with pytest.raises(urllib.error.HTTPError) as error:
        infer(server, paths["dcm"], {"spacing": spacing})
    assert error.value.code == 500


@pytest.mark.parametrize(
    "parameters",
    [["side"], ["spacing"], ["readings"], ["device"], ["result_dtype", "result_extension"], ["seed", "imports", "run"]],
    ids=",".join,
)
def test_a_request_that_is_an_expression_runs_nothing(server, films, tmp_path, parameters):
    """MONAI evaluates what begins with `$`; of a request nothing may get so far, in this call or in the next."""
    paths, spacing = films
    marker = tmp_path / "ran"
    attack = f"$__import__('pathlib').Path({str(marker)!r}).touch()"
    request = {"side": "R", "spacing": spacing} | dict.fromkeys(parameters, attack)
    for sent in (request, {"side": "nobody's"}):
        with contextlib.suppress(urllib.error.HTTPError):
            infer(server, paths["dcm"], sent)
    assert not marker.exists()


def test_what_comes_back_names_nobody(answers, films):
    """Neither the participant's number nor a path is in the file."""
    source = films[0]["dcm"].parent
    participant = next((source / "oai/00m").glob("*/*")).name
    content = gzip.decompress((answers / "dcm.nii.gz").read_bytes())
    for word in (participant, str(source), "dcm"):
        assert word.encode() not in content[:1024]
    assert participant.encode() not in content
