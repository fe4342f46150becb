"""What runs kept becomes pictures: right images in right places, agreement white, nothing cut off, no stale file."""

import io

import numpy as np
import pytest
from made_up_run import write_run
from PIL import Image

from bundle.reports import kept_pictures
from bundle.reports.comparison import compare
from bundle.reports.kept import KeptSlice, read_kept, write_kept
from bundle.reports.kept_pictures import features_picture, methods_picture
from bundle.reports.paper_pictures import write_pictures
from bundle.reports.picture_grid import CELL, DPI, GAP, LABEL, ImageRow, picture_grid
from bundle.reports.runs import read_run
from bundle.reports.score_picture import draw_scores
from bundle.reports.slice_count_picture import draw_slice_counts

SIZE = 16
CURVE = {
    "title": "t",
    "note": "Mean of 1 knees.",
    "columns": ["volume", "slices", "distance", "neighbours", "equal"],
    "rows": [["synthesised", 30, 2.5, 0.6, 0.6], ["synthesised", 50, 1.5, 0.7, None], ["real", 50, 1.5, 0.8, 0.7]],
    "convention": {},
}


def square(grey):
    """Black, with a square of one grey."""
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[4:12, 4:12] = grey
    return image


def kept(name="P1", *, grade=2, real=200, remark="", **made):
    images = {key: square(grey) for key, grey in made.items()}
    return KeptSlice(square(50), square(real), images, 0.5, (name, "R", "00m"), grade, remark=remark)


@pytest.fixture
def drawn(monkeypatch):
    """Rows and other words given to the grid by the last picture."""
    given = {}
    monkeypatch.setattr(kept_pictures, "picture_grid", lambda rows, **words: given.update(words, rows=rows) or b"png")
    return given


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def border(image):
    return np.concatenate([image[:2].ravel(), image[-2:].ravel(), image[:, :2].ravel(), image[:, -2:].ravel()])


def test_kept_slices_are_read_as_they_were_written_and_without_pickles(tmp_path):
    written = {"G-0": kept(grade=None, remark="a remark", pred=3, other=4), "G-2": kept("P2", pred=9)}
    write_kept(tmp_path / "new" / "slices.npz", written)
    with np.load(tmp_path / "new" / "slices.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype.kind in "uU" for name in archive.files)
    found = read_kept(tmp_path / "new" / "slices.npz")
    assert list(found) == ["G-0", "G-2"]
    for label, one in written.items():
        other = found[label]
        assert (other.knee, other.kl_grade, other.depth) == (one.knee, one.kl_grade, one.depth)
        assert (other.mirrored, other.remark, list(other.made)) == (one.mirrored, one.remark, list(one.made))
        for mine, theirs in ((one.film, other.film), (one.real, other.real), (one.made["pred"], other.made["pred"])):
            np.testing.assert_array_equal(mine, theirs)


def test_runs_that_kept_nothing_are_none_and_other_files_are_refused(tmp_path):
    assert read_kept(tmp_path / "absent.npz") == {}
    np.savez(tmp_path / "other.npz", array=np.zeros(3))
    (tmp_path / "text.npz").write_text("x")
    for name in ("other", "text"):
        with pytest.raises(ValueError, match="not slices that an evaluation kept"):
            read_kept(tmp_path / f"{name}.npz")


def test_methods_stand_between_film_and_real_slice_with_differences_below(drawn):
    """The exact one has a white map; the other differs at the square's edge by 150 of 255, darker than the ceiling."""
    runs = {"A": {"G-2": kept(pred=200)}, "B": {"G-2": kept(pred=50)}, "kept nothing": {}}
    assert methods_picture(runs) == b"png"
    assert drawn["heads"] == ["X-ray", "A", "B", "Real MRI"]
    images, maps = (row.images for row in drawn["rows"])
    assert [image[8, 8] for image in images] == [50, 200, 50, 200]
    assert maps[0] is None
    assert maps[-1] is None
    assert maps[1].min() == 255
    assert maps[2][0, 0] == 255
    assert maps[2].min() < 60


def test_rows_are_the_grades_that_all_methods_kept_of_one_knee(drawn):
    runs = {
        "A": {"G-0": kept("P1", pred=1), "G-2": kept("P2", pred=1), "G-4": kept("P3", pred=1)},
        "B": {"G-4": kept("P3", pred=1), "G-2": kept("another", pred=1)},
    }
    methods_picture(runs)
    assert [row.label for row in drawn["rows"] if row.label] == ["G-4"]
    assert "No knee of G-0 or G-2 is in all of them." in drawn["foot"][0]
    assert methods_picture({"A": runs["A"], "B": {"G-2": kept("another", pred=1)}}) is None


def test_findings_have_off_on_and_their_change(drawn):
    """Off equals the real slice here, so its map is white; 51 more is four fifths of the ceiling: 255 - 204."""
    found = {"cyst": kept(real=100, off=100, on=151, remark="added")}
    assert features_picture({"reads none": {}, "Model": found}) == b"png"
    assert drawn["title"].endswith("Model")
    first, maps = drawn["rows"]
    assert [image[8, 8] for image in first.images] == [50, 100, 151, 51, 100]
    assert (first.label, "added" in first.detail) == ("Cyst", True)
    assert maps.images[1].min() == 255
    assert maps.images[2].min() < 255
    assert features_picture({"reads none": {}}) is None


def test_images_lie_where_rows_and_columns_say():
    """One white image among black ones: its centre is that of row 2, column 3."""
    black, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    rows = [ImageRow([black] * 3), ImageRow([black, black, white], opens=False)]
    image = pixels(picture_grid(rows, heads=["a", "b", "c"], title="T")).mean(-1)
    lefts = [round((LABEL + place * (CELL + GAP) + CELL / 2) * DPI) for place in range(3)]
    dark = [np.flatnonzero(image[:, left] < 10) for left in lefts]
    edge = round(CELL * DPI)
    assert [len(column) for column in dark] == pytest.approx([2 * edge, 2 * edge, edge], abs=4)
    assert dark[2].max() < dark[0].max() - edge / 2, "the white one is below the black one"


@pytest.mark.parametrize("columns", [2, 7])
def test_long_words_are_not_cut_off(columns):
    words = "CAE with 3-D generator and more words than fit (re-implementation) " * 2
    rows = [
        ImageRow(
            [square(9)] * columns, label="Chondrocalcinosis", detail="P0000001 R 00m, KL 2, d = 0.50; " + words[:60]
        )
    ]
    image = pixels(picture_grid(rows, heads=[words[:64]] * columns, title=words, foot=[words * 3, words]))
    assert border(image).min() == 255


def records(names):
    both = [{"metric": "psnr", "mean": -10.0, "median": 12.5, "low": -20.0, "high": 30.0}, {"metric": "near_edge"}]
    none = dict.fromkeys(("mean", "median", "low", "high"))
    return [{**none, **of, "row": name, "kl_grade": grade} for name in names for of in both for grade in ("all", "2")]


def test_tables_and_curves_fit_their_picture_too():
    long = "CAE with 3-D generator and more words than fit (re-implementation)"
    foot = [long * 4]
    assert border(pixels(draw_scores(records(["A", long]), title="Scores", foot=foot))).min() == 255
    assert border(pixels(draw_slice_counts({long: CURVE, "B": CURVE}, title="Curve", foot=foot))).min() == 255


def test_a_table_has_a_row_a_method():
    one, three = (pixels(draw_scores(records(names), title="T")).shape for names in (["A"], ["A", "B", "C"]))
    assert three[0] > one[0]
    assert three[1] == one[1]


def made_up_runs(folder):
    section = {"slice_count_curve": CURVE}
    runs = [
        ("A", write_run(folder / "a", {"pred": {"psnr": np.arange(6.0)}}, sections=section)),
        ("A", write_run(folder / "a2", {"pred": {"psnr": np.arange(6.0)}})),
        ("B", write_run(folder / "b", {"pred": {"psnr": np.arange(6.0) + 1}})),
    ]
    for name in ("a", "b"):
        write_kept(folder / name / "slices.npz", {"G-0": kept(pred=9)})
    write_kept(folder / "a" / "features.npz", {"cyst": kept(off=8, on=9)})
    return [(name, read_run(path)) for name, path in runs]


def test_every_picture_is_written_and_none_outlives_what_it_shows(tmp_path):
    runs = made_up_runs(tmp_path)
    comparison = compare(runs)
    names = ["methods.png", "features.png", "slice_counts.png", "scores.png"]
    paths = write_pictures(runs, comparison, tmp_path / "out", columns=["B", "not run"])
    assert [path.name for path in paths] == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    (tmp_path / "a" / "features.npz").unlink()
    paths = write_pictures(runs, comparison, tmp_path / "out")
    assert [path.name for path in paths] == [name for name in names if name != "features.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)


def test_pictures_of_phantoms_say_so(tmp_path, drawn):
    runs = made_up_runs(tmp_path)
    write_pictures(runs, compare(runs), tmp_path / "out", note="Ranks nothing.")
    assert drawn["foot"][1] == "Ranks nothing."
    assert "does not stand for the published one" in drawn["foot"][2]
    assert "must not serve diagnosis" in drawn["foot"][3]
