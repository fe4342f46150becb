"""Siamese-GAP's commands in small: a network that learns, a file, a report, a picture; the readings overlay too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_up_set import write_set
from monai.bundle import ConfigParser

from bundle.data.graded_knees import graded_knees, read_knees
from bundle.data.readings_estimator import ReadingsEstimator, VolumeProbe
from bundle.engines.grade_report import agreement
from bundle.networks.siamese_gap import load_siamese
from bundle.readings import grade_table
from bundle.transforms import project_volume

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {"siamese_gap": ["siamese_gap"], "readings": ["siamese_gap", "readings"]}
CONFIGS["volume_probe"] = ["siamese_gap", "volume_probe"]


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), image_size=16, slices=2, counts=(10, 5, 5))


def parser(name, knees, out):
    config = ConfigParser()
    config.read_config([str(ROOT / "configs" / f"{part}.json") for part in CONFIGS[name]])
    config["bundle_root"], config["dataset_dir"], config["output_dir"] = str(ROOT), str(knees), str(out)
    config["channels"], config["image_size"], config["patches"]["patch_size"] = [4, 4], 16, 16
    config["epochs"], config["val_interval"], config["pictured_knees"], config["device"] = 2, 1, 2, "cpu"
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_training_and_evaluation_leave_weights_scores_and_a_picture(name, knees, tmp_path, capsys):
    config = parser(name, knees, tmp_path)
    torch.manual_seed(0)
    config.get_parsed_content("training")
    network, about = load_siamese(tmp_path / f"{name}.pt", remedy="")
    assert about["trained_on"] == f"made-up; run {name}"
    assert about["patches"]["patch_size"] == 16
    assert sum(about["blocks"].values()) == network.outputs == (66 if name == "readings" else 2)
    assert (tmp_path / "losses.csv").read_text().count(name) == 2
    assert len((tmp_path / "validation.csv").read_text().splitlines()) == 3
    again = parser(name, knees, tmp_path)
    again.get_parsed_content("evaluation")
    report = json.loads((tmp_path / "evaluation.json").read_text())
    first = next(iter(report["variables"].values()))
    assert first["known"] == report["knees"] == (5 if name == "readings" else 2)
    assert 0 <= first["accuracy"] <= 1
    assert (tmp_path / "patches.png").stat().st_size > 1000
    trained = again.get_parsed_content("network").state_dict()
    assert all(torch.equal(trained[key], value) for key, value in network.state_dict().items())
    if name == "readings":
        readings = ReadingsEstimator(tmp_path / "readings.pt")(torch.rand(1, 16, 16))
        grade_table("oai").validate(readings)
        assert len(readings) == 19
        with pytest.raises(ValueError, match="not on a volume"):
            VolumeProbe(tmp_path / "readings.pt")
    elif name == "volume_probe":
        chances = VolumeProbe(tmp_path / "volume_probe.pt")(torch.rand(1, 16, 16, 3))
        assert chances["KL_0_or_2"].sum() == pytest.approx(1)
    else:
        with pytest.raises(ValueError, match="KL_0_or_2; expected the readings"):
            ReadingsEstimator(tmp_path / "siamese_gap.pt")


def test_bone_is_bright_on_a_projection():
    """Minus the mean over slices: the dark column of a volume is the brightest of its projection."""
    volume = torch.rand(1, 16, 16, 4)
    volume[..., 5, :] = -1
    picture = project_volume(volume)
    assert picture.shape == (1, 16, 16)
    assert picture[0].mean(dim=0).argmax() == 5
    with pytest.raises(ValueError, match="shape"):
        project_volume(volume[0])


def test_training_resumes_where_it_stopped(knees, tmp_path):
    """Two epochs at once, and one epoch and then the other, end in the same weights."""
    files = []
    for folder, stops in (("whole", [2]), ("parts", [1, 2])):
        for stop in stops:
            config = parser("siamese_gap", knees, tmp_path / folder)
            config["train"]["trainer"]["max_epochs"] = stop
            torch.manual_seed(0)
            config.get_parsed_content("training")
        files.append(load_siamese(tmp_path / folder / "siamese_gap.pt", remedy="")[0].state_dict())
    assert all(torch.equal(files[0][key], value) for key, value in files[1].items())


@pytest.mark.slow
def test_command_of_the_documentation_trains(knees, tmp_path):
    small = ["--epochs", "1", "--output_dir", str(tmp_path), "--dataset_dir", str(knees), "--image_size", "16"]
    command = [sys.executable, "-m", "monai.bundle", "run", "training"]
    done = subprocess.run(
        [*command, "--config_file", "configs/siamese_gap.json", *small],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("siamese_gap.pt")
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 1


def test_knees_of_other_grades_are_left_out(knees):
    """The made-up set has grades 0, 1, 2, 3, 4 in turn."""
    found = graded_knees(str(knees), "training")
    assert [knee["participant"] for knee in found] == ["0000000", "0000002", "0000005", "0000007"]
    assert [knee["target"].tolist() for knee in found[:2]] == [[1, 0], [0, 1]]
    assert [knee["target"][:5].argmax() for knee in read_knees(str(knees), "training")] == [0, 1, 2, 3, 4] * 2
    with pytest.raises(ValueError, match="XRKL 5"):
        graded_knees(str(knees), "training", grades=(0, 5))


def test_agreement_is_counted_by_hand():
    """Three known grades of which two are right, one missing; the one of grade 0 has the least chance of more."""
    scores = torch.tensor([[5.0, 0, 0], [0, 5, 0], [0, 5, 0], [0, 0, 9]])
    target = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    row = agreement(scores, target, {"a": 3})["a"]
    assert (row["known"], row["missing"], row["grades"]) == (3, 1, [1, 1, 1])
    assert row["accuracy"] == pytest.approx(2 / 3)
    assert row["mean_error"] == pytest.approx(1 / 3)
    assert row["auc"] == row["sensitivity"] == row["specificity"] == 1
    only = agreement(scores[:1], target[:1], {"a": 3})["a"]
    assert only["auc"] is None
    assert only["sensitivity"] is None
    assert only["accuracy"] == 1
