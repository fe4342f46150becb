"""Readings and covariates from OAI's tables, in the shapes in which they occur."""

from pathlib import Path

import fabricate_oai as oai
import pandas
import pyreadstat
import pytest

from bundle.data.oai_layout import find_layout
from bundle.data.oai_tables import fill_unread, read_covariates, read_readings, read_table
from bundle.readings import GRADE_TABLES, VARIABLES

SAS = Path(__file__).parent / "fixtures" / "sas"
OAI = GRADE_TABLES["oai"]


def knee(side="1", project="15", participant="9000001", **grades):
    return {"ID": participant, "SIDE": side, "READPRJ": project, **grades}


@pytest.mark.parametrize("side", ["1: Right", "1", "1.0", " 1 : Right"])
@pytest.mark.parametrize("value", ["3: 3", "3", "3.0", " 3 "])
def test_cells_are_read_in_every_form(tmp_path, side, value):
    path = oai.Tree(tmp_path).readings([knee(side, XRKL=value, XROSFM=".", XROSFL=" ", XROSTM=".A: Not Expected")])
    readings = read_readings(path, OAI)
    assert list(readings) == [("9000001", "R")]
    assert readings["9000001", "R"]["XRKL"] == 3
    assert sum(grade is not None for grade in readings["9000001", "R"].values()) == 1
    assert tuple(readings["9000001", "R"]) == VARIABLES


def test_file_and_column_names_in_any_case_with_and_without_visit(tmp_path):
    path = oai.Tree(tmp_path).readings([knee(XRKL="2")], name="KXR_SQ_BU00.TXT", prefix="")
    path.write_text(path.read_text().lower())
    assert find_layout(tmp_path).readings("00") == path
    assert read_readings(path, OAI)["9000001", "R"]["XRKL"] == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_project_15_comes_before_37_before_42_and_37_first_at_late_visits(tmp_path, order):
    rows = [knee(project="15", XRKL="1"), knee(project="37", XRKL="2"), knee(project="42", XRKL="3")]
    tree = oai.Tree(tmp_path)

    def grade(rows, visit="00m", prefix="V00"):
        return read_readings(tree.readings(rows, prefix=prefix), OAI, visit=visit)["9000001", "R"]["XRKL"]

    assert grade([rows[i] for i in order]) == 1
    assert grade([rows[i] for i in order if i]) == 2
    assert grade([rows[i] for i in order], "72m", "V08") == 2
    assert grade([rows[i] for i in order], "96m", "V10") == 2
    # a reading without a KL grade gives way to one with it
    rows[0]["XRKL"] = ".T: Technical problems"
    assert grade([rows[i] for i in order]) == 2


def test_two_readings_of_one_project_that_differ_are_told(tmp_path):
    path = oai.Tree(tmp_path).readings([knee(XRKL="1"), knee(XRKL="2"), knee("2", XRKL="1"), knee("2", XRKL="1")])
    told = []
    assert read_readings(path, OAI, note=lambda *what: told.append(what))["9000001", "R"]["XRKL"] == 1
    assert told == [("9000001_R_00m", "graded twice and differently by project 15 (kept: first)")]


def test_fractional_narrowing_and_attrition_of_two_are_grades(tmp_path):
    readings = read_readings(oai.Tree(tmp_path).readings([knee(XRJSM="1.5", XRATTM="2: 2")]), OAI)
    assert readings["9000001", "R"]["XRJSM"] == 1.5
    assert readings["9000001", "R"]["XRATTM"] == 2


@pytest.mark.parametrize(("variable", "value"), [("XRKL", "5"), ("XRKL", "1.5"), ("XRCHM", "2"), ("XROSFM", "-1")])
def test_grade_outside_the_table_names_row_and_column(tmp_path, variable, value):
    path = oai.Tree(tmp_path).readings([knee(XRKL="1"), knee("2", **{variable: value})])
    with pytest.raises(ValueError, match=rf"kxr_sq_bu00\.txt, row 3.*{variable}"):
        read_readings(path, OAI)


def test_text_in_place_of_a_grade_names_row_and_column(tmp_path):
    path = oai.Tree(tmp_path).readings([knee(XRKL="two")])
    with pytest.raises(ValueError, match=r"row 2, column XRKL: must be a grade or a missing code, got 'two'"):
        read_readings(path, OAI)


def test_attrition_of_two_is_refused_by_the_papers_table(tmp_path):
    with pytest.raises(ValueError, match="XRATTM"):
        read_readings(oai.Tree(tmp_path).readings([knee(XRATTM="2")]), GRADE_TABLES["paper"])


def test_quotation_marks_byte_order_mark_and_latin1_do_no_harm(tmp_path):
    path = oai.Tree(tmp_path).readings([knee(XRKL='2: a "probable\x85 one', XRJSM="1: caf\xe9"), knee("2", XRKL="1")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    readings = read_readings(path, OAI)
    assert (readings["9000001", "R"]["XRKL"], readings["9000001", "L"]["XRKL"]) == (2, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column ID"),
        (b"ID,SIDE\n1,2\n", "no radiographic reading"),
        (b"A,SIDE\n1,2\n", "no column ID"),
        (b"ID|SIDE|V01XRKL\n9000001|1|1\n", "row 2: its column V01XRKL is of visit 01; expected visit 00"),
        (b"x" * 3_000_000, "no column ID|more than"),
        (b"ID|SIDE|XRKL\n9000001|1|1\n" + b"x" * 3_000_000, "line of more than"),
        (b"ID|SIDE\n9000001|1\n", "no radiographic reading"),
        (b"ID|SIDE|XRKL\n9000001|3|1\n", "row 2: needs ID and SIDE"),
        (b"ID|SIDE|XRKL\n|1|1\n", "row 2: needs ID and SIDE"),
        (b"ID|SIDE|XRKL\n9000001|1|1|7\n", "row 2: has 4 cells"),
        (b"ID|SIDE|V00XRKL|V01XRKL\n9000001|1|1|2\n", "more than one visit"),
        (b"ID|ID\n1|1\n", "column ID twice"),
        (bytes(range(256)) * 40, "no column ID"),
    ],
)
def test_damaged_tables_are_one_clear_error(tmp_path, content, message):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_readings(tmp_path / "t.txt", OAI)


def test_row_with_too_few_cells_is_missing_at_its_end(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"ID|SIDE|XRKL|XRJSM\n9000001|1|2\n\n")
    assert read_table(tmp_path / "t.txt")[0] == {"ID": "9000001", "SIDE": "1", "XRKL": "2"}
    assert read_readings(tmp_path / "t.txt", OAI)["9000001", "R"]["XRJSM"] is None


def test_covariates_are_joined_and_implausible_ones_missing(tmp_path):
    tree = oai.Tree(tmp_path)
    enrollees = ["ID|P02SEX|V00SITE", "9000001|2: Female|B", "9000002|1: Male|.: Missing Form"]
    clinical = ["id|v00age|P01BMI", "9000001|61|28.1", "9000002|.: Missing|999"]
    paths = [tree.table("Enrollees.txt", enrollees), tree.table("AllClinical00.txt", clinical)]
    people = read_covariates([*paths, None])
    assert people["9000001"] == {"age": 61, "sex": "F", "bmi": 28.1, "site": "B"}
    assert people["9000002"] == {"age": None, "sex": "M", "bmi": None, "site": None}


def test_unread_findings_are_zero_only_without_definite_osteoarthritis():
    unread = {"XRKL": None, "XROSFM": None}
    readings = {
        ("a", "R"): {"XRKL": 1, "XROSFM": None},
        ("a", "L"): {"XRKL": 0, "XROSFM": None},
        ("b", "R"): {"XRKL": 1, "XROSFM": None},  # the other knee has KL 2, so this one was to be read
        ("b", "L"): {"XRKL": 2, "XROSFM": 1},
        ("c", "R"): unread,
    }
    filled = fill_unread(readings)
    assert [filled[key]["XROSFM"] for key in readings] == [0, 0, None, 1, None]
    assert filled["c", "R"]["XRKL"] is None


NDA = (
    "src_subject_id\tvisit\treadprj\tside\txrkl\txrjsm\tsite\tinterview_age\tsex\n"
    '"Subject ID how it\'s defined"\t"Visit name"\t"Project"\t"Side"\t"KL grade"\t"JSN"\t"Site"\t"Months"\t"Sex"\n'
    '"9000001"\t"V00"\t15\t1\t"2"\t"1.5"\t"C"\t"745"\t"F"\n'
    '"9000001"\t"V01"\t15\t1\t"3"\t"2"\t"C"\t"757"\t"F"\n'
)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_nda_table_has_a_second_header_row_and_all_visits(tmp_path, ends):
    (tmp_path / "oai_kxrsemiquant01.txt").write_bytes(NDA.replace("\n", ends).encode())
    path = find_layout(tmp_path).readings("00")
    assert path.name == "oai_kxrsemiquant01.txt"
    assert read_readings(path, OAI)["9000001", "R"]["XRKL"] == 2
    assert read_readings(path, OAI)["9000001", "R"]["XRJSM"] == 1.5
    assert read_readings(path, OAI, visit="12m")["9000001", "R"]["XRKL"] == 3
    assert read_covariates([path])["9000001"] == {"age": 62, "sex": "F", "bmi": None, "site": "C"}
    with pytest.raises(ValueError, match="no radiographic reading of visit 96m"):
        read_readings(path, OAI, visit="96m")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("delimiter", ["|", ",", "\t"])
def test_encodings_and_separators(tmp_path, encoding, delimiter):
    lines = [["id", "side", "readprj", "v00xrkl"], ["9000001", "1: Right", "15", "2: caf\xe9"]]
    text = "".join(delimiter.join(line) + "\r\n" for line in lines)
    (tmp_path / "kxr_sq_bu00.txt").write_bytes(text.encode(encoding))
    assert read_readings(tmp_path / "kxr_sq_bu00.txt", OAI)["9000001", "R"]["XRKL"] == 2


def test_sas_tables_are_read_as_the_text_is(tmp_path):
    """SAS transport files: pyreadstat writes those, and reads both kinds by the same call."""
    columns = {"ID": ["9000001", "9000001"], "SIDE": [1.0, 2.0], "READPRJ": [15.0, 15.0]}
    columns |= {"V00XRKL": [2.0, None], "V00XRJSM": [1.5, 0.0]}
    pyreadstat.write_xport(pandas.DataFrame(columns), str(tmp_path / "kxr.xpt"))
    readings = read_readings(tmp_path / "kxr.xpt", OAI)
    assert (readings["9000001", "R"]["XRKL"], readings["9000001", "R"]["XRJSM"]) == (2, 1.5)
    assert (readings["9000001", "L"]["XRKL"], readings["9000001", "L"]["XRJSM"]) == (None, 0)


@pytest.mark.parametrize("name", ["kxr_sq_bu00", "wrong_encoding"])
def test_real_sas7bdat_of_readings(name):
    """Rows of both cases, projects 37 and 15 of one knee, letters of missing codes, fractions; see fixtures/sas."""
    readings = read_readings(SAS / f"{name}.sas7bdat", OAI)
    known = {key: {name: grade for name, grade in row.items() if grade is not None} for key, row in readings.items()}
    assert known["9000001", "R"] == {"XRKL": 2, "XRJSM": 1.5, "XRJSL": 0, "XRATTM": 2}
    assert known["9000001", "L"] == {}
    assert known["9000002", "R"] == {"XRKL": 3, "XRJSM": 1, "XRJSL": 0}
    assert known["9000002", "L"] == {"XRKL": 1, "XRJSM": 0, "XRJSL": 0}
    assert known["9000003", "R"] == dict.fromkeys(OAI.highest, 0)
    assert read_table(SAS / f"{name}.sas7bdat")[1]["V00NOTE"] == "café au lait"


def test_real_sas7bdat_of_people_with_numeric_and_text_ids():
    people = read_covariates([SAS / "enrollees.sas7bdat", SAS / "allclinical00.sas7bdat"])
    assert people == {
        "9000001": {"age": 61, "sex": "F", "bmi": 27.5, "site": "B"},
        "9000002": {"age": None, "sex": "M", "bmi": None, "site": "D"},
        "9000003": {"age": 70, "sex": "F", "bmi": 31.25, "site": None},
    }


def test_sas_bytes_are_decoded(tmp_path, monkeypatch):
    """Columns that hold bytes come from older files; nothing at hand writes them, so the reader is replaced."""

    class Meta:
        column_names = ("ID", "SIDE", "V00XRKL", "V00OTHER")

    def read(path, metadataonly=False, usecols=None, output_format=None):
        columns = {"ID": [b"9000001"], "SIDE": [b"1: Right"], "V00XRKL": [2.0], "V00OTHER": [1.0]}
        return (None, Meta) if metadataonly else ({name: columns[name] for name in usecols}, Meta)

    monkeypatch.setattr(pyreadstat, "read_sas7bdat", read)
    path = tmp_path / "kxr_sq_bu00.sas7bdat"
    path.write_bytes(b"x")
    assert find_layout(tmp_path).readings("00") == path
    assert read_readings(path, OAI)["9000001", "R"]["XRKL"] == 2


def test_damaged_sas_file_is_one_clear_error(tmp_path):
    (tmp_path / "kxr_sq_bu00.sas7bdat").write_bytes(b"not SAS" * 100)
    with pytest.raises(ValueError, match="cannot be read as SAS"):
        read_readings(tmp_path / "kxr_sq_bu00.sas7bdat", OAI)


def test_age_and_bmi_are_those_of_the_visit(tmp_path):
    tree = oai.Tree(tmp_path)
    enrollees = tree.table("Enrollees.txt", ["ID|P02SEX|V00SITE", "9000001|2: Female|B"])
    clinical = tree.table("AllClinical01.txt", ["ID|V01AGE|V01BMI|P01BMI", "9000001|62|27.5|29"])
    assert read_covariates([enrollees, clinical], visit="12m")["9000001"] == {
        **{"age": 62, "sex": "F", "bmi": 27.5, "site": "B"}
    }


def test_quotation_mark_that_is_not_closed_swallows_no_row(tmp_path):
    """Without a word a reader of CSV takes what follows it, up to the next mark or the end, for one cell."""
    text = 'participant,film,site\na,1,"B\nb,2,C\nc,3,D\n'
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match="row 4: a quotation mark opens and swallows the rows"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text('participant,note\na,"two\nlines"\nb,x\n')
    assert [row["NOTE"] for row in read_table(tmp_path / "t.csv") if row] == ["two\nlines", "x"]
