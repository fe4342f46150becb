"""Ways to prepare: NDA packages, own files, boxes, visits, splits, bad files that kill, a run that only looks."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import fabricate_oai as oai
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from small_release import PICTURE, SMALL, entries, knees, quiet, table

from bundle.data import Options, prepare, split_of
from bundle.data.boxes import read_boxes
from bundle.data.datalist import SPLITS, source
from bundle.data.dry_run import dry_run
from bundle.data.own_pairs import read_own_pairs
from bundle.data.prepare_knee import Outcome
from bundle.data.prepare_pool import KILLED, run
from bundle.data.volume_files import read_volume
from bundle.readings import GRADE_TABLES

ROOT = Path(__file__).resolve().parents[2]
SAS = Path(__file__).parent / "fixtures" / "sas"
PEOPLE = [f"900000{n}" for n in range(1, 5)]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Four participants of three sites."""
    tree = oai.Tree(tmp_path_factory.mktemp("release"))
    knees(tree, PEOPLE)
    table(tree, PEOPLE)
    sites = dict(zip(PEOPLE, "BBCD", strict=True))
    tree.table("Enrollees.txt", ["ID|P02SEX|V00SITE", *(f"{who}|2: Female|{site}" for who, site in sites.items())])
    return tree.root


@pytest.fixture(scope="module")
def done(release, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    return out, prepare(release, out, SMALL, workers=1, say=quiet)


def test_nda_packages_give_what_the_directories_give(release, done, tmp_path):
    """The same release, every series packed, unlisted by contents.csv: the prepared files are equal."""
    root = tmp_path / "nda"
    rows = [["src_subject_id", "visit", "image_file", "image_description"], ["ID of the subject", "a visit", "x", "y"]]
    with (release / "00m" / "contents.csv").open() as file:
        for line in csv.DictReader(file):
            place = root / "image03" / "00m" / f"{line['Folder']}.tar.gz"
            place.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(place, "w:gz") as archive:
                for path in sorted((release / "00m" / line["Folder"]).iterdir()):
                    archive.add(path, f"./{path.name}")
            file_name = f"s3://bucket/00m/{line['Folder']}.tar.gz"
            rows.append([line["ParticipantID"], "V00", file_name, line["SeriesDescription"]])
    (root / "image03.txt").write_text("\n".join("\t".join(f'"{c}"' for c in row) for row in rows))
    for path in release.rglob("*.txt"):
        (root / path.name).write_bytes(path.read_bytes())
    packed = next(root.rglob("900000[4]/*/*.tar.gz"))
    packed.write_bytes(packed.read_bytes()[:-200])
    report = prepare(root, tmp_path / "out", SMALL, workers=2, say=quiet)
    assert report["counts"]["prepared"] == 3
    told = [item for item in report["dropped"] if "cut short" in item["reason"]]
    assert [(item["knee"], item["file"]) for item in told] == [("9000004_R_00m", "0.C.2/9000004/*/*.tar.gz")]
    for path in sorted((tmp_path / "out").glob("*/*.nii.gz")):
        twin = done[0] / path.relative_to(tmp_path / "out")
        np.testing.assert_array_equal(nib.load(path).dataobj, nib.load(twin).dataobj)


def test_sas_tables_beside_a_release_are_joined(tmp_path):
    tree = oai.Tree(tmp_path / "oai")
    knees(tree, ["9000001", "9000002", "9000003"])
    for name in ("kxr_sq_bu00", "enrollees", "allclinical00"):
        shutil.copy(SAS / f"{name}.sas7bdat", tmp_path / "oai")
    prepare(tmp_path / "oai", tmp_path / "out", SMALL, workers=1, say=quiet)
    found = {entry["participant"]: entry for entry in entries(tmp_path / "out")}
    assert {who: (e["readings"]["XRKL"], e["age"], e["site"]) for who, e in found.items()} == {
        **{"9000001": (2, 61, "B"), "9000002": (3, None, "D"), "9000003": (0, 70, None)}
    }


def test_page_stands_alone_and_says_what_happened(done):
    out, report = done
    page = (out / "report.html").read_text()
    assert report["counts"]["prepared"] == 4
    assert "prepared: 4" in page
    assert "80 slices" in page
    assert "window: -40.5 to 34.5 mm" in page
    assert page.count("data:image/png") == 8
    assert "<script" not in page
    assert not re.search(r"20050131|Doe|(src|href)=\"(?!data:)", page)


def test_visits_are_pooled_and_a_participant_stays_in_one_split(tmp_path):
    for visit, number in (("00m", "00"), ("12m", "01")):
        tree = oai.Tree(tmp_path / "oai", visit)
        knees(tree, PEOPLE[:1], release={"00m": "0.C.2", "12m": "1.C.2"}[visit])
        rows = [{"ID": PEOPLE[0], "SIDE": "1", "READPRJ": "15", "XRKL": number[1]}]
        tree.readings(rows, name=f"kxr_sq_bu{number}.txt", prefix=f"V{number}")
    options = Options(image_size=64, visit=("00m", "12m"))
    report = prepare(tmp_path / "oai", tmp_path / "out", options, workers=1, say=quiet)
    found = entries(tmp_path / "out")
    assert [(entry["visit"], entry["readings"]["XRKL"]) for entry in found] == [("00m", 0), ("12m", 1)]
    assert report["counts"][split_of(PEOPLE[0])] == 2


def test_held_out_site_is_the_test_split(release, tmp_path):
    report = prepare(release, tmp_path / "out", SMALL, holdout_site="C", workers=1, say=quiet)
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert [entry["participant"] for entry in content["test"]] == ["9000003"]
    assert report["counts"]["training"] + report["counts"]["validation"] == 3
    with pytest.raises(ValueError, match=r"`holdout_site` 'Q': no knee that has both .* that site; sites: B, C, D"):
        prepare(release, tmp_path / "none", SMALL, holdout_site="Q", workers=1, say=quiet)
    assert not (tmp_path / "none").exists(), "said before anything is prepared"


def test_split_file_is_written_then_followed(release, done, tmp_path):
    lists = tmp_path / "ids.csv"
    prepare(release, done[0], SMALL, split_file=lists, workers=1, say=quiet)
    written = dict(csv.reader(lists.read_text().splitlines()[1:]))
    assert written == {who: split_of(who) for who in PEOPLE}
    lists.write_text("participant,split\n9000001,test\n9000002,training\n9000003,Training\n")
    report = prepare(release, tmp_path / "out", SMALL, split_file=lists, workers=1, say=quiet)
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert [[entry["participant"] for entry in content[split]] for split in SPLITS] == [
        ["9000002", "9000003"],
        [],
        ["9000001"],
    ]
    assert "not in the split file" in {item["knee"]: item["reason"] for item in report["dropped"]}["9000004_R_00m"]
    lists.write_text("participant,split\n9000001,test\n9000001,training\n")
    with pytest.raises(ValueError, match="row 3: participant 9000001 is in two splits"):
        prepare(release, tmp_path / "out", SMALL, split_file=lists, workers=1, say=quiet)
    lists.write_text("participant,split\n1,test\n")
    with pytest.raises(ValueError, match=r"none of its 1 participants has a knee .* as 9000001 has"):
        prepare(release, tmp_path / "none", SMALL, split_file=lists, workers=1, say=quiet)
    assert not (tmp_path / "none").exists(), "said before anything is prepared"
    lists.write_text("participant,split\n9000001,exam\n")
    with pytest.raises(ValueError, match="row 2: `split` must be one of training, validation, test"):
        prepare(release, tmp_path / "out", SMALL, split_file=lists, workers=1, say=quiet)


@pytest.mark.parametrize("shares", [False, True])
def test_boxes_replace_the_finder(release, tmp_path, shares):
    """A box about a place where no knee is: the cut's middle is the box's middle, in pixels of 1 mm."""
    boxes = tmp_path / "boxes.csv"
    box = (100, 20, 140, 60)
    box = [edge / size for edge, size in zip(box, (400, 300, 400, 300), strict=True)] if shares else box
    lines = [f"{who},R,{','.join(map(str, box))}" for who in PEOPLE[:3]]
    boxes.write_text("\n".join(["participant,side,left,top,right,bottom", *lines]))
    report = prepare(release, tmp_path / "out", SMALL, boxes=boxes, workers=1, say=quiet)
    assert report["counts"]["prepared"] == 3
    assert "has no box" in {item["knee"]: item["reason"] for item in report["dropped"]}["9000004_R_00m"]
    film = nib.load(tmp_path / "out" / entries(tmp_path / "out")[0]["film"]).get_fdata()[..., 0]
    # 40 mm below the film's edge is the middle of 166 mm at the detector, so 43 mm, 16 rows of 64, lie above it
    assert (film[:16] == film.min()).all()
    assert film[17].max() > film.min()
    with pytest.raises(ValueError, match="other options"):
        prepare(release, tmp_path / "out", SMALL, workers=1, say=quiet)


@pytest.mark.parametrize("row", ["9000001,R,5,5,5,9", "9000001,B,0,0,1,1", "9000001,R,a,0,1,1", "9000001,R,-1,0,1,1"])
def test_bad_box_names_its_row(tmp_path, row):
    (tmp_path / "b.csv").write_text(f"participant,side,left,top,right,bottom\n{row}\n")
    with pytest.raises(ValueError, match=r"b\.csv, row 2: needs participant, side"):
        read_boxes(tmp_path / "b.csv")


def test_second_box_of_a_knee_is_refused(tmp_path):
    rows = ["1,R,0,0,1,1", "1,L,0,0,1,1", "1,R,2,2,3,3"]
    (tmp_path / "b.csv").write_text("\n".join(["participant,side,left,top,right,bottom", *rows]))
    with pytest.raises(ValueError, match=r"b\.csv, row 4: lists the knee 1 R a second time"):
        read_boxes(tmp_path / "b.csv")


@pytest.fixture
def own(tmp_path):
    """Two knees of somebody's own: PNG with NIfTI, DICOM film with DICOM series."""
    Image.fromarray((PICTURE * 65535).astype(np.uint16)).save(tmp_path / "a.png")
    volume = oai.knee_volume()
    turned = np.ascontiguousarray(volume.transpose(2, 1, 0)[:, ::-1, ::-1])  # stored anterior, right, superior
    affine = np.array([[0, 2.5, 0, 0], [1.5, 0, 0, 0], [0, 0, 2.5, 0], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(turned.astype(np.int16), affine), tmp_path / "a.nii.gz")
    oai.save(oai.film_dataset(PICTURE, spacing=1.0), tmp_path / "b.dcm")
    oai.save_series(oai.mr_datasets(volume, spacing=2.5), tmp_path / "b")
    (tmp_path / "pairs.csv").write_text(
        "participant,film,mri,side,spacing_mm,age,XRKL\na-1,a.png,a.nii.gz,R,1.0,55,2\nb-1,b.dcm,b,R,,,\n"
        "c-1,c.png,a.nii.gz,R,1,,\n"
    )
    return tmp_path


def test_own_files_are_prepared(own):
    out = own / "out"
    report = prepare(None, out, SMALL, pairs=own / "pairs.csv", workers=1, say=quiet)
    assert report["counts"]["prepared"] == 2
    assert report["dropped"] == [
        {"knee": "c-1_R_00m", "file": "row 4, film", "reason": "the file of its film is not there"}
    ]
    first, second = sorted(entries(out), key=lambda entry: entry["participant"])
    assert (first["age"], first["readings"]["XRKL"], second["readings"]["XRKL"]) == (55, 2, None)
    assert source(out) == "own"
    volumes = [nib.load(out / entry["mri"]).get_fdata() for entry in (first, second)]
    np.testing.assert_allclose(*volumes, atol=2e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant,film,side\na,a.png,R\n", "lacks the column mri"),
        ("participant,film,mri,side\na,a.png,a.nii.gz,X\n", "row 2: needs `film`, `mri` and `side`"),
        ("participant,film,mri,side\n../a,a.png,a.nii.gz,R\n", "row 2: `participant` and `visit` must be"),
        ("participant,film,mri,side,XRKL\na,a.png,a.nii.gz,R,7\n", "row 2: `XRKL` must be"),
        ("participant,film,mri,side,spacing_mm\na,a.png,a.nii.gz,R,wide\n", "row 2: `spacing_mm`"),
        ("participant,film,mri,side\na,a.png,a.nii.gz,R\na,a.png,a.nii.gz,R\n", "a second time"),
        ("film,mri,side\na.png,a.nii.gz,R\n", "has no column ID"),
        ("", "has no column ID"),
    ],
)
def test_bad_list_of_own_files_names_its_row(own, text, message):
    (own / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_own_pairs(own / "bad.csv", GRADE_TABLES["oai"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_list_of_own_files_is_read_in_the_encodings_that_people_save(own, encoding):
    (own / "a.png").rename(own / "Größe.png")
    text = "participant,film,mri,side\na-1,Größe.png,a.nii.gz,R\n"
    (own / "saved.csv").write_text(text, encoding=encoding)
    index, _ = read_own_pairs(own / "saved.csv", GRADE_TABLES["oai"])
    assert [pair.film for pair in index.pairs] == [own / "Größe.png"]


@pytest.mark.parametrize("option", ["out", "split_file"])
def test_place_below_a_file_is_refused_before_anything_is_made(own, option):
    places = {"out": own / "set", "split_file": own / "split.csv"} | {option: own / "a.png" / "below" / "x"}
    out = places.pop("out")
    with pytest.raises(
        FileExistsError, match=r"^--(out|split-file) .*a\.png is a file; a folder was expected there\.$"
    ):
        prepare(None, out, SMALL, pairs=own / "pairs.csv", workers=1, say=quiet, **places)
    assert not (own / "set").exists()


def test_name_that_is_too_long_for_a_file_drops_its_row_alone(own):
    (own / "long.csv").write_text("participant,film,mri,side\na-1," + "x" * 999 + ",b,R\nb-1,b.dcm,b,R\n")
    index, _ = read_own_pairs(own / "long.csv", GRADE_TABLES["oai"])
    assert [pair.participant for pair in index.pairs] == ["b-1"]
    assert index.dropped == [
        {"knee": "a-1_R_00m", "file": "row 2, film", "reason": "the file of its film is not there"}
    ]


def test_pipe_as_a_split_file_is_refused_and_not_waited_for(own):
    os.mkfifo(own / "split.csv")
    with pytest.raises(ValueError, match=r"split\.csv: is a device or a pipe; expected a file"):
        prepare(None, own / "set", SMALL, pairs=own / "pairs.csv", split_file=own / "split.csv", workers=1, say=quiet)


def test_folder_as_a_split_file_is_refused(own):
    with pytest.raises(IsADirectoryError, match="is a folder; expected a file"):
        prepare(None, own / "set", SMALL, pairs=own / "pairs.csv", split_file=own, workers=1, say=quiet)


def test_file_whose_name_is_no_text_is_refused_by_it_and_the_run_goes_on(release, tmp_path):
    shutil.copytree(release, tmp_path / "release")
    series = next(path for path in sorted(tmp_path.rglob("*")) if path.is_dir() and len(list(path.iterdir())) > 10)
    try:
        (series / os.fsdecode(b"\xff\xfe")).write_bytes(b"no slice" * 100)
    except OSError:
        pytest.skip("this file system has no such names")
    report = prepare(tmp_path / "release", tmp_path / "out", SMALL, workers=1, say=quiet)
    assert report["counts"]["prepared"] == 3
    assert "file \\udcff\\udcfe: is no DICOM file" in (tmp_path / "out" / "rejected.csv").read_text()


@pytest.mark.parametrize("name", ["volume.nrrd", "volume.png"])
def test_volume_of_another_kind_is_refused_by_kind(own, name):
    (own / name).write_bytes(b"NRRD0004\n")
    (own / "kinds.csv").write_text(f"participant,film,mri,side,spacing_mm\na-1,a.png,{name},R,1.0\n")
    with pytest.raises(ValueError, match="is of a kind that is not read; convert it to NIfTI or DICOM"):
        prepare(None, own / "set", SMALL, pairs=own / "kinds.csv", workers=1, say=quiet)


def _header(image, **fields):
    for name, value in fields.items():
        image.header[name] = value
    return image


def _turned(image):
    """By the qform its first axis points the other way."""
    image.set_qform(np.diag([-1.0, 1, -1, 1]), 1)
    return image


SOUND = np.arange(20 * 20 * 20, dtype=np.float32).reshape(20, 20, 20)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (_header(nib.Nifti1Image(SOUND, None), sform_code=0, qform_code=0), "does not say how it lies"),
        (nib.Nifti1Image(SOUND[..., None].repeat(3, 3), np.eye(4)), "one volume"),
        (nib.Nifti1Image(SOUND, np.diag([1, 1, 200, 1])), "voxel edges"),
        (_header(nib.Nifti1Image(SOUND, np.eye(4)), xyzt_units=1), "unit of length is the meter"),
        (_turned(nib.Nifti1Image(SOUND, np.eye(4))), "sform and qform turn it differently"),
        (nib.Nifti1Image(SOUND * np.nan, np.eye(4)), "not finite"),
        (nib.Nifti1Image(SOUND * 0, np.eye(4)), "same value"),
        (nib.Nifti1Image(SOUND.astype(np.complex64), np.eye(4)), "real numbers"),
        (nib.Nifti1Image(SOUND, np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])), "perpendicular"),
    ],
)
def test_nifti_volumes_that_would_be_misread_are_refused(tmp_path, image, message):
    nib.save(image, tmp_path / "v.nii.gz")
    with pytest.raises(ValueError, match=message) as error:
        read_volume(tmp_path / "v.nii.gz")
    assert "v.nii.gz" in str(error.value)


def test_header_that_claims_a_huge_volume_is_refused_unread(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_sform(np.eye(4), 1)
    (tmp_path / "v.nii").write_bytes(header.binaryblock + bytes(400))
    with pytest.raises(ValueError, match="claims"):
        read_volume(tmp_path / "v.nii")
    (tmp_path / "v.nii").write_bytes(b"not NIfTI" * 100)
    with pytest.raises(ValueError, match="cannot be read"):
        read_volume(tmp_path / "v.nii")


def _deadly(pair):
    if pair == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(pair)


class _Number(int):
    @property
    def name(self):
        return str(int(self))


def test_file_that_kills_its_process_is_named_and_the_others_go_on():
    outcomes = list(run([_Number(n) for n in range(8)], _deadly, 2))
    assert sorted(outcome.pair for outcome in outcomes) == list(range(8))
    assert [outcome.pair for outcome in outcomes if outcome.reason == KILLED] == [3]


def test_processes_end_with_the_run_that_was_killed(release, tmp_path):
    """After kill -9 nobody works on: the children see that their parent is gone."""
    program = (
        "import sys, time, os\nfrom bundle.data.prepare_pool import run\n"
        "def work(pair):\n    os.write(1, b'%d\\n' % os.getpid())\n    time.sleep(60)\n"
        "list(run([1, 2], work, 2))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    children = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()

    def alive(child):
        try:
            return Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    for _ in range(100):
        if not any(map(alive, children)):
            return
        time.sleep(0.1)
    pytest.fail("the children of a killed run go on")


def test_dry_run_says_what_is_there_and_writes_nothing(release):
    before = sorted(release.rglob("*"))
    found = dry_run(release, SMALL, workers=1)
    assert found["counts"]["pairs"] == found["with_readings"] == 4
    assert found["sequences"] == {"BILATERAL PA FIXED FLEXION KNEE": 4, "COR_T1_3D_FLASH_RIGHT": 4}
    assert found["tried"] == 3
    assert 0 < found["gigabytes"] < 0.01
    assert found["hours"] == pytest.approx(found["seconds_per_knee"] * 4 / 3600)
    assert sorted(release.rglob("*")) == before


def test_disk_that_a_dry_run_promises_is_what_is_taken(release, done):
    taken = sum(path.stat().st_size for path in done[0].glob("*/*.nii.gz")) / 1e9
    assert dry_run(release, SMALL, workers=1)["gigabytes"] == pytest.approx(taken, rel=0.3)


def test_command_prepares_own_files_and_fails_when_nothing_is_usable(own):
    command = [sys.executable, "scripts/prepare_data.py", "--size", "64", "--workers", "1"]
    good = [*command, "--pairs", str(own / "pairs.csv"), "--out", str(own / "cli")]
    ran = subprocess.run(good, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert str(own / "cli" / "report.html") in ran.stdout
    (own / "bad.csv").write_text("participant,film,mri,side\nc-1,c.png,a.nii.gz,R\n")
    bad = [*command, "--pairs", str(own / "bad.csv"), "--out", str(own / "none")]
    ran = subprocess.run(bad, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("error: pairs ")
    assert "no usable knee" in ran.stderr
