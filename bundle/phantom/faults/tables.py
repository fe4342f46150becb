"""Faults and oddities of a participant's rows in tables and lists."""

from __future__ import annotations

from bundle.phantom.faults.registry import READ, Rows, plants
from bundle.phantom.reading_rows import MISSING


@plants("rows", READ, "blanks round a text mean nothing")
def padded_strings(rows: Rows) -> None:
    """Descriptions in the list of images have blanks at either end."""
    for row in rows["contents"]:
        for column in ("StudyDescription", "SeriesDescription"):
            row[column] = f" {row[column]}  "


@plants("rows", READ, "a quotation mark within a quoted cell is doubled", packaging="directory")
def quotes_in_contents(rows: Rows) -> None:
    """StudyDescription in contents.csv holds quotation marks."""
    for row in rows["contents"]:
        row["StudyDescription"] = row["StudyDescription"].replace("OAI", '"OAI"')


@plants("rows", READ, "1 is the right knee, 2 the left", packaging="directory")
def side_as_number(rows: Rows) -> None:
    """SIDE is `1` in place of `1: Right`."""
    for row in rows["readings"]:
        row["SIDE"] = row["SIDE"][0]


@plants("rows", READ, "1.0 is the right knee, 2.0 the left", packaging="directory")
def side_as_decimal(rows: Rows) -> None:
    """SIDE is `1.0` in place of `1: Right`."""
    for row in rows["readings"]:
        row["SIDE"] = f"{row['SIDE'][0]}.0"


@plants("rows", READ, "a blank is a missing reading", packaging="directory")
def blanks_for_missing(rows: Rows) -> None:
    """Osteophytes are a single blank in place of a grade or a missing code."""
    for row in rows["readings"]:
        row |= {column: " " for column in row if column.startswith("V00XROS")}


@plants("rows", READ, "attrition goes to grade 3")
def attrition_of_2(rows: Rows) -> None:
    """Medial attrition is grade 2."""
    for row in rows["readings"]:
        row["V00XRATTM"] = "2: 2"


@plants("rows", READ, "some projects grade narrowing in fractions")
def narrowing_of_1_5(rows: Rows) -> None:
    """Medial narrowing is 1.5."""
    for row in rows["readings"]:
        row["V00XRJSM"] = "1.5"


@plants("rows", READ, "a knee without a KL grade keeps its other readings")
def kl_missing(rows: Rows) -> None:
    """The KL grade is missing in every row."""
    for row in rows["readings"]:
        row["V00XRKL"] = MISSING


@plants("rows", READ, "OAI's tables are not clean UTF-8")
def latin1_byte(rows: Rows) -> None:
    """A label holds a letter that latin-1 writes as one byte above 127."""
    for row in rows["enrollees"]:
        row["P02RACE"] = "0: Other Non-white (métis)"


@plants("rows", READ, "OAI's tables quote nothing, so a quotation mark is a letter", packaging="directory")
def quote_in_label(rows: Rows) -> None:
    """A label holds one quotation mark."""
    for row in rows["enrollees"]:
        row["P02HISP"] = '0: No ("other'


@plants("rows", READ, "a knee without readings has images all the same")
def no_readings(rows: Rows) -> None:
    """Neither knee has a row of readings."""
    rows["readings"].clear()


@plants("rows", READ, "one side's readings are there, the other's are missing")
def readings_of_one_side(rows: Rows) -> None:
    """Only the left knee has rows of readings."""
    rows["readings"][:] = [row for row in rows["readings"] if row["SIDE"].startswith("2")]
