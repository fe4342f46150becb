"""The cohort as the NIMH Data Archive packs it."""

import csv
import tarfile

import numpy as np
import pytest

from bundle.phantom.cohort import Recipe, make_cohort
from bundle.phantom.nda_writer import pack_series, write_nda_tables
from bundle.phantom.oai_tables import participant_rows
from bundle.phantom.series import plan_series

RECIPE = Recipe(seed=21, size="test", packaging="nda")


def table(root, name):
    with (root / name).open(encoding="latin-1", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    root = tmp_path_factory.mktemp("nda")
    make_cohort(root, RECIPE, participants=1, workers=1)
    return root


def test_archives_hold_the_bytes_of_the_directory_release(download, tmp_path):
    make_cohort(tmp_path, Recipe(seed=21, size="test"), participants=1, workers=1)
    files = 0
    for series in plan_series(RECIPE.person(0)):
        with tarfile.open(download / "image03" / "00m" / f"{series.folder}.tar.gz") as archive:
            for member in archive.getmembers():
                path = tmp_path / "00m" / series.folder / member.name
                assert archive.extractfile(member).read() == path.read_bytes()
                files += 1
    assert files == 81
    assert sorted(path.name for path in (download / "image03").rglob("*") if path.is_file()) == sorted(
        f"{series.barcode}.tar.gz" for series in plan_series(RECIPE.person(0))
    )


def test_archive_s_bytes_do_not_depend_on_the_clock(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / name / "00000001"
        folder.mkdir(parents=True)
        for number in (2, 1) if name == "a" else (1, 2):
            (folder / f"{number:03d}").write_bytes(np.arange(number, dtype=np.uint8).tobytes())
        pack_series(folder)
        assert not folder.exists()
    assert (tmp_path / "a" / "00000001.tar.gz").read_bytes() == (tmp_path / "b" / "00000001.tar.gz").read_bytes()
    assert (tmp_path / "a" / "00000001.tar.gz").read_bytes()[4:8] == bytes(4)  # gzip's time
    with tarfile.open(tmp_path / "a" / "00000001.tar.gz") as archive:
        assert [(member.name, member.mtime, member.uid) for member in archive] == [("./001", 0, 0), ("./002", 0, 0)]


def test_image03_has_two_headers_and_a_thumbnail(download):
    """The second row defines the columns; the film's thumbnail is listed beside its archive."""
    definitions, *rows = table(download, "image03.txt")
    assert definitions["image_file"].endswith("image_file")
    film, mri = plan_series(RECIPE.person(0))
    assert [(row["image_file_format"], row["image_modality"]) for row in rows] == [
        ("DICOM", "X-Ray"),
        ("JPEG", "X-Ray"),
        ("DICOM", "MRI"),
    ]
    for row, series in zip((rows[0], rows[2]), (film, mri), strict=True):
        assert row["image_file"].endswith(f"/00m/{series.folder}.tar.gz")
        assert row["image_description"] == series.description
        assert row["accession_number"] == series.barcode
        assert row["src_subject_id"] == series.participant
        assert row["visit"] == "V00"


def test_readings_are_those_of_the_ascii_table(download):
    """Without visit and labels; a missing code is nothing."""
    _, *rows = table(download, "oai_kxrsemiquant01.txt")
    person = RECIPE.person(0)
    expected = participant_rows(person, plan_series(person), film_spacing_mm=1.6)["readings"]
    assert len(rows) == len(expected) > 0
    for row, other in zip(rows, expected, strict=True):
        assert row["readprj"] == other["READPRJ"]
        assert row["side"] == other["SIDE"][0]
        for column in ("XRKL", "XROSTM", "XRCYTM", "XRATTL"):
            cell = other[f"V00{column}"]
            assert row[column.lower()] == ("" if cell.startswith(".") else cell[0])


@pytest.mark.parametrize(
    "name", ["oai_kxrquantjsw01.txt", "oai_xrmeta01.txt", "oai_enrollee01.txt", "oai_oarisk01.txt", "oai_outcome01.txt"]
)
def test_every_structure_names_the_participant(download, name):
    definitions, *rows = table(download, name)
    assert definitions["src_subject_id"].startswith(name.removesuffix(".txt"))
    assert {row["src_subject_id"] for row in rows} == {RECIPE.person(0).covariates.participant}


def test_cohort_without_any_reading_has_an_empty_table(tmp_path):
    person = RECIPE.person(0)
    rows = participant_rows(person, plan_series(person), film_spacing_mm=1.6)
    rows["readings"].clear()
    write_nda_tables(tmp_path, [person], [rows])
    (definitions,) = table(tmp_path, "oai_kxrsemiquant01.txt")
    assert "xrkl" in definitions
