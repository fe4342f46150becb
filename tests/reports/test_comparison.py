"""Runs side by side: the same knees, the numbers of the runs, repetitions, and what is refused."""

import base64
import csv
import json
import math
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_run import GRADES, write_run
from PIL import Image

from bundle.reports.comparison import compare, differences, statistics
from bundle.reports.comparison_page import FILES, write_comparison
from bundle.reports.runs import read_run

ROOT = Path(__file__).resolve().parents[2]
MEAN = {"psnr": [10.0, 11, 12, 13, 14, 15], "ssim": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
REAL = {"correlation": [0.9, 0.8, 0.9, 0.8, 0.9, 0.8]}


def better(by, ssim=0.0):
    return {"psnr": [value + by for value in MEAN["psnr"]], "ssim": [value + ssim for value in MEAN["ssim"]]}


@pytest.fixture
def runs(tmp_path):
    one = write_run(tmp_path / "one", {"pred": better(1.0, 0.1), "mean": MEAN, "real": REAL})
    two = write_run(tmp_path / "two", {"pred": better(3.0), "mean": MEAN, "real": REAL})
    return [("One", read_run(one)), ("Two", read_run(two))]


def record(records, **wanted):
    (found,) = [r for r in records if all(r[key] == value for key, value in wanted.items())]
    return found


def test_rows_are_models_then_what_both_scored_once_then_the_real_volumes(runs):
    assert [row.name for row in compare(runs).rows] == ["One", "Two", "Mean", "Real volumes"]


def test_statistics_are_those_of_the_scores(runs):
    records = statistics(compare(runs))
    found = record(records, row="Two", metric="psnr", kl_grade="all")
    assert (found["mean"], found["median"], found["n"], found["participants"]) == (15.5, 15.5, 6, 6)
    assert found["sd"] == pytest.approx(math.sqrt(3.5))
    assert found["low"] < 15.5 < found["high"]
    assert found["sd_repetitions"] is None
    assert record(records, row="Real volumes", metric="correlation", kl_grade="all")["mean"] == pytest.approx(0.85)


def test_each_grade_has_its_own_knees_and_absent_ones_are_absent(runs):
    records = [r for r in statistics(compare(runs)) if r["row"] == "One" and r["metric"] == "psnr"]
    assert [r["kl_grade"] for r in records] == ["all", "0", "2", "4", "not read"]
    assert [r["knees"] for r in records] == [6, 2, 2, 1, 1]
    assert record(records, kl_grade="2")["mean"] == pytest.approx((12 + 15) / 2 + 1)


def test_differences_are_knee_by_knee_against_each_baseline(runs):
    pairs = differences(compare(runs, baselines=["Mean", "One"]))
    assert record(pairs, row="Two", baseline="Mean", metric="psnr")["difference"] == pytest.approx(3)
    found = record(pairs, row="Two", baseline="One", metric="ssim")
    assert found["difference"] == pytest.approx(-0.1)
    assert found["p"] == pytest.approx(2 / 2**6)
    assert not [pair for pair in pairs if pair["row"] == pair["baseline"]]


def test_by_default_all_but_the_first_are_baselines(runs):
    assert compare(runs).baselines == ["Two", "Mean"]


def test_runs_of_one_name_are_repetitions(tmp_path):
    """Gains of 1 and 3 dB: a knee's score is 2 above the mean volume's; the means differ by 2, their sd is sqrt 2."""
    folders = [write_run(tmp_path / str(by), {"pred": better(by), "mean": MEAN}) for by in (1.0, 3.0)]
    comparison = compare([("Model", read_run(folder)) for folder in folders])
    assert [row.name for row in comparison.rows] == ["Model", "Mean"]
    found = record(statistics(comparison), row="Model", metric="psnr", kl_grade="all")
    assert (found["repetitions"], found["mean"]) == (2, 14.5)
    assert found["sd_repetitions"] == pytest.approx(math.sqrt(2))
    (pair,) = [p for p in differences(comparison) if p["metric"] == "psnr"]
    assert pair["difference"] == pytest.approx(2)


def test_knees_that_not_all_have_are_left_out_and_counted(tmp_path):
    one = write_run(tmp_path / "one", {"pred": MEAN})
    later = {key: value[2:] for key, value in better(5).items()}
    two = write_run(tmp_path / "two", {"pred": later}, grades=GRADES[2:], first_knee=2)
    comparison = compare([("One", read_run(one)), ("Two", read_run(two))])
    assert [participant for participant, _, _ in comparison.knees] == ["P2", "P3", "P4", "P5"]
    assert comparison.notes == ["4 of 6 knees are in every run and are compared (One: 6, Two: 4)."]
    assert record(statistics(comparison), row="One", metric="psnr", kl_grade="all")["mean"] == pytest.approx(13.5)
    (pair,) = [p for p in differences(comparison) if p["metric"] == "psnr"]
    assert pair["difference"] == pytest.approx(-5)


def test_a_score_that_is_none_is_counted_not_dropped(tmp_path):
    scores = {"psnr": [1.0, math.nan, 3, 4, 5, 6]}
    comparison = compare([("One", read_run(write_run(tmp_path / "one", {"pred": scores})))])
    found = record(statistics(comparison), metric="psnr", kl_grade="all")
    assert (found["knees"], found["n"], found["mean"]) == (6, 5, pytest.approx(3.8))
    write_comparison(comparison, tmp_path / "out")
    assert "1 without a score" in (tmp_path / "out" / "comparison.html").read_text()


def test_a_baseline_that_is_a_run_of_its_own_is_one_row(tmp_path, runs):
    own = read_run(write_run(tmp_path / "own", {"pred": MEAN, "mean": MEAN, "real": REAL}))
    comparison = compare([*runs, ("Mean volume", own)])
    assert [row.name for row in comparison.rows] == ["One", "Two", "Mean volume", "Real volumes"]
    assert comparison.notes == ["Mean has the scores of Mean volume and is not shown twice."]


def test_baselines_that_differ_between_runs_keep_their_runs_name(tmp_path, runs):
    other = read_run(write_run(tmp_path / "other", {"pred": better(2), "mean": better(0.5)}))
    names = [row.name for row in compare([*runs, ("Three", other)]).rows]
    assert names == ["One", "Two", "Three", "Mean", "Mean (Three)", "Real volumes"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"phantom": False}, "may not share a table"),
        ({"first_knee": 100}, "no knee in common"),
        ({"grades": (1, *GRADES[1:])}, "grades differ"),
        ({"conventions": {"psnr": {"measure": "made up", "data_range": 1.0}}}, "evaluate both alike"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, runs, options, reason):
    odd = read_run(write_run(tmp_path / "odd", {"pred": MEAN}, **options))
    with pytest.raises(ValueError, match=reason):
        compare([*runs, ("Odd", odd)])


def test_unknown_baseline_is_refused(runs):
    with pytest.raises(ValueError, match="the rows are: One, Two, Mean"):
        compare(runs, baselines=["Meen"])


def test_files_hold_the_same_numbers_and_the_page_is_closed(tmp_path, runs):
    sections = {"s": {"title": "Re<t>rieval", "note": "", "columns": ["k"], "rows": [[3]], "convention": {}}}
    third = read_run(write_run(tmp_path / "three", {"pred": better(2)}, sections=sections))
    paths = write_comparison(compare([*runs, ("<i>", third)]), tmp_path / "out", title="A & B", note="Ranks nothing.")
    assert [path.name for path in paths] == list(FILES)
    content = json.loads(paths[2].read_text())
    rows = list(csv.DictReader(paths[0].open()))
    assert len(rows) == len(content["statistics"])
    for row, found in zip(rows, content["statistics"], strict=True):
        assert (row["row"], row["mean"]) == (found["row"], str(found["mean"]))
    assert len(list(csv.DictReader(paths[1].open()))) == len(content["paired"])
    page = paths[3].read_text()
    assert "<script" not in page
    assert "<i>" not in page
    assert "A &amp; B" in page
    assert "Ranks nothing." in page
    assert "digital knee phantom" in page
    assert "Re&lt;t&gt;rieval" in page
    assert "KL 2, n = 2" in page
    assert not re.findall(r"(?:src|href|url\()", page)


def test_the_page_holds_its_pictures(tmp_path, runs):
    """Byte by byte, and nothing that a page elsewhere would not have."""
    picture = tmp_path / "slice_counts.png"
    Image.new("L", (3, 2), 128).save(picture)
    page = write_comparison(compare(runs), tmp_path / "out", pictures=[picture])[3].read_text()
    ((kind, content, words),) = re.findall(r'src="data:image/(\w+);base64,([^"]+)" alt="([^"]+)"', page)
    assert (kind, base64.b64decode(content), words) == ("png", picture.read_bytes(), "slice counts")
    assert len(re.findall(r"(?:src|href|url\()", page)) == 1


@pytest.fixture
def command(monkeypatch, capsys):
    """The script as a command, in this process: starting one costs nine seconds."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "scripts" / "compare.py"), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return run


def test_command_names_rows_and_writes_the_files(tmp_path, runs, command):
    ours = f"Ours={runs[1][1].folder}"
    code, out, _ = command(runs[0][1].folder, ours, "--out", tmp_path / "out", "--baseline", "Mean")
    assert code == 0
    assert out.splitlines() == [str(tmp_path / "out" / name) for name in (*FILES, "scores.png")]
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    assert list(dict.fromkeys(row["row"] for row in rows)) == ["Pred", "Ours", "Mean", "Real volumes"]
    pairs = list(csv.DictReader((tmp_path / "out" / "paired.csv").open()))
    assert {pair["baseline"] for pair in pairs} == {"Mean"}


def test_runs_that_name_their_models_alike_are_told_apart_by_folder(tmp_path, runs, command):
    code, _, _ = command(*(run.folder for _, run in runs), "--out", tmp_path / "out")
    assert code == 0
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    models = [f"Pred ({run.folder})" for _, run in runs]
    assert list(dict.fromkeys(row["row"] for row in rows)) == [*models, "Mean", "Real volumes"]


def test_command_that_cannot_says_why_in_one_line_and_writes_nothing(tmp_path, command):
    code, _, errors = command(tmp_path / "absent", "--out", tmp_path / "out")
    assert code == 1
    assert errors.startswith("error: run ")
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_help_names_every_option_and_file(command):
    code, out, _ = command("--help")
    assert code == 0
    for word in ("RUN_DIR", "NAME=", "--out", "--baseline", "--title", "--note", *FILES):
        assert word in out


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("summary.json", "{}", "not an evaluation's summary"),
        ("metrics.csv", "a,b\n1,2\n", "must begin with the columns"),
        ("metrics.csv", "participant,side,visit,kl_grade,method,psnr\n", "holds no knee"),
        ("metrics.csv", "participant,side,visit,kl_grade,method,psnr\nP,R,00m,1,pred,x\n", "not a score"),
        ("metrics.csv", "participant,side,visit,kl_grade,method,psnr\n" + "P,R,00m,1,pred,1\n" * 2, "occurs twice"),
    ],
)
def test_damaged_runs_are_refused(tmp_path, file, text, reason):
    folder = write_run(tmp_path / "run", {"pred": MEAN})
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_run(folder)


def test_scores_are_read_to_the_last_digit(tmp_path):
    value = 1 / 3
    run = read_run(write_run(tmp_path / "run", {"pred": {"psnr": [value] * 6}}))
    assert np.array_equal(run.scores["pred"]["psnr"], np.full(6, value))


def test_files_below_the_current_folder_are_named_by_their_path_from_there(tmp_path, monkeypatch):
    """A page that is shared names no machine's folders."""
    monkeypatch.chdir(tmp_path)
    folder = write_run(tmp_path / "one", {"pred": MEAN})
    summary = json.loads((folder / "summary.json").read_text())
    weights = str(tmp_path / "one" / "model.pt")
    (folder / "summary.json").write_text(
        json.dumps(summary | {"provenance": {"weights": weights, "other": "/x/y", "fitted": None}})
    )
    (said,) = compare([("One", read_run(folder))]).provenance.values()
    assert said == "weights: one/model.pt; other: /x/y; fitted: None"
