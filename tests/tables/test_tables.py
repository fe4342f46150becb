"""A plan becomes commands, its runner resumes and reports, and its page has every row; trainings are made up."""

import csv
import dataclasses
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_up_run import write_run

from bundle.data.datalist import pairs
from bundle.readings import NAMED_BY
from bundle.reports import paper_pictures
from bundle.reports.kept import KeptSlice, write_kept
from bundle.tables import read_plan, run_plan
from bundle.tables.plan import candidates, epochs_of
from bundle.tables.publish import publish
from bundle.tables.steps import Case, evaluation_step
from bundle.tables.subset import write_subset

ROOT = Path(__file__).resolve().parents[2]
PLANS = sorted((ROOT / "configs" / "tables").glob("*.json"))
PLAN = {
    "title": "T",
    "note": "Ranks nothing.",
    "cohort": {"participants": 3, "seed": 0, "size": "test", "image_size": 16},
    "knee_epochs": {"epochs": 12},
    "seeds": [0, 1],
    "knees": [None, 2],
    "tuning": {"learning_rate": [0.1, 0.2], "share": 0.5},
    "rows": [
        {"key": "a", "name": "A, ours", "overlays": ["slices"], "baseline": False},
        {"key": "b", "name": "B", "overlays": ["baselines/kl_mean"], "trained": False},
    ],
}


def plan_of(folder, **changes):
    path = folder / "plan.json"
    path.write_text(json.dumps(PLAN | changes))
    return read_plan(path)


def option(command, name):
    return command[command.index(f"--{name}") + 1]


class Machine:
    """Does what the commands would: writes the files by which a step is known to be done."""

    def __init__(self, out, fails=()):
        self.out, self.fails, self.commands = out, fails, []

    def __call__(self, command, log):
        self.commands.append(command)
        words = " ".join(command)
        log.write_text("some words\nthe reason\n")
        if any(text in words for text in self.fails):
            return 3
        if "make_phantom" in words:
            (self.out / "release").mkdir(parents=True)
            (self.out / "release" / "phantom.json").write_text("{}")
        elif "prepare_data" in words:
            write_set(self.out / "data")
        elif "training" in command:
            folder = Path(option(command, "output_dir"))
            folder.mkdir(parents=True)
            (folder / "model.pt").write_bytes(b"")
            # The larger rate validates better.
            rate = float(option(command, "learning_rate")) if "--learning_rate" in command else 0.0
            (folder / "validation.csv").write_text(f"epoch,psnr,rssim\n1,99,0\n2,{10 + rate},0\n")
        else:
            folder = Path(option(command, "output_dir"))
            score = 20.0 if "/b/" in str(folder) else 22.0 + int(str(folder).split("seed_")[1][0])
            score -= 1 if "2_knees" in str(folder) else 0
            write_run(folder, {"pred": {"psnr": score + np.arange(6.0)}})
        return 0


def write_set(root, knees=4):
    for name in ("films", "volumes"):
        (root / name).mkdir(parents=True)
    content = {"source": "synthetic-phantom"}
    for split, count in (("training", knees), ("validation", 1), ("test", 2)):
        content[split] = []
        for index in range(count):
            name = f"{split}{index}.nii.gz"
            for folder in ("films", "volumes"):
                (root / folder / name).write_bytes(b"")
            item = {"film": f"films/{name}", "mri": f"volumes/{name}", "side": "RL"[index % 2], "visit": "00m"}
            content[split].append(item | {"participant": f"{split}{index // 2}", "readings": {}})
    (root / "dataset.json").write_text(json.dumps(content))


def run(plan, out, machine, **options):
    return run_plan(plan, root=ROOT, out=out, call=machine, **options)


@pytest.fixture
def done(tmp_path):
    plan, machine = plan_of(tmp_path), Machine(tmp_path / "out")
    return plan, machine, run(plan, tmp_path / "out", machine), tmp_path / "out"


def test_every_step_is_run_once_in_order(done):
    """Two of the cohort; four autoencoders; two trials; A twice and B once on all knees, and the same on two knees."""
    _, machine, outcome, _ = done
    kinds = [Path(c[1]).name if c[1].startswith("scripts") else c[4] for c in machine.commands]
    a, b = ["training", "evaluation"], ["evaluation"]
    assert kinds[:8] == ["make_phantom.py", "prepare_data.py", *["training"] * 6]
    assert kinds[8:] == [*a, *b, *a, *a, *b, *a]
    assert outcome.complete
    assert [(r["row"], r["seed"], r["knees"]) for r in outcome.done] == [
        *[("A, ours", 0, None), ("B", 0, None), ("A, ours", 1, None)],
        *[("A, ours", 0, 2), ("B", 0, 2), ("A, ours", 1, 2)],
    ]


def test_commands_are_those_of_the_readme(done):
    _, machine, _, out = done
    train, evaluate, fitted = machine.commands[8:11]
    assert train[:5] == (sys.executable, "-m", "monai.bundle", "run", "training")
    assert option(train, "config_file") == "['configs/train.json','configs/slices.json']"
    assert option(evaluate, "config_file") == (
        "['configs/inference.json','configs/evaluate.json','configs/slices.json']"
    )
    assert option(evaluate, "weights") == str(Path(option(train, "output_dir")) / "model.pt")
    assert option(train, "dataset_dir") == str(out / "data")
    assert "--weights" not in fitted, "a row that is fitted has no weights"


def test_what_shapes_a_row_s_network_reaches_its_evaluation(tmp_path):
    """A narrower network than its configuration's is trained and read back with one width."""
    row = {"key": "a", "name": "A", "options": {"cae_width": 8}, "evaluation": {"cae_width": 8, "sampling_steps": 1}}
    plan = plan_of(tmp_path, rows=[row], evaluation={"sampling_steps": 2})
    case = Case(plan.rows[0], 0, None)
    step = evaluation_step(plan, case, tmp_path, weights=tmp_path / "model.pt", folder=tmp_path / "eval", name="a")
    assert option(step.command, "cae_width") == "8"
    assert option(step.command, "sampling_steps") == "1", "the row's own lies over the plan's"


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_options_of_a_network_are_given_to_training_and_evaluation_alike(path):
    shaping = {"cae_width", "generated_slices"}
    for row in read_plan(path).rows:
        given = {name: value for name, value in row.options.items() if name in shaping}
        assert given == {name: value for name, value in row.evaluation.items() if name in shaping}, row.key


def test_tuning_chooses_the_best_last_validation_for_every_training(done):
    _, machine, outcome, _ = done
    rates = [option(c, "learning_rate") for c in machine.commands[6:] if "training" in c]
    assert rates == ["0.1", "0.2", *["0.2"] * 4], "two trials, four trainings"
    assert outcome.done[0]["chosen"] == {"learning_rate": 0.2}


def test_fewer_knees_are_seen_more_often(done):
    """12 epochs of one knee: 3 of four, 6 of two, and half of 3 in a trial."""
    _, machine, _, _ = done
    trainings = [c for c in machine.commands[6:] if "training" in c]
    assert [option(c, "epochs") for c in trainings] == ["2", "2", "3", "3", "6", "6"]
    assert epochs_of(plan_of(done[3].parent), 100) == {"epochs": 1, "val_interval": 1}


def test_nothing_is_done_twice(done):
    plan, _, outcome, out = done
    again = Machine(out)
    assert run(plan, out, again).done == outcome.done
    assert again.commands == []


def test_rows_that_share_an_autoencoder_find_it_and_its_latents(tmp_path):
    """One for each seed and number of knees, before the rows; a trial is not cut short of it."""
    plan = plan_of(tmp_path, knee_epochs={"epochs": 12, "autoencoder_epochs": 40})
    machine = Machine(tmp_path / "out")
    outcome = run(plan, tmp_path / "out", machine)
    assert outcome.complete
    trainings = [command for command in machine.commands if "training" in command]
    first, rest = trainings[:4], trainings[4:]
    assert [option(c, "stages") for c in first] == ["['autoencoder']"] * 4
    assert [(option(c, "seed"), option(c, "autoencoder_epochs")) for c in first] == [
        *[("0", "10"), ("1", "10")],
        *[("0", "20"), ("1", "20")],
    ]
    made = {(option(c, "dataset_dir"), option(c, "seed")): Path(option(c, "output_dir")) for c in first}
    for command in rest:
        assert "--stages" not in command, "the row's own stages: the first finds its last checkpoint"
        folder = made[option(command, "dataset_dir"), option(command, "seed")]
        assert option(command, "autoencoder_checkpoints#folder") == str(folder / "checkpoints" / "autoencoder")
        assert option(command, "train#dataset#folder") == str(folder)
    assert [option(c, "autoencoder_epochs") for c in rest] == ["10"] * 4 + ["20"] * 2


def test_a_row_whose_shared_autoencoder_failed_is_left(tmp_path):
    plan = plan_of(tmp_path, knees=[None], seeds=[0])
    outcome = run(plan, tmp_path / "out", Machine(tmp_path / "out", fails=["autoencoders/"]))
    assert list(outcome.failed) == ["autoencoder all_knees seed_0"]
    assert outcome.left == ["a/all_knees/seed_0 evaluation"]
    assert [record["row"] for record in outcome.done] == ["B"]


class BusyMachine(Machine):
    """Takes a moment for each command, and counts how many it does at once."""

    now, most = 0, 0

    def __call__(self, command, log):
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.02)
        code = super().__call__(command, log)
        self.now -= 1
        return code


def test_several_workers_do_the_same_in_the_same_order_and_nothing_twice(done, tmp_path):
    """Both seeds of A need its trials, which are run once; records come in the plan's order."""
    _, alone, outcome, out = done
    machine = BusyMachine(tmp_path / "several")
    several = run(plan_of(tmp_path), tmp_path / "several", machine, workers=3)
    assert 1 < machine.most <= 3

    def told(commands, folder):
        return sorted(" ".join(command).replace(str(folder), "") for command in commands)

    assert told(machine.commands, tmp_path / "several") == told(alone.commands, out)
    order = [[(r["row"], r["seed"], r["knees"]) for r in found.done] for found in (several, outcome)]
    assert order[0] == order[1]


def test_an_error_of_one_worker_stops_the_plan(done, tmp_path):
    out = done[3]
    machine = Machine(out)
    with pytest.raises(ValueError, match="by another command"):
        run(plan_of(tmp_path, evaluation={"sampling_steps": 1}), out, machine, workers=2)
    assert machine.commands == []
    with pytest.raises(ValueError, match="`workers` must be at least 1"):
        run(plan_of(tmp_path), out, machine, workers=0)


def test_an_interrupted_run_goes_on(done):
    plan, _, _, out = done
    (out / "runs" / "b" / "all_knees" / "seed_0" / "evaluation" / "summary.json").unlink()
    for path in (out / "runs" / "b" / "all_knees").rglob("*.csv"):
        path.unlink()
    (out / "runs" / "b" / "all_knees" / "seed_0" / "evaluation").rmdir()
    again = Machine(out)
    assert run(plan, out, again).complete
    assert len(again.commands) == 1


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path):
    plan = plan_of(tmp_path, tuning={}, knees=[None], seeds=[0])
    outcome = run(plan, tmp_path / "out", Machine(tmp_path / "out", fails=["slices"]))
    assert not outcome.complete
    assert list(outcome.failed) == ["a/all_knees/seed_0 training"]
    assert "exit code 3: the reason" in outcome.failed["a/all_knees/seed_0 training"]
    assert outcome.left == ["a/all_knees/seed_0 evaluation"]
    assert [record["row"] for record in outcome.done] == ["B"]
    page = publish(plan, outcome, tmp_path / "results")[3].read_text()
    assert "Not in the table" in page
    assert "a/all_knees/seed_0 training" in page
    again = run(plan, tmp_path / "out", Machine(tmp_path / "out"))
    assert again.complete, "what failed is tried again"


def test_a_command_that_ends_well_without_its_file_has_failed(tmp_path):
    outcome = run(plan_of(tmp_path), tmp_path / "out", lambda command, log: 0)
    assert list(outcome.failed) == ["phantom release"]


def test_time_that_is_up_starts_nothing_more(tmp_path):
    machine = Machine(tmp_path / "out")
    outcome = run(plan_of(tmp_path), tmp_path / "out", machine, minutes=-1)
    assert machine.commands == []
    assert outcome.left
    assert not outcome.complete


def test_a_changed_plan_does_not_pass_for_what_was_done(done, tmp_path):
    out = done[3]
    with pytest.raises(ValueError, match="by another command"):
        run(plan_of(tmp_path, options={"batch_size": 7}), out, Machine(out))


def test_the_page_has_every_row_its_repetitions_and_the_compute(done, tmp_path):
    plan, _, outcome, _ = done
    paths = publish(plan, outcome, tmp_path / "results")
    names = ["comparison.csv", "paired.csv", "comparison.json", "comparison.html"]
    assert [path.name for path in paths] == [*names, "learning_curve.csv", "learning_curve.png", "scores.png"]
    rows = list(csv.DictReader(paths[0].open()))
    found = {row["row"]: row for row in rows if row["kl_grade"] == "all"}
    # Seeds score 22 and 23 and more by knee, 2.5 on average.
    assert (found["A, ours"]["repetitions"], float(found["A, ours"]["mean"])) == ("2", 25.0)
    assert float(found["A, ours"]["sd_repetitions"]) == pytest.approx(math.sqrt(0.5))
    pairs_found = list(csv.DictReader(paths[1].open()))
    assert [(p["row"], p["baseline"], float(p["difference"])) for p in pairs_found] == [("A, ours", "B", 2.5)]
    page = paths[3].read_text()
    for text in ("Ranks nothing.", "Compute", "learning_rate 0.2", "share 0.5"):
        assert text in page
    curve = {(r["row"], r["knees"]): float(r["mean"]) for r in csv.DictReader(paths[4].open())}
    assert curve == {("A, ours", "4"): 25.0, ("A, ours", "2"): 24.0, ("B", "4"): 22.5, ("B", "2"): 21.5}
    assert paths[5].read_bytes().startswith(b"\x89PNG")


def test_pictures_are_of_the_first_knees_and_show_the_rows_that_the_plan_names(done, tmp_path, monkeypatch):
    plan, _, outcome, _ = done
    for record in outcome.done:
        knee, image = ("P0", "R", "00m"), np.zeros((4, 4), np.uint8)
        write_kept(Path(record["folder"]) / "slices.npz", {"G-0": KeptSlice(image, image, {"pred": image}, 0.5, knee)})
    shown = []
    monkeypatch.setattr(
        paper_pictures, "methods_picture", lambda kept, foot: shown.append((list(kept), foot)) or b"png"
    )
    paths = publish(dataclasses.replace(plan, pictured=["b", "a"]), outcome, tmp_path / "results")
    assert [path.name for path in paths[-2:]] == ["methods.png", "scores.png"]
    assert [names for names, _ in shown] == [["B", "A, ours"]]
    assert shown[0][1][0] == "Ranks nothing."


def test_subsets_are_nested_keep_people_whole_and_find_their_images(tmp_path):
    write_set(tmp_path / "data", knees=7)
    four, five = (write_subset(tmp_path / "data", tmp_path / f"data_{n}", knees=n) for n in (4, 5))
    names = [[(k["participant"], k["side"]) for k in pairs(folder, "training")] for folder in (four, five)]
    assert names[0] == names[1], "the third participant has two knees, and one more is not enough"
    assert len(names[0]) == 4
    images = [[Path(k["image"]).resolve() for k in pairs(tmp_path / f, "test")] for f in ("data_4", "data")]
    assert images[0] == images[1]
    with pytest.raises(ValueError, match="1 to 7"):
        write_subset(tmp_path / "data", tmp_path / "x", knees=8)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_plans_that_ship_name_configs_that_are_there(path):
    plan = read_plan(path)
    for overlay in (*plan.sizes, *(overlay for row in plan.rows for overlay in row.overlays)):
        assert (ROOT / "configs" / f"{overlay}.json").is_file(), overlay


@pytest.mark.parametrize("name", ["full", "short", "smoke"])
def test_tables_of_methods_have_every_baseline(name):
    plan = read_plan(ROOT / "configs" / "tables" / f"{name}.json")
    overlays = {overlay for row in plan.rows for overlay in row.overlays}
    baselines = {f"baselines/{file.stem}" for file in (ROOT / "configs" / "baselines").glob("*.json")}
    assert baselines <= overlays
    assert {"plain", "film_pyramid", "slices"} <= overlays
    assert any(not row.overlays for row in plan.rows), "the compact model is a row"


@pytest.mark.parametrize("name", ["full", "short", "smoke"])
def test_tables_of_methods_picture_the_paper_s_and_switch_its_findings(name):
    plan = read_plan(ROOT / "configs" / "tables" / f"{name}.json")
    assert {"ldm", "cola_diff", "x_diffusion", "compact"} <= set(plan.pictured)
    compact = next(row for row in plan.rows if row.key == "compact")
    assert set(compact.evaluation["switched_findings"]) == set(NAMED_BY)
    assert compact.evaluation["curve_knees"] > 0


@pytest.mark.parametrize("name", ["full", "short"])
def test_plans_of_results_have_three_seeds_and_tuning(name):
    plan = read_plan(ROOT / "configs" / "tables" / f"{name}.json")
    assert len(plan.seeds) >= 3
    assert len(candidates(plan)) >= 2


def test_full_plan_has_a_learning_curve():
    assert len(read_plan(ROOT / "configs" / "tables" / "full.json").knees) >= 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rowz": []}, "unknown entries rowz"),
        ({"rows": []}, "needs rows"),
        ({"rows": PLAN["rows"][:1] * 2}, "of its own"),
        ({"rows": [{"key": "a"}]}, "name"),
        ({"cohort": {}}, "`cohort` must have"),
        ({"seeds": []}, "at least one"),
        ({"pictured": ["c"]}, "no row's key"),
        ({"tuning": {"share": 0.5}}, "`tuning` must name"),
    ],
)
def test_impossible_plans_are_refused(tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason):
        plan_of(tmp_path, **changes)
