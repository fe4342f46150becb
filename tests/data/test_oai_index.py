"""Films and series found in a directory release, and paired."""

import shutil
import tarfile

import fabricate_oai as oai
import pytest

from bundle.data.oai_index import index_release

FILM = [oai.film_dataset(oai.knee_picture(64, 64, 4.0, [(128, 128, "R")]))]
SCAN = oai.mr_datasets(oai.knee_volume(16, 16, 3))
BOTH = "Bilateral PA Fixed Flexion Knee"
FLASH = "COR_T1_3D_FLASH_RIGHT"


def reasons(index):
    return {item["knee"]: item["reason"] for item in index.dropped}


@pytest.mark.parametrize("visit_folder", ["00m", "OAI_00m", "images"])
def test_both_baseline_releases_are_found_in_any_folder(tmp_path, visit_folder):
    tree = oai.Tree(tmp_path / "download" / "deep", visit_folder)
    for participant, release in (("9000001", "0.C.2"), ("9000002", "0.E.1")):
        tree.series(participant, BOTH, FILM, release=release)
        tree.series(participant, FLASH, SCAN, release=release)
    tree.write_contents()
    index = index_release(tmp_path)
    assert [pair.name for pair in index.pairs] == ["9000001_R_00m", "9000002_R_00m"]
    assert all(pair.film.is_file() and pair.series.is_dir() for pair in index.pairs)
    assert index.counts["pairs"] == 2


def test_rescan_keeps_the_last_by_number_of_barcode(tmp_path):
    tree = oai.Tree(tmp_path)
    tree.series("9000001", BOTH, FILM)
    tree.barcode = 9
    tree.series("9000001", FLASH, SCAN)
    last = tree.series("9000001", FLASH, SCAN)
    tree.rows[-1][3] = "16600361203"  # 11 digits sort after 8
    tree.write_contents()
    index = index_release(tmp_path)
    assert [pair.series for pair in index.pairs] == [last]
    assert "repeated (kept: last)" in reasons(index)["9000001_R"]


def test_series_absent_from_contents_are_known_by_their_headers(tmp_path):
    tree = oai.Tree(tmp_path)
    tree.series("9000001", BOTH, FILM)
    tree.series("9000001", FLASH, SCAN, listed=False)
    tree.write_contents()
    assert [pair.name for pair in index_release(tmp_path).pairs] == ["9000001_R_00m"]
    (tmp_path / "00m" / "contents.csv").unlink()
    assert [pair.name for pair in index_release(tmp_path).pairs] == ["9000001_R_00m"]


def test_single_knee_films_and_left_series(tmp_path):
    tree = oai.Tree(tmp_path)
    tree.series("9000001", "PA Fixed Flexion Left Knee", FILM)
    tree.series("9000001", "COR_T1_3D_FLASH_LEFT", oai.mr_datasets(oai.knee_volume(16, 16, 3), side="L"))
    tree.series("9000002", "PA Fixed Flexion Left Knee", FILM)
    tree.series("9000002", FLASH, SCAN)
    tree.write_contents()
    index = index_release(tmp_path)
    assert [pair.name for pair in index.pairs] == ["9000001_L_00m"]
    assert reasons(index)["9000002_R_00m"] == "MR series without a film"


@pytest.mark.parametrize("description", ["Lateral Right Knee", "PA Right Hand", "AP Pelvis", "COR_MPR_RIGHT"])
def test_other_series_are_no_part_of_a_pair(tmp_path, description):
    tree = oai.Tree(tmp_path)
    tree.series("9000001", description, FILM)
    tree.series("9000001", FLASH, SCAN)
    tree.write_contents()
    assert index_release(tmp_path).pairs == []


def test_other_visits_are_left_out_and_named(tmp_path):
    tree = oai.Tree(tmp_path, "12m")
    tree.series("9000001", BOTH, FILM, release="1.C.2")
    tree.write_contents()
    assert index_release(tmp_path, visit="12m").counts["series"] == 1
    with pytest.raises(FileNotFoundError, match="nothing of visit 00m in it; it holds 12m"):
        index_release(tmp_path)
    with pytest.raises(ValueError, match="`visit` must be one of 00m"):
        index_release(tmp_path, visit="13m")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["../../etc", "9000001", "", "1", "", BOTH], "outside the release"),
        (["/etc/x", "9000001", "", "1", "", BOTH], "outside the release"),
        (["0.C.2/9000009/20050131/1", "9000001", "", "1", "", BOTH], "another participant"),
        (["", "9000001", "", "1", "", BOTH], "lacks Folder"),
        (["0.C.2/9000001/20050131/1", "../x", "", "1", "", BOTH], "lacks Folder or ParticipantID"),
    ],
)
def test_bad_rows_are_dropped_with_the_reason(tmp_path, row, reason):
    tree = oai.Tree(tmp_path)
    tree.series("9000001", BOTH, FILM)
    tree.rows.append(row)
    tree.write_contents()
    assert reason in reasons(index_release(tmp_path))["contents.csv row 3"]


def test_listed_folder_that_is_not_there_is_dropped(tmp_path):
    tree = oai.Tree(tmp_path)
    tree.series("9000001", BOTH, FILM)
    tree.rows.append(["0.C.2/9000002/20050131/00000001", "9000002", "20050131", "1", "", FLASH])
    tree.write_contents()
    assert "its folder is not there" in reasons(index_release(tmp_path))["9000002"]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", bytes(range(256))])
def test_damaged_contents_is_one_clear_error(tmp_path, content):
    (tmp_path / "00m").mkdir()
    (tmp_path / "00m" / "contents.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"contents\.csv: lacks the column"):
        index_release(tmp_path)


def test_absent_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        index_release(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="nothing of visit 00m"):
        index_release(tmp_path)


SHEET = ["src_subject_id", "interview_date", "sex", "visit", "image_file", "image_description", "image_file_format"]
SHEET += ["comments_misc"]


def nda(root, rows, *, below="image03/00m", definitions=True):
    """An NDA download: `image03.txt`, and one archive for each series that is given content."""
    lines = [SHEET, [f"{name} of the image" for name in SHEET]] if definitions else [SHEET]
    for participant, barcode, description, datasets in rows:
        tail = f"0.E.1/{participant}/20051013/{barcode}"
        file = f"s3://NDAR_Central_1/submission_1/00m/{tail}"
        kind = "JPEG" if barcode.endswith(".jpg") else "DICOM"
        file += "" if kind == "JPEG" else ".tar.gz"
        lines.append([participant, "10/13/2005", "F", "V00", file, description, kind, "OAI MR KNEE"])
        if datasets is not None:
            place = root / below / f"{tail}.tar.gz" if below else root / f"{barcode}.tar.gz"
            place.parent.mkdir(parents=True, exist_ok=True)
            folder = oai.save_series(datasets, root / "unpacked")
            with tarfile.open(place, "w:gz") as archive:
                for path in sorted(folder.iterdir()):
                    archive.add(path, f"./{path.name}")
            shutil.rmtree(folder)
    text = "\n".join("\t".join(f'"{cell}"' for cell in line) for line in lines)
    (root / "image03.txt").write_text(text + "\n")
    return root


ROWS = [
    ("9000001", "10583703", BOTH, FILM),
    ("9000001", "10583704", FLASH + " ", SCAN),
    ("9000001", "10583704_1x1.jpg", FLASH, None),
    ("9000002", "10583705", FLASH, None),  # listed, and not downloaded
]


@pytest.mark.parametrize("below", ["image03/00m", "00m", "some/where/OAI_00m", ""])
@pytest.mark.parametrize("definitions", [True, False])
def test_nda_download_is_read_from_its_archives(tmp_path, below, definitions):
    index = index_release(nda(tmp_path, ROWS, below=below, definitions=definitions))
    assert [pair.name for pair in index.pairs] == ["9000001_R_00m"]
    assert index.pairs[0].series.name == "10583704.tar.gz"
    assert not list(tmp_path.rglob("001"))  # nothing was unpacked
    with pytest.raises(FileNotFoundError, match="nothing of visit 12m in it; it holds 00m"):
        index_release(tmp_path, visit="12m")


def test_archives_without_a_list_are_known_by_their_headers(tmp_path):
    nda(tmp_path, ROWS)
    (tmp_path / "image03.txt").unlink()
    assert [pair.name for pair in index_release(tmp_path).pairs] == ["9000001_R_00m"]
    bad = next(tmp_path.rglob("10583704.tar.gz"))
    bad.write_bytes(b"damaged")
    index = index_release(tmp_path)
    assert index.pairs == []
    told = [item for item in index.dropped if "no readable header" in item["reason"]]
    assert told == [{"knee": "9000001", "file": "0.E.1/9000001/*/*.tar.gz", "reason": told[0]["reason"]}]


def test_several_visits_are_pooled(tmp_path):
    for visit, release in (("00m", "0.C.2"), ("12m", "1.C.2"), ("24m", "3.C.2")):
        tree = oai.Tree(tmp_path, visit)
        tree.series("9000001", BOTH, FILM, release=release)
        tree.series("9000001", FLASH, SCAN, release=release)
        tree.write_contents()
    index = index_release(tmp_path, visit=("00m", "24m"))
    assert [pair.name for pair in index.pairs] == ["9000001_R_00m", "9000001_R_24m"]


def test_another_coronal_sequence_may_be_asked_for(tmp_path):
    tree = oai.Tree(tmp_path)
    tree.series("9000001", BOTH, FILM)
    tree.series("9000001", "COR_IW_TSE_RIGHT", SCAN)
    tree.write_contents()
    assert index_release(tmp_path).pairs == []
    assert [pair.name for pair in index_release(tmp_path, series="cor_iw_tse").pairs] == ["9000001_R_00m"]


def test_quotation_mark_that_is_not_closed_hides_no_other_row(tmp_path):
    tree = oai.Tree(tmp_path)
    for participant in ("9000001", "9000002"):
        tree.series(participant, BOTH, FILM)
        tree.series(participant, FLASH, SCAN)
    tree.write_contents()
    path = tmp_path / "00m" / "contents.csv"
    first, *rest = path.read_text().splitlines()
    rest[0] = rest[0].removesuffix('"')
    path.write_text("\n".join([first, *rest]) + "\n")
    assert [pair.name for pair in index_release(tmp_path).pairs] == ["9000001_R_00m", "9000002_R_00m"]
