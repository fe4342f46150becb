"""Readings and covariates from OAI's tables, in the shapes in which they occur."""

import fabricate_oai as oai
import pytest

from bundle.data.oai_layout import find_layout
from bundle.data.oai_tables import fill_unread, read_covariates, read_readings, read_table
from bundle.readings import GRADE_TABLES, VARIABLES

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
    assert find_layout(tmp_path).table("kxr_sq_bu00.txt") == path
    assert read_readings(path, OAI)["9000001", "R"]["XRKL"] == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_project_15_comes_before_37_and_42_is_37(tmp_path, order):
    rows = [knee(project="15", XRKL="1"), knee(project="37", XRKL="2"), knee(project="42", XRKL="3")]
    tree = oai.Tree(tmp_path)
    assert read_readings(tree.readings([rows[i] for i in order]), OAI)["9000001", "R"]["XRKL"] == 1
    # 42 is 37: the first of the two in the file, but one without KL gives way
    late = [rows[i] for i in order if i]
    expected = late[0]["XRKL"]
    assert read_readings(tree.readings(late), OAI)["9000001", "R"]["XRKL"] == int(expected)
    late[0]["XRKL"] = ".T: Technical problems"
    assert read_readings(tree.readings(late), OAI)["9000001", "R"]["XRKL"] == int(late[1]["XRKL"])


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
        (b"ID,SIDE\n1,2\n", "no column ID"),
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
