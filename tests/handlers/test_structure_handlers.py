"""Structure handlers attach from JSON, use labels, and leave scores, conventions and report sections."""

import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from monai.engines import SupervisedEvaluator

from bundle.geometry import Grid
from bundle.handlers import RegionSSIMHandler, SliceCountCurve, StructureHandler, StructureSections
from bundle.handlers.structure import measure_words
from bundle.handlers.structure_sections import agreement
from bundle.metrics import Anatomy, edge_spread_width, region_ssim
from bundle.metrics.structure import MEASURES, StructureMetric

GRID = Grid.of(image_size=64, slices=6)


def labels(gap=4):
    """Boxes for bones, cartilage between: 2.5 mm rows."""
    found = np.zeros(GRID.shape, np.uint8)
    found[:30, 18:46], found[30 + gap :, 18:46] = 1, 2
    found[30 : 30 + gap, 18:46] = 5
    return found


def volume(gap=4, shift=0.0):
    """The same knee's intensities inside muscle and air."""
    found = labels(gap)
    image = np.full(GRID.shape, -0.45)
    image[:, :6], image[:, -6:], image[:, 10:14] = -1.0, -1.0, 0.4
    image = np.where(found == 5, 0.7, np.where(found > 0, -0.72, image)) + shift
    return MetaTensor(torch.from_numpy(image)[None].float(), affine=torch.from_numpy(GRID.affine()))


def step(engine, data):
    engine.state.batch, output = data
    return output


def run(handlers, items):
    """One epoch in which every item is a decollated batch of one: (batch's entries, output's entries)."""
    engine = Engine(step)
    for name, handler in handlers.items():
        handler.attach(engine, name) if hasattr(handler, "metric_fn") else handler.attach(engine)
    engine.run([([batch], [output]) for batch, output in items])
    return engine.state


def knee(grade=1, pred=None, **entries):
    return {"readings": {"XRKL": grade}} | entries, {"pred": volume() if pred is None else pred, "label": volume()}


def test_an_identical_volume_is_without_error_in_every_measure():
    perfect = {"bone_dice": 1, "cartilage_dice": 1, "power_low": 1, "power_middle": 1, "power_high": 1}
    handlers = {f"pred_{measure}": StructureHandler(measure=measure) for measure in MEASURES}
    state = run(handlers, [knee()])
    edges, real = (2.5, 2.5, 12.5), volume()[0].numpy()
    anatomy = Anatomy.of(real, spacing_mm=edges)
    assert set(anatomy.joint_space_mm) == {"medial", "lateral"}
    for measure in MEASURES:
        value = state.metrics[f"pred_{measure}"]
        if measure == "edge_spread":
            assert value == pytest.approx(edge_spread_width(real, anatomy.bones, spacing_mm=edges))
        elif measure.startswith("joint_space_") and "error" not in measure:
            assert value == pytest.approx(anatomy.joint_space_mm[measure.removeprefix("joint_space_")])
        elif "_meniscus" in measure:
            assert np.isnan(value), "there are no labels"
        elif measure != "osteophyte_volume":
            assert value == pytest.approx(perfect.get(measure, 0)), measure
        assert state.metric_conventions[f"pred_{measure}"]["measure"] == measure_words(measure) != ""


def test_a_shifted_intensity_is_the_error_of_every_tissue():
    handlers = {"pred_error": StructureHandler(measure="absolute_error_bone")}
    handlers["pred_square"] = StructureHandler(measure="squared_error_fat")
    state = run(handlers, [knee(pred=volume(shift=0.1)), knee(pred=volume(shift=-0.2))])
    assert state.metric_details["pred_error"][:, 0].tolist() == pytest.approx([0.1, 0.2], abs=1e-5)
    assert state.metric_details["pred_square"][:, 0].tolist() == pytest.approx([0.01, 0.04], abs=1e-5)


def test_labels_of_the_batch_are_the_reference_and_are_counted():
    """Labels of a meniscus, which only labels have."""
    with_labels = labels()
    with_labels[31:33, 18:46] = 9
    handler = StructureHandler(measure="absolute_error_meniscus")
    items = [knee(labels=torch.from_numpy(with_labels)[None], pred=volume(shift=0.3)), knee()]
    with pytest.warns(UserWarning, match="1 of 2 volumes"):
        state = run({"pred_score": handler}, items)
    assert state.metric_details["pred_score"][0, 0] == pytest.approx(0.3, abs=1e-5)
    assert state.metric_details["pred_score_undefined"].tolist() == [[0], [1]]
    assert "labels for 1, " in state.metric_conventions["pred_score"]["reference"]


def test_measures_of_nothing_are_nan_and_bad_input_is_an_error():
    metric = StructureMetric("bone_distance")
    flat = torch.zeros(1, 1, 40, 40, 5)
    assert metric(flat, flat, spacing_mm=(2.5, 2.5, 2)).isnan().all()
    with pytest.raises(ValueError, match="finite"):
        metric(flat * torch.nan, flat, spacing_mm=(2.5, 2.5, 2))
    with pytest.raises(ValueError, match="one shape"):
        metric(flat[..., 1:], flat, spacing_mm=(2.5, 2.5, 2))
    with pytest.raises(ValueError, match="`labels`"):
        metric(flat, flat, spacing_mm=(2.5, 2.5, 2), labels=torch.zeros(1, 4, 4, 4))
    with pytest.raises(ValueError, match="bone_dice"):
        StructureMetric("bones")
    with pytest.raises(ValueError, match="`of`"):
        StructureMetric("bone_dice", of="real")


def test_sections_state_error_correlation_and_grades():
    narrow = volume(gap=3)
    items = [knee(grade=0), knee(grade=2, pred=narrow), knee(grade=2, pred=narrow)]
    sections = run({"": StructureSections({"pred": "Model"})}, items).report_sections
    json.dumps(sections, allow_nan=False)
    medial = sections["joint_space"]["rows"][0]
    assert medial[:3] == ["Model", "medial", 3]
    assert medial[5] == pytest.approx(-2 * 2.5 / 3, abs=0.3), "two of three are a row narrower"
    assert [row[:3] for row in sections["joint_space_by_grade"]["rows"]] == [
        [0, 1, "Real"],
        [0, 1, "Model"],
        [2, 2, "Real"],
        [2, 2, "Model"],
    ]
    assert sections["tissue_error"]["rows"][2][:4] == ["Model", "meniscus", 0, None]
    assert sections["tissue_error_by_grade"]["rows"][0][3] == pytest.approx(0.0)


def test_agreement_by_hand():
    pred, real = np.array([1.0, 2.0, 4.0, np.nan]), np.array([1.0, 3.0, 5.0, 1.0])
    found = agreement(pred, real)
    assert found[:5] == pytest.approx([3, 3.0, 7 / 3, -2 / 3, 2 / 3])
    assert found[5] == pytest.approx(np.corrcoef([1, 2, 4], [1, 3, 5])[0, 1])
    assert agreement(pred[3:], real[3:]) == [0, None, None, None, None, None]


class Ramp(torch.nn.Module):
    """Volumes of any number of slices between two random slices."""

    def forward(self, film, readings=None, *, slices=None, seed=0):
        ends = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(seed))
        part = torch.linspace(0, 1, slices)
        return (ends[0][..., None] * (1 - part) + ends[1][..., None] * part)[None, None]


def test_curve_over_slices_is_a_section_with_the_real_volume_last():
    network = Ramp()
    real = network(None, slices=6)[0]
    item = ({"image": torch.zeros(1, 16, 16)}, {"pred": real, "label": real})
    section = run({"": SliceCountCurve(network, counts=(4, 11), knees=1)}, [item, item]).report_sections[
        "slice_count_curve"
    ]
    rows = section["rows"]
    assert [row[1] for row in rows] == [4, 11, 6]
    assert rows[0][3] < rows[2][3] < rows[1][3], "neighbours are the more alike the closer they lie"
    assert rows[0][4] == pytest.approx(rows[0][3]), "all are compared at the coarsest distance"
    assert rows[1][4] == pytest.approx(rows[0][4], abs=0.15)


def test_band_of_each_item_reaches_rssim_and_its_source_the_convention():
    generator = torch.Generator().manual_seed(0)
    pred, real = (torch.rand((2, 1, 40, 30, 3), generator=generator) * 2 - 1).unbind()
    items = [
        ({"band": torch.tensor([0, 14]), "band_source": "masks"}, {"pred": pred, "label": real}),
        ({"band": torch.tensor([20, 36]), "band_source": "knee finder"}, {"pred": pred, "label": real}),
    ]
    state = run({"pred_rssim": RegionSSIMHandler(data_range=2, sigma=1.0, band_key="band")}, items)
    expected = [region_ssim(pred[0], real[0], data_range=2, sigma=1.0, band=band) for band in ((0, 14), (20, 36))]
    assert state.metric_details["pred_rssim"][:, 0].tolist() == pytest.approx(expected)
    assert "knee finder (1), masks (1)" in state.metric_conventions["pred_rssim"]["band"]
    with pytest.raises(ValueError, match="JointBandd"):
        run({"pred_rssim": RegionSSIMHandler(data_range=2, band_key="band")}, [({}, {"pred": pred, "label": real})])


def test_the_snippet_for_evaluate_json_builds_and_runs():
    """What docs/metrics.md gives to paste."""
    snippet = {
        "imports": ["$import bundle", "$import monai"],
        "truth_dir": None,
        "load_labels": {"_target_": "bundle.transforms.LoadLabelsd", "directory": "@truth_dir"},
        "joint_band": {"_target_": "bundle.data.JointBandd", "finder": None},
        "preprocessing": {"_target_": "Compose", "transforms": ["@load_labels", "@joint_band"]},
        "model_pair": "$monai.handlers.from_engine(['pred', 'label'])",
        "metrics": {
            "pred_bone_distance": {
                "_target_": "bundle.handlers.StructureHandler",
                "measure": "bone_distance",
                "output_transform": "@model_pair",
            },
            "pred_rssim": {
                "_target_": "bundle.handlers.RegionSSIMHandler",
                "data_range": 2.0,
                "band_key": "band",
                "output_transform": "@model_pair",
            },
        },
        "handlers": [{"_target_": "bundle.handlers.StructureSections", "methods": {"pred": "Model"}}],
    }
    parser = ConfigParser(snippet)
    parser.parse()
    prepare, metrics = parser.get_parsed_content("preprocessing"), parser.get_parsed_content("metrics")
    data = {"image": torch.zeros(1, 64, 64), "mri": volume(), "readings": {"XRKL": 1}}
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[list_data_collate([{"image": torch.zeros(1, 64, 64), "label": volume()}])],
        network=torch.nn.Identity(),
        inferer=lambda film, network: volume(gap=3).as_tensor()[None],
        prepare_batch=lambda batch, *_, **__: (batch["image"], batch["label"]),
        postprocessing=lambda item: item | {key: v for key, v in prepare(data).items() if key not in ("image", "mri")},
        key_val_metric={"pred_bone_distance": metrics["pred_bone_distance"]},
        val_handlers=parser.get_parsed_content("handlers"),
    )
    evaluator.run()
    assert 0 < evaluator.state.metrics["pred_bone_distance"] < 5
    assert "joint_space" in evaluator.state.report_sections
    assert prepare(data)["band_source"] == "middle third"
