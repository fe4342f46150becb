"""The dictionary of handlers that an evaluation's JSON asks for."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser

from bundle.handlers import AdjacentSliceCorrelationHandler, PSNRHandler, for_each_method, present_methods

ROOT = Path(__file__).resolve().parents[2]
FACTORIES = {"psnr": partial(PSNRHandler, data_range=2), "corr": AdjacentSliceCorrelationHandler}


def test_each_method_has_each_metric_on_its_own_volume():
    handlers = for_each_method(
        {"pred": "Model", "mean": "Mean"}, FACTORIES, real={"corr": partial(AdjacentSliceCorrelationHandler, of="real")}
    )
    assert list(handlers) == ["pred_psnr", "pred_corr", "mean_psnr", "mean_corr", "real_corr"]
    real = torch.linspace(-1, 1, 60).reshape(1, 5, 4, 3)
    items = [{"pred": real + 0.2, "mean": real + 0.02, "label": real}]
    engine = Engine(lambda _, batch: batch)
    for name, handler in handlers.items():
        handler.attach(engine, name)
    engine.run([items])
    # 10 log10(2^2 / 0.2^2) is 20 dB; a tenth of the error is 20 dB more.
    assert engine.state.metrics["pred_psnr"] == pytest.approx(20, abs=1e-4)
    assert engine.state.metrics["mean_psnr"] == pytest.approx(40, abs=1e-3)


def test_what_is_attached_elsewhere_is_left_out():
    handlers = for_each_method(["pred"], FACTORIES, without=["pred_psnr"])
    assert list(handlers) == ["pred_corr"]


@pytest.mark.parametrize(
    ("methods", "factories", "without", "reason"),
    [
        ([], FACTORIES, (), "at least one method"),
        (["real"], FACTORIES, (), "none `real`"),
        (["pred"], {}, (), "at least one metric"),
        (["pred"], FACTORIES, ["mean_psnr"], "`without` names mean_psnr"),
    ],
)
def test_impossible_lists_are_refused(methods, factories, without, reason):
    with pytest.raises(ValueError, match=reason):
        for_each_method(methods, factories, without=without)


def evaluation(tmp_path, overlay=None):
    """The evaluation's configuration, with an overlay as a user would write one."""
    files = [str(ROOT / "configs" / f"{name}.json") for name in ("inference", "smoke", "evaluate")]
    if overlay:
        (tmp_path / "overlay.json").write_text(json.dumps(overlay))
        files.append(str(tmp_path / "overlay.json"))
    config = ConfigParser()
    config.read_config(files)
    config["bundle_root"] = str(ROOT)
    return config


def attached(config):
    return {
        name: handler
        for part in ("key_val_metric", "additional_metrics")
        for name, handler in config.get_parsed_content(f"evaluator::{part}").items()
    }


def test_a_metric_and_a_method_are_one_entry_each_in_an_overlay(tmp_path):
    overlay = {
        "+methods": {"other": "Another"},
        "+method_metrics": {
            "ssim_volume": {"_target_": "bundle.handlers.SSIMHandler", "_mode_": "callable", "data_range": 2.0}
            | {"per": "volume"}
        },
    }
    before, after = attached(evaluation(tmp_path)), attached(evaluation(tmp_path, overlay))
    methods = evaluation(tmp_path).get_parsed_content("scored_methods")
    assert set(before) < set(after)
    added = {f"{method}_ssim_volume" for method in (*methods, "other")}
    assert set(after) - set(before) - {n for n in after if n.startswith("other_")} == added - {"other_ssim_volume"}
    assert {"other_psnr", "other_ssim_volume"} <= set(after)
    assert next(iter(after)) == "pred_psnr"


def test_methods_that_are_not_there_are_left_out():
    methods = {"pred": "Model", "oracle": "Oracle"}
    assert present_methods(methods, only_if={"oracle": True}) == methods
    assert present_methods(methods, only_if={"oracle": False}) == {"pred": "Model"}
    with pytest.raises(ValueError, match="names orakel"):
        present_methods(methods, only_if={"orakel": True})


@pytest.mark.parametrize(
    ("overlay", "absent"),
    [({}, {"oracle"}), ({"network_def": {"_target_": "torch.nn.Identity"}}, {"oracle", "autoencoder", "pred_mean"})],
)
def test_ceiling_needs_an_autoencoder_and_the_oracle_its_files(tmp_path, overlay, absent):
    config = evaluation(tmp_path, overlay)
    assert set(config["methods"]) - set(config.get_parsed_content("scored_methods")) == absent
    (tmp_path / "oracle").mkdir()
    (tmp_path / "oracle" / "9000000_R_1.nii.gz").write_bytes(b"")
    config = evaluation(tmp_path, overlay | {"oracle_dir": str(tmp_path / "oracle")})
    assert "oracle" in config.get_parsed_content("scored_methods")
