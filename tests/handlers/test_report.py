"""A whole evaluation in small: MONAI's evaluator, metrics of two methods, the three files of the report."""

import base64
import csv
import io
import json
import math
import re

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.transforms import Compose
from PIL import Image

from bundle.geometry import Grid
from bundle.handlers import (
    AdjacentSliceCorrelationHandler,
    EvaluationReport,
    PSNRHandler,
    RegionSSIMHandler,
    SSIMHandler,
)
from bundle.handlers.report import choose
from bundle.handlers.scores import Knee, ScoreTable, summarise
from bundle.inferers.baseline import AddPredictiond
from bundle.metrics import region_ssim
from bundle.networks.baselines import MeanVolume
from bundle.readings import grade_table, kl_grade
from bundle.reports.montage import axial_reformat, panel, sagittal_reformat, slice_indices, sobel_difference

ROWS, COLUMNS, SLICES = 36, 36, 5
METHODS = {"pred": "Model <A>", "mean_volume": "Mean volume"}
KL_GRADES = (3, 0, None, 1)


def knee_item(index):
    generator = torch.Generator().manual_seed(index)
    coarse = torch.rand((1, 1, 6, 6, SLICES), generator=generator) * 2 - 1
    mri = torch.nn.functional.interpolate(coarse, size=(ROWS, COLUMNS, SLICES), mode="trilinear")[0].tanh()
    grid = Grid(ROWS, COLUMNS, SLICES, spacing_mm=4.0, slice_spacing_mm=15.0)
    side = "RL"[index % 2]
    return {
        "image": MetaTensor(mri.mean(-1), meta={"mirrored": side == "L"}),
        "mri": MetaTensor(mri, affine=torch.tensor(grid.affine())),
        "participant": f"P{index // 2:04d}",
        "side": side,
        "visit": "00m",
        "readings": torch.tensor(grade_table("oai").encode({"XRKL": KL_GRADES[index]})),
    }


class Blurred(torch.nn.Module):
    """A model that spreads the film over every slice."""

    def forward(self, film):
        return film[..., None].repeat(1, 1, 1, 1, SLICES)


def image_and_mri(batch, device=None, non_blocking=False, **options):
    return batch["image"], batch["mri"]


@pytest.fixture(scope="module")
def items():
    return [knee_item(index) for index in range(4)]


def evaluate(items, folder, *, report_options=(), metrics=None):
    def handlers(method):
        pick = from_engine([method, "label"])
        return {
            f"{method}_psnr": PSNRHandler(data_range=2, output_transform=pick),
            f"{method}_ssim": SSIMHandler(data_range=2, output_transform=pick),
            f"{method}_rssim": RegionSSIMHandler(data_range=2, sigma=1.0, output_transform=pick),
            f"{method}_adjacent_slice_correlation": AdjacentSliceCorrelationHandler(output_transform=pick),
        }

    additional = {**handlers("mean_volume"), **handlers("pred")} if metrics is None else metrics
    key_metric = "pred_psnr"
    real = {"real_adjacent_slice_correlation": AdjacentSliceCorrelationHandler(of="real")}
    mean = MeanVolume((ROWS, COLUMNS, SLICES)).fit(items[:2])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=3),
        network=Blurred(),
        prepare_batch=image_and_mri,
        postprocessing=Compose([AddPredictiond(mean, key="mean_volume")]),
        key_val_metric={key_metric: additional.pop(key_metric)},
        additional_metrics=additional | real,
        val_handlers=[EvaluationReport(folder, METHODS, **dict(report_options))],
    )
    evaluator.run()
    return evaluator.state


@pytest.fixture(scope="module")
def written(items, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a report") / "eval"
    provenance = {"data": "synthetic-phantom, seed 0", "note": "<script>alert(1)</script>"}
    state = evaluate(items, folder, report_options={"title": "Small evaluation", "provenance": provenance})
    return folder, state


def test_only_the_three_files_are_written(written):
    assert sorted(path.name for path in written[0].iterdir()) == ["metrics.csv", "report.html", "summary.json"]


def test_csv_has_each_volumes_own_scores(written, items):
    rows = list(csv.DictReader(io.StringIO((written[0] / "metrics.csv").read_text())))
    assert len(rows) == 4 * 3  # model, mean volume, the real volumes
    model = [row for row in rows if row["method"] == "pred"]
    assert [(row["participant"], row["side"], row["visit"], row["kl_grade"]) for row in model] == [
        ("P0000", "R", "00m", "3"),
        ("P0000", "L", "00m", "0"),
        ("P0001", "R", "00m", ""),
        ("P0001", "L", "00m", "1"),
    ]
    for row, item in zip(model, items, strict=True):
        pred = Blurred()(item["image"][None])[0, 0]
        expected = region_ssim(pred.as_tensor(), item["mri"][0].as_tensor(), data_range=2, sigma=1.0)
        assert float(row["rssim"]) == pytest.approx(expected)
        assert float(row["adjacent_slice_correlation"]) == pytest.approx(1.0)
    real = next(row for row in rows if row["method"] == "real")
    assert real["psnr"] == ""
    slices = items[0]["mri"][0].numpy().reshape(-1, SLICES).T
    expected = np.mean([np.corrcoef(slices[i], slices[i + 1])[0, 1] for i in range(SLICES - 1)])
    assert float(real["adjacent_slice_correlation"]) == pytest.approx(expected)


def test_mean_volume_is_scored_as_the_mean_volume(written, items):
    mean = (items[0]["mri"] + items[1]["mri"]).as_tensor()[0] / 2
    expected = region_ssim(mean, items[3]["mri"][0].as_tensor(), data_range=2, sigma=1.0)
    assert written[1].metric_details["mean_volume_rssim"][3].item() == pytest.approx(expected)


def test_summary_repeats_the_statistics_and_conventions(written):
    summary = json.loads((written[0] / "summary.json").read_text())
    rows = list(csv.DictReader(io.StringIO((written[0] / "metrics.csv").read_text())))
    psnr = [float(row["psnr"]) for row in rows if row["method"] == "mean_volume"]
    found = summary["metrics"]["mean_volume"]["psnr"]
    assert found["n"] == 4
    assert found["mean"] == pytest.approx(np.mean(psnr))
    assert found["median"] == pytest.approx(np.median(psnr))
    assert found["sd"] == pytest.approx(np.std(psnr, ddof=1))
    assert (summary["knees"], summary["participants"], summary["phantom"]) == (4, 2, True)
    assert summary["conventions"]["rssim"]["data_range"] == 2
    assert summary["conventions"]["rssim"]["band"] == "middle third of the rows"


def test_page_is_self_contained_and_says_what_it_shows(written):
    page = (written[0] / "report.html").read_text()
    assert "digital knee phantom" in page
    assert "not a medical device" in page
    assert "<script" not in page
    assert "Model &lt;A&gt;" in page
    assert "<A>" not in page
    assert not re.findall(r'(?:src|href)="(?!data:image/(?:png|jpeg);base64,|#)', page)
    assert "@import" not in page
    assert "url(" not in page


def test_page_shows_knees_in_order_of_grade_with_their_panels(written):
    page = (written[0] / "report.html").read_text()
    grades = re.findall(r"&middot; (KL [^,]+), (\w+ knee(?: \(shown mirrored\))?)", page)
    assert grades == [
        ("KL 0", "left knee (shown mirrored)"),
        ("KL 1", "left knee (shown mirrored)"),
        ("KL 3", "right knee"),
        ("KL not read", "right knee"),
    ]
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)" width="(\d+)" height="(\d+)"', page)
    # Film; 3 coronal slices, sagittal and axial of real, model and mean; 3 Sobel differences of model and mean.
    assert len(pictures) == 4 * (1 + 3 * 5 + 2 * 3)
    sizes = [(int(width), int(height)) for _, width, height in pictures[:6]]
    in_plane, depth = 4 * ROWS, 15 * SLICES
    assert sizes == [(in_plane, in_plane)] * 4 + [(depth, in_plane), (in_plane, depth)]
    film = Image.open(io.BytesIO(base64.b64decode(pictures[0][0])))
    assert film.size == (COLUMNS, ROWS)
    assert len(film.getcolors()) > 10


def test_page_has_a_viewer_of_three_planes_a_knee_without_a_script(written):
    page = (written[0] / "report.html").read_text()
    assert page.count('<figure class="viewer"') == 4 * 3
    assert page.count('src="data:image/jpeg;base64,') == 4 * 3
    # Real, model and mean, side by side under one window.
    names = re.search(r'<div class="names">(.*?)</div>', page).group(1)
    assert re.findall(r">([^<]+)</span>", names) == ["Real MRI", "Model &lt;A&gt;", "Mean volume"]


def test_summary_has_each_grades_statistics_with_their_number(written):
    """Grades 3, 0, none and 1, one knee each: no 2, no 4."""
    summary = json.loads((written[0] / "summary.json").read_text())
    rows = list(csv.DictReader(io.StringIO((written[0] / "metrics.csv").read_text())))
    assert set(summary["by_grade"]) == {"psnr", "ssim", "rssim", "adjacent_slice_correlation"}
    found = summary["by_grade"]["psnr"]
    assert list(found) == ["0", "1", "3", "not read"]
    for grade, of in found.items():
        row = next(r for r in rows if r["method"] == "pred" and r["kl_grade"] == grade.replace("not read", ""))
        assert (of["pred"]["n"], of["pred"]["mean"]) == (1, float(row["psnr"]))
    page = (written[0] / "report.html").read_text()
    assert page.count("KL 3, n = 1") == 4  # a fold a metric
    assert "KL 2," not in page


def test_summary_has_the_models_differences_from_each_baseline(written):
    summary = json.loads((written[0] / "summary.json").read_text())
    rows = list(csv.DictReader(io.StringIO((written[0] / "metrics.csv").read_text())))
    scores = {m: np.array([float(r["psnr"]) for r in rows if r["method"] == m]) for m in METHODS}
    found = summary["paired"]["mean_volume"]["psnr"]
    assert found["difference"]["mean"] == pytest.approx((scores["pred"] - scores["mean_volume"]).mean())
    assert found["difference"]["participants"] == 2
    assert found["difference"]["low"] <= found["difference"]["mean"] <= found["difference"]["high"]
    assert set(summary["paired"]) == {"mean_volume"}
    interval = summary["intervals"]["pred"]["psnr"]
    assert interval["mean"] == pytest.approx(summary["metrics"]["pred"]["psnr"]["mean"])
    assert "2000 bootstrap draws of participants" in summary["statistics"]["intervals"]


class LeaveSection:
    """A handler of a measure over the whole set: how many knees there were."""

    def __init__(self, **fields):
        self.fields = fields

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.count)
        engine.add_event_handler(Events.COMPLETED, self.leave)
        self.knees = 0

    def count(self, engine):
        self.knees += len(engine.state.output)

    def leave(self, engine):
        engine.state.report_sections = {
            "counting": {
                "title": "How <many>",
                "note": "Counted.",
                "columns": ["what", "n", "share"],
                "rows": [["knees", self.knees, None], ["halves", 2 * self.knees, 0.123456]],
                "convention": {"measure": "counting"},
            }
            | self.fields
        }


def test_sections_of_other_handlers_are_written_to_summary_and_page(items, tmp_path):
    evaluate(items, tmp_path, report_options={"sections": [LeaveSection()]})
    found = json.loads((tmp_path / "summary.json").read_text())["sections"]["counting"]
    assert found["rows"] == [["knees", 4, None], ["halves", 8, 0.123456]]
    page = (tmp_path / "report.html").read_text()
    assert "How &lt;many&gt;" in page
    assert "<tr><td>knees</td><td>4</td><td></td></tr><tr><td>halves</td><td>8</td><td>0.1235</td></tr>" in page


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"rows": [["a", 1]]}, "2 entries for 3 columns"), ({"rows": [["a", 1, math.nan]]}, "finite numbers")],
)
def test_sections_that_cannot_be_tables_are_refused_and_nothing_is_written(items, tmp_path, fields, reason):
    with pytest.raises(ValueError, match=reason):
        evaluate(items, tmp_path / "eval", report_options={"sections": [LeaveSection(**fields)]})
    assert not (tmp_path / "eval").exists()


def test_fewer_pictures_on_request(items, tmp_path):
    evaluate(items, tmp_path, report_options={"max_knees": 2})
    page = (tmp_path / "report.html").read_text()
    assert page.count('<section class="knee">') == 2
    assert "2 of 4 knees are shown" in page
    assert "digital knee phantom" not in page


def test_running_twice_reports_the_second_run_alone(items, tmp_path):
    report = EvaluationReport(tmp_path, {"pred": "Model"})
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=Blurred(),
        prepare_batch=image_and_mri,
        key_val_metric={"pred_psnr": PSNRHandler(data_range=2)},
        val_handlers=[report],
    )
    evaluator.run()
    first = (tmp_path / "metrics.csv").read_text()
    evaluator.run()
    assert (tmp_path / "metrics.csv").read_text() == first


def test_methods_without_metrics_are_refused_and_nothing_is_written(items, tmp_path):
    with pytest.raises(ValueError, match=r"mean_volume_\.\.\."):
        evaluate(items, tmp_path / "eval", metrics={"pred_psnr": PSNRHandler(data_range=2)})
    assert not (tmp_path / "eval").exists()


def test_columns_do_not_mix_conventions(items, tmp_path):
    metrics = {
        "pred_psnr": PSNRHandler(data_range=2),
        "mean_volume_psnr": PSNRHandler(data_range=1, output_transform=from_engine(["mean_volume", "label"])),
    }
    with pytest.raises(ValueError, match="share one convention"):
        evaluate(items, tmp_path, metrics=metrics)


def test_batches_that_do_not_say_whose_knee_are_refused(items, tmp_path):
    nameless = [{key: value for key, value in item.items() if key != "visit"} for item in items]
    with pytest.raises(ValueError, match="`visit`"):
        evaluate(nameless, tmp_path)


@pytest.mark.parametrize(
    "options", [{"methods": {}}, {"methods": {"real": "x"}}, {"max_knees": -1}, {"viewed": -1}, {"data_range": 3}]
)
def test_impossible_options_are_refused_when_built(options, tmp_path):
    with pytest.raises(ValueError, match="`"):
        EvaluationReport(tmp_path, **({"methods": METHODS} | options))


def test_longest_method_name_owns_a_metric():
    details = {"pred_psnr": torch.tensor([[1.0]]), "pred_mean_psnr": torch.tensor([[2.0]])}
    table = ScoreTable.of(details, knees=[Knee("P", "R", "00m", 0)], methods=["pred", "pred_mean"])
    assert {method: scores["psnr"].tolist() for method, scores in table.scores.items()} == {
        "pred": [1.0],
        "pred_mean": [2.0],
    }


def test_statistics_count_what_is_not_finite():
    found = summarise(np.array([1.0, 2.0, 6.0, math.nan, math.inf]))
    assert found["n"] == 5
    assert found["n_nan"] == 1
    assert found["n_infinite"] == 1
    assert (found["mean"], found["median"], found["q25"], found["q75"]) == (3.0, 2.0, 1.5, 4.0)
    assert found["sd"] == pytest.approx(math.sqrt(7))  # deviations -2, -1, 3; 14 / (3 - 1)
    assert summarise(np.array([math.nan]))["mean"] is None


def test_grade_is_read_from_dictionary_or_vector():
    table = grade_table("oai")
    assert [kl_grade(table.encode({"XRKL": grade})) for grade in (0, 4, None)] == [0, 4, None]
    assert kl_grade({"XRKL": 2.0}) == 2
    assert kl_grade({"XRKL": math.nan}) is None
    assert kl_grade(None) is None


def test_knees_are_chosen_in_turn_over_the_grades():
    """Grades 1 0 0 0 4 None; two turns: 0 (index 1), 1, 4, none, then the second 0 (index 2)."""
    knees = [Knee("P", "R", "00m", grade) for grade in (1, 0, 0, 0, 4, None)]
    assert choose(knees, among=list(range(6)), count=5) == [1, 2, 0, 4, 5]
    assert choose(knees, among=list(range(6)), count=2) == [1, 0]


def test_reformats_have_the_front_left_and_on_top():
    """Voxel values are the slice index, which grows to the front."""
    volume = np.broadcast_to(np.arange(SLICES, dtype=float), (ROWS, COLUMNS, SLICES))
    assert sagittal_reformat(volume)[0].tolist() == [4, 3, 2, 1, 0]
    assert axial_reformat(volume)[:, 0].tolist() == [4, 3, 2, 1, 0]
    columns = np.broadcast_to(np.arange(COLUMNS, dtype=float)[:, None], (ROWS, COLUMNS, SLICES))
    assert axial_reformat(columns)[0].tolist() == list(range(COLUMNS))


def test_slices_shown_are_at_the_stated_depths():
    assert slice_indices(51) == [10, 25, 40]
    assert slice_indices(1) == [0, 0, 0]


def test_sobel_difference_is_zero_where_gradients_agree():
    ramp = np.linspace(0, 1, 20) * np.ones((20, 1))
    assert sobel_difference(ramp, 1 - ramp).max() == pytest.approx(0.0)
    assert sobel_difference(ramp, np.zeros((20, 20)))[10, 10] > 0.02


def test_panel_keeps_grey_values():
    shown = panel(np.array([[0.0, 0.5], [1.0, 2.0]]), (2.0, 3.0))
    image = Image.open(io.BytesIO(base64.b64decode(shown.uri.split(",")[1])))
    assert np.asarray(image).tolist() == [[0, 128], [255, 255]]
    assert (shown.width_mm, shown.height_mm) == (6.0, 4.0)
