"""The handlers leave in the engine's state what a report needs."""

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine

from bundle.handlers import AdjacentSliceCorrelationHandler, PSNRHandler, RegionSSIMHandler, SSIMHandler
from bundle.metrics import adjacent_slice_correlation, region_ssim

SHAPE = (1, 36, 24, 3)


def smooth(seed):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 1, 6, 4, 3), generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=SHAPE[1:], mode="trilinear")[0].tanh()


def run(handler, outputs, name="pred_score"):
    """One epoch in which the model gave `outputs`, batch by batch."""
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine, name)
    engine.run(outputs)
    return engine.state


OUTPUTS = [
    [{"pred": smooth(0), "label": smooth(1)}, {"pred": smooth(2), "label": smooth(3)}],
    [{"pred": smooth(4), "label": smooth(5)}],
]
PAIRS = [(item["pred"][0], item["label"][0]) for batch in OUTPUTS for item in batch]
HANDLERS = {
    "rssim": RegionSSIMHandler(data_range=2, sigma=1.0),
    "near_edge": RegionSSIMHandler(data_range=2, sigma=1.0, variant="near_edge"),
    "correlation": AdjacentSliceCorrelationHandler(),
    "real correlation": AdjacentSliceCorrelationHandler(of="real"),
    "psnr": PSNRHandler(data_range=2, per="volume"),
}
EXPECTED = {
    "rssim": lambda x, y: region_ssim(x, y, data_range=2, sigma=1.0),
    "near_edge": lambda x, y: region_ssim(x, y, data_range=2, sigma=1.0, variant="near_edge"),
    "correlation": lambda x, y: adjacent_slice_correlation(x),
    "real correlation": lambda x, y: adjacent_slice_correlation(y),
    "psnr": lambda x, y: 10 * torch.log10(4 / (x - y).square().mean()).item(),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_every_volume_has_its_score_and_the_epoch_their_mean(name):
    expected = [EXPECTED[name](*pair) for pair in PAIRS]
    state = run(HANDLERS[name], OUTPUTS)
    assert state.metric_details["pred_score"].shape == (3, 1)
    assert state.metric_details["pred_score"][:, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert state.metrics["pred_score"] == pytest.approx(sum(expected) / 3, abs=1e-5)


def test_left_out_slices_are_counted_beside_the_scores():
    half_empty = smooth(1).clone()
    half_empty[..., 0] = 0
    state = run(PSNRHandler(data_range=2), [[{"pred": half_empty, "label": smooth(1)}]])
    assert state.metric_details["pred_score_infinite_slices"].tolist() == [[2]]
    assert not state.metric_details["pred_score_infinite_slices"].is_floating_point()


def test_convention_states_range_window_and_band():
    state = run(RegionSSIMHandler(data_range=2, band=(4, 20)), OUTPUTS)
    convention = state.metric_conventions["pred_score"]
    assert convention["data_range"] == 2.0
    assert "11-tap Gaussian" in convention["window"]
    assert convention["band"] == "rows [4, 20)"


def test_band_may_come_with_each_volume():
    outputs = [[item | {"band": torch.tensor([row, row + 14])} for row, item in enumerate(batch)] for batch in OUTPUTS]
    handler = RegionSSIMHandler(data_range=2, sigma=1.0, output_transform=from_engine(["pred", "label", "band"]))
    state = run(handler, outputs)
    bands = [(0, 14), (1, 15), (0, 14)]
    expected = [region_ssim(*p, data_range=2, sigma=1.0, band=b) for p, b in zip(PAIRS, bands, strict=True)]
    assert state.metric_details["pred_score"][:, 0].tolist() == pytest.approx(expected)


def test_volumes_without_a_score_do_not_pass_unseen():
    """Two volumes, one of them flat: one score is NaN and the mean is over the other, with a warning."""
    flat = torch.zeros(SHAPE)
    outputs = [[{"pred": flat, "label": flat}, {"pred": smooth(1), "label": smooth(1)}]]
    with pytest.warns(UserWarning, match="1 of 2 volumes"):
        state = run(RegionSSIMHandler(data_range=2, sigma=1.0, variant="near_edge"), outputs)
    assert state.metric_details["pred_score"].isnan().tolist() == [[True], [False]]
    assert state.metrics["pred_score"] == pytest.approx(1.0)


@pytest.mark.parametrize("handler", [PSNRHandler, SSIMHandler])
def test_unknown_unit_is_refused_when_built(handler):
    with pytest.raises(ValueError, match="slice, volume"):
        handler(data_range=2, per="row")
    with pytest.raises(ValueError, match="`data_range`"):
        handler(data_range=0)
