"""The whole chain in small, as a config lays it over the bundle's own: samples, oracle, controls, tables."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from made_up_evaluation import run_evaluation
from made_up_set import write_set
from monai.bundle import ConfigParser

from bundle.geometry import ila_affine

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [ROOT / "configs/inference.json", ROOT / "configs/evaluate.json"]
OVERLAY = ROOT / "configs/evaluate_patient.json"
WITHOUT_ORACLE = ["retrieval", "memorisation", "uncertainty", "rank_histograms"]
SIZE, SLICES, SAMPLES = 16, 6, 2
PSNR = {"psnr": {"_target_": "bundle.handlers.PSNRHandler", "_mode_": "callable", "data_range": 2.0}}
TEST = [f"{number:07d}" for number in (5, 6, 7)]


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("knees"), image_size=SIZE, slices=SLICES, counts=(4, 1, 3))


@pytest.fixture(scope="module")
def oracle(knees, tmp_path_factory):
    """Samples on the scanner's grid that are the real volume and noise: what an oracle could be."""
    folder, rng = tmp_path_factory.mktemp("truth") / "posterior_film,readings", np.random.default_rng(0)
    folder.mkdir()
    affine = ila_affine((SIZE, SIZE, 80), (160 / SIZE, 160 / SIZE, 1.5), np.zeros(3))
    for name in TEST:
        real = nib.load(knees / f"volumes/{name}_R_00m.nii.gz").get_fdata()
        deep = np.pad(np.repeat(real, 9, axis=2)[:, :, :50], ((0, 0), (0, 0), (13, 17)), mode="edge")
        for k in (1, 2):
            noisy = (deep + rng.normal(scale=0.02, size=deep.shape)).astype(np.float32)
            nib.save(nib.Nifti1Image(noisy, affine), folder / f"{name}_R_{k}.nii.gz")
    return folder


def evaluate(knees, network, output, oracle=None, overlay=OVERLAY, **options):
    parser = ConfigParser()
    parser.read_config([str(path) for path in (*CONFIGS, overlay)])
    parser.update(
        {
            "bundle_root": str(ROOT),
            "dataset_dir": str(knees),
            "device": "cpu",
            "image_size": SIZE,
            "slices": SLICES,
            "samples": SAMPLES,
            "resamples": 20,
            "output_dir": str(output),
            "method_metrics": PSNR,
            "nearest_film::film_size": 8,
            "oracle_dir": None if oracle is None else str(oracle),
            **options,
        }
    )
    return run_evaluation(parser, network)


@pytest.fixture
def with_oracle(knees, oracle, small_network, tmp_path):
    return evaluate(knees, small_network, tmp_path, oracle)


def column(section, name):
    place = section["columns"].index(name)
    return {(row[0], row[1]): row[place] for row in section["rows"]}


def test_every_table_is_there_whole_and_ready_for_json(with_oracle):
    sections = with_oracle.report_sections
    assert list(sections) == ["explainable", *WITHOUT_ORACLE, "above_floor"]
    for section in sections.values():
        assert set(section) == {"title", "note", "columns", "rows", "convention"}
        assert section["rows"]
        assert {len(row) for row in section["rows"]} == {len(section["columns"])}
        assert len(set(section["columns"])) == len(section["columns"])
        json.dumps(section, allow_nan=False)
    methods = {row[0] for row in sections["retrieval"]["rows"]}
    assert len(methods) == 12
    assert column(sections["retrieval"], "top-1")["Oracle: mean of posterior samples", "all test volumes"] == 1
    assert column(sections["retrieval"], "AUC")["Mean of the training volumes", "all test volumes"] == 0.5
    assert column(sections["explainable"], "oracle's samples")["Model, its samples", "foreground"] == SAMPLES
    assert column(sections["uncertainty"], "samples")["Oracle", "foreground"] == SAMPLES
    assert "The oracle knows film, readings and how" in sections["explainable"]["note"]
    assert {"oracle_psnr", "other_knee_psnr", "autoencoder_psnr", "pred_shuffled_film_psnr"} < set(with_oracle.metrics)


def test_without_an_oracle_its_rows_and_tables_are_absent(knees, small_network, tmp_path):
    state = evaluate(knees, small_network, tmp_path)
    assert list(state.report_sections) == WITHOUT_ORACLE
    assert {row[0] for row in state.report_sections["uncertainty"]["rows"]} == {"Model"}
    assert "oracle_psnr" not in state.metrics
    assert not any("Oracle" in row[0] for row in state.report_sections["retrieval"]["rows"])


def test_the_demos_page_opens_with_knees_and_shows_spread_slices_and_readings(knees, oracle, small_network, tmp_path):
    """The overlay of `make demo` on made-up knees: what it adds is on the page, and in the tables that it names."""
    overlay = ROOT / "configs/demo.json"
    state = evaluate(knees, small_network, tmp_path, oracle, overlay, more_slices=2 * SLICES)
    assert list(state.report_galleries) == ["readings", "interpolation"]
    assert {row[0] for row in state.report_sections["explainable"]["rows"]} >= {"Model, its samples"}
    assert {"oracle_psnr", "oracle_sample_psnr", "pred_sample_psnr", "nearest_film_psnr"} < set(state.metrics)
    page = (tmp_path / "report.html").read_text()
    parts = [
        '<h2 id="knees">',
        "Spread of the samples",
        "Readings switched on and off",
        "Any number of slices",
        '<h2 id="scores">',
    ]
    assert sorted(parts, key=page.index) == parts
    assert page.count(">Spread of the samples<") == len(TEST)
    assert f"Sample, {2 * SLICES} slices" in page
    assert "galleries" not in json.loads((tmp_path / "summary.json").read_text())
