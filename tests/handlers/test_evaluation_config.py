"""The evaluation's own configuration in small: what it keeps for pictures, the curve, the bar that counts knees."""

from pathlib import Path

import pytest
from made_up_evaluation import run_evaluation
from made_up_set import write_set
from monai.bundle import ConfigParser

from bundle.reports.kept import read_kept

ROOT = Path(__file__).resolve().parents[2]
PSNR = {"psnr": {"_target_": "bundle.handlers.PSNRHandler", "_mode_": "callable", "data_range": 2.0}}
ASKED = {"curve_knees": 1, "curve_slices": [4, 8], "switched_findings": ["chondrocalcinosis", "cyst"]}


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    """Seven knees whose grades run 0 to 4 and again; those of the test split, 5 and 6, have 0 and 1."""
    return write_set(tmp_path_factory.mktemp("knees"), image_size=16, slices=6, counts=(4, 1, 2))


def test_readings_are_withheld_from_the_model_and_its_film_stays(knees):
    found = []
    for more in ((), ("evaluate_film_alone.json",)):
        parser = ConfigParser()
        parser.read_config([str(ROOT / "configs" / name) for name in ("inference.json", "evaluate.json", *more)])
        parser.update({"bundle_root": str(ROOT), "dataset_dir": str(knees), "image_size": 16, "slices": 6})
        found.append(parser.get_parsed_content("dataset")[1])
    told, alone = found
    assert told["readings"].any()
    assert not alone["readings"].any()
    assert alone["readings"].shape == told["readings"].shape
    assert (alone["image"] == told["image"]).all()
    assert (alone["mri"] == told["mri"]).all()


def evaluate(knees, network, output, **options):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / name) for name in ("inference.json", "evaluate.json")])
    given = {"bundle_root": str(ROOT), "dataset_dir": str(knees), "device": "cpu", "output_dir": str(output)}
    small = {"image_size": 16, "slices": 6, "nearest_film::film_size": 8, "method_metrics": PSNR}
    parser.update({**given, **small, **options})
    return run_evaluation(parser, network)


def test_slices_of_the_grades_are_kept_and_the_bar_counts_knees(knees, small_network, tmp_path, capfd):
    state = evaluate(knees, small_network, tmp_path)
    kept = read_kept(tmp_path / "slices.npz")
    assert {label: of.knee[0] for label, of in kept.items()} == {"G-0": "0000005"}
    assert (tmp_path / "slices.npz").stat().st_size < 10_000
    assert not (tmp_path / "features.npz").exists()
    assert "slice_count_curve" not in getattr(state, "report_sections", {})
    shown = capfd.readouterr().err
    assert "evaluation: 100%" in shown
    assert "2/2" in shown
    assert "knee/s" in shown or "s/knee" in shown


def test_curve_and_findings_are_made_when_they_are_asked_for(knees, small_network, tmp_path):
    state = evaluate(knees, small_network, tmp_path, **ASKED)
    assert [row[1] for row in state.report_sections["slice_count_curve"]["rows"]] == [4, 8, 6]
    kept = read_kept(tmp_path / "features.npz")
    assert list(kept) == ["chondrocalcinosis", "cyst"]
    for one in kept.values():
        assert one.knee[0] == "0000005", "no knee has a finding; the first by name is told of it"
        assert (one.made["on"] != one.made["off"]).any()
