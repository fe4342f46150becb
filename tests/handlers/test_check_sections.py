"""Self-check and findings attach from JSON, as docs and configurations write them."""

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from bundle.handlers import FindingsReport, SelfCheckHandler, SelfCheckReport
from bundle.networks.siamese_gap import SiameseGAP, parameter_table

ROOT = Path(__file__).resolve().parents[2]
SNIPPET = {
    "imports": ["$import bundle"],
    "image_size": 64,
    "slices": 50,
    "bones_of": {"_target_": "numpy.round", "_mode_": "callable", "decimals": "$int(160.0 / @image_size)"},
    "checks": [
        {"_target_": "bundle.handlers.SelfCheckReport", "methods": {"pred": "Model"}, "segment": "@bones_of"},
        {"_target_": "bundle.handlers.FindingsReport", "methods": {"pred": "Model"}, "segment": "@bones_of"},
    ],
    "pred_self_check": {"_target_": "bundle.handlers.SelfCheckHandler", "segment": "@bones_of"},
}


def test_handlers_are_built_from_json():
    parser = ConfigParser(SNIPPET)
    section, findings = parser.get_parsed_content("checks")
    assert isinstance(section, SelfCheckReport)
    assert isinstance(findings, FindingsReport)
    assert isinstance(parser.get_parsed_content("pred_self_check"), SelfCheckHandler)
    assert section.segment(1.26) == pytest.approx(1.26)


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="`others`"):
        SelfCheckReport(methods={"pred": "Model"}, segment=abs, others=0)
    with pytest.raises(ValueError, match="`given` names off"):
        FindingsReport(methods={"pred": "Model"}, segment=abs, given={"off": "other"})


def test_documented_parameters_are_the_networks():
    """docs/siamese_gap.md repeats `parameter_table` of the defaults."""
    text = (ROOT / "docs" / "siamese_gap.md").read_text()
    rows = parameter_table(SiameseGAP(), patch_size=80)
    for layer, operation, result, parameters in rows:
        assert f"| {layer} | {operation} | {result} | {parameters:,} |" in text
    assert f"| all | | | {sum(row[3] for row in rows):,} |" in text
