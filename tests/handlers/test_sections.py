"""The set-level handlers on volumes whose answer is known: perfect, shuffled, copied, knowing and sure of itself."""

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from bundle.handlers import (
    ExplainableShareHandler,
    FloorShareHandler,
    MemorisationHandler,
    RetrievalHandler,
    UncertaintyHandler,
)

COUNT, SHAPE = 12, (8, 8, 4)
GENERATOR = torch.Generator().manual_seed(0)
SEEN = torch.randn((COUNT, 1, *SHAPE), generator=GENERATOR)
REAL = SEEN + torch.randn((COUNT, 1, *SHAPE), generator=GENERATOR)
TRAINING = [{"participant": f"t{n}", "mri": torch.randn((1, *SHAPE), generator=GENERATOR) * 2**0.5} for n in range(12)]
QUICK = {"resamples": 20}


def draw(seed, count=8, spread=1.0):
    """Samples of every knee given what is seen of it."""
    generator = torch.Generator().manual_seed(seed)
    return SEEN[:, None] + spread * torch.randn((COUNT, count, 1, *SHAPE), generator=generator)


def run(handler, *, labels=True, **methods):
    """One epoch in which methods gave these volumes, in batches of five."""
    items = [
        {
            "participant": f"p{n // 2}",
            "side": "RL"[n % 2],
            "visit": "00m",
            "readings": {"XRKL": 2 * (n % 4 // 2)},
            "sex": "F",
            "bmi": 20.0 + n,
            "label": REAL[n],
            "mean_volume": torch.zeros(1, *SHAPE),
            **({"labels": torch.ones(1, *SHAPE) * 6} if labels else {}),
            **{key: volumes[n] for key, volumes in methods.items()},
        }
        for n in range(COUNT)
    ]

    def step(engine, batch):
        engine.state.batch = [{key: value for key, value in item.items() if key != "label"} for item in batch]
        return [{"label": item["label"]} for item in batch]

    engine = Engine(step)
    handler.attach(engine)
    engine.run([items[start : start + 5] for start in range(0, COUNT, 5)])
    return engine.state.report_sections


def rows(section):
    return [dict(zip(section["columns"], row, strict=True)) for row in section["rows"]]


def test_retrieval_of_perfect_and_shuffled_films():
    handler = RetrievalHandler({"pred": "Model", "shuffled": "Shuffled", "absent": "Absent"}, shape=SHAPE, **QUICK)
    section = run(handler, labels=False, pred=SEEN, shuffled=SEEN.roll(2, 0))["retrieval"]
    found = {(row["method"], row["candidates"]): row for row in rows(section)}
    assert {method for method, _ in found} == {"Model", "Shuffled"}
    assert found["Model", "all test volumes"]["top-1"] == 1
    assert found["Model", "all test volumes"]["chance top-1"] == pytest.approx(1 / 12)
    assert found["Shuffled", "all test volumes"]["top-1"] == 0
    # grades 0 0 2 2 0 0 2 2 ...: of the other five participants two share a knee's grade, four knees
    assert found["Model", "matched"]["mean candidates"] == 5
    assert "`bmi`" in section["convention"]["matched"]
    assert found["Shuffled", "matched"]["AUC"] < 0.8
    assert "bone width" in run(handler, pred=SEEN)["retrieval"]["convention"]["matched"]


def test_memorisation_of_copies_and_of_the_real_volumes():
    copied = torch.stack([item["mri"] for item in TRAINING])
    handler = MemorisationHandler({"pred": "Model"}, training=TRAINING, shape=SHAPE, **QUICK)
    real, model = rows(run(handler, pred=copied)["memorisation"])
    assert model["copies"] == 12
    assert real["copies"] == 0
    assert model["ratio"] < 0.5 < real["ratio"]
    # of 12 training volumes 10 are compared: the copied one is there 10 times in 12
    assert model["share nearer to training"] > 0.8
    assert real["method"].startswith("Real")


def test_uncertainty_of_samples_that_know_and_of_samples_that_are_too_sure():
    scalars = {"centre": lambda volume: float(volume[0, 3, 3, 2]), "never": lambda volume: float("nan")}
    handler = UncertaintyHandler(
        {"good": "Good", "sure": "Sure"}, training=TRAINING, threshold=-9, stride=1, scalars=scalars, **QUICK
    )
    sections = run(handler, good=draw(1), sure=draw(2, spread=0.2))
    found = {(row["method"], row["of"]): row for row in rows(sections["uncertainty"])}
    assert set(found) == {(m, of) for m in ("Good", "Sure") for of in ("foreground", "cartilage", "centre")}
    good, sure = found["Good", "foreground"], found["Sure", "foreground"]
    assert good["spread / error"] == pytest.approx(1, abs=0.05)
    assert sure["spread / error"] < 0.3
    assert good["covered at 50%"] == pytest.approx(0.5, abs=0.04)
    assert good["covered at 95%"] == pytest.approx(good["95% at best"], abs=0.03)
    assert sure["covered at 80%"] < 0.3
    assert good["rank flatness index"] < 0.15 < sure["rank flatness index"]
    # CRPS of a normal about itself is its spread / sqrt(pi): 1 against the climatology's sqrt(2)
    assert good["CRPS"] == pytest.approx(np.pi**-0.5, abs=0.03)
    assert good["CRPS skill"] == pytest.approx(1 - 2**-0.5, abs=0.04)
    assert good["CRPS skill, low"] < good["CRPS skill"] < good["CRPS skill, high"]
    assert good["knees"] == 12
    assert found["Good", "cartilage"]["CRPS"] == good["CRPS"], "here every voxel is cartilage"
    histogram = rows(sections["rank_histograms"])[0]
    assert sum(histogram[f"rank {rank}"] for rank in range(1, 10)) == pytest.approx(1)


def test_scalars_without_a_value_leave_the_knee_out_and_count_it():
    def sometimes(volume):
        return float(volume.mean()) if volume[0, 0, 0, 0] > -1.5 else float("nan")

    handler = UncertaintyHandler({"good": "G"}, training=TRAINING, stride=1, scalars={"some": sometimes}, **QUICK)
    found = {row["of"]: row for row in rows(run(handler, good=draw(1, count=2))["uncertainty"])}
    assert 0 < found["some"]["knees without"] < 12
    assert found["some"]["knees"] + found["some"]["knees without"] == 12


def test_share_of_the_explainable_is_that_of_the_construction():
    """Mean volume errs by 2, the oracle by 1; a model with half of what is seen by 1.25: three quarters."""
    handler = ExplainableShareHandler({"pred": "Model", "point": "Point"}, threshold=-9, **QUICK)
    half = draw(3, count=4) - SEEN[:, None] / 2
    section = run(handler, pred=half, point=SEEN, oracle_samples=draw(4))["explainable"]
    found = {(row["method"], row["of"]): row for row in rows(section)}
    assert found["Model", "foreground"]["share"] == pytest.approx(0.75, abs=0.06)
    assert found["Point", "foreground"]["share"] == pytest.approx(1, abs=0.06)
    assert found["Model", "foreground"]["equal K"] == 4
    # 2 - 1.25 - 1/4 over 2 - 1 - 1/4
    assert found["Model", "foreground"]["share at equal K"] == pytest.approx(0.5 / 0.75, abs=0.08)
    assert found["Point", "foreground"]["share at equal K"] is None
    assert found["Model", "foreground"]["share, low"] < 0.75 < found["Model", "foreground"]["share, high"]


def test_share_is_absent_without_an_oracle():
    handler = ExplainableShareHandler({"pred": "Model"}, **QUICK)
    assert run(handler, pred=draw(1)) == {}


def test_share_above_floor_reads_the_metric_handlers_scores():
    engine = Engine(lambda engine, batch: None)
    engine.state.metric_details = {
        "other_knee_psnr": torch.full((4, 1), 20.0),
        "pred_psnr": torch.tensor([[23.0], [23], [23], [torch.nan]]),
        "oracle_psnr": torch.full((4, 1), 24.0),
    }
    section = FloorShareHandler({"pred": "Model"}, metrics=["psnr", "ssim"], samples=4, **QUICK).sections(
        list("abcd"), engine
    )
    (row,) = rows(section["above_floor"])
    assert row["share"] == 0.75
    assert (row["knees"], row["knees without a score"]) == (3, 1)


def test_a_method_that_some_knees_lack_is_an_error():
    handler = RetrievalHandler({"pred": "Model"}, shape=SHAPE, **QUICK)
    with pytest.raises(ValueError, match="`pred` is there for 11 of 12"):
        run(handler, pred=[*SEEN[:11], None])


def test_wrong_options_are_refused_when_built():
    with pytest.raises(ValueError, match="`interval`"):
        RetrievalHandler({"pred": "Model"}, interval="t")
    with pytest.raises(ValueError, match="`climatology`"):
        UncertaintyHandler({"pred": "Model"}, training=TRAINING, climatology=1)
    with pytest.raises(ValueError, match="two volumes"):
        run(UncertaintyHandler({"pred": "Model"}, training=TRAINING[:1]))
