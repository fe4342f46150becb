"""RSSIM against a second implementation written from the definition, and on cases one can reason out."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.feature import canny

from bundle.metrics import RegionSSIM, region_ssim


def smooth_volume(seed, shape=(48, 40, 3), sigma=4.0):
    """Smooth blobs in [-1, 1] with edges for Canny."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    blobs = ndimage.gaussian_filter(noise, (sigma, sigma, 0.7))
    return np.tanh(6 * blobs / blobs.std())


def independent_rssim(x, y, *, lo, data_range, sigma, rows, near_edge=False):
    """The definition in design.md 9, pixel by pixel, sharing no line with the implementation."""
    weights = [math.exp(-(i * i + j * j) / (2 * 1.5 * 1.5)) for i in range(-5, 6) for j in range(-5, 6)]
    kernel = np.array(weights).reshape(11, 11) / sum(weights)
    slice_scores = []
    for s in range(x.shape[2]):
        maps = []
        for volume in (x, y):
            unit = np.minimum(np.maximum((volume[:, :, s] - lo) / data_range, 0), 1)
            maps.append(canny(unit, sigma=sigma)[rows[0] : rows[1]].astype(float))
        a, b = maps
        values = []
        for r in range(a.shape[0] - 10):
            for c in range(a.shape[1] - 10):
                wa, wb = a[r : r + 11, c : c + 11], b[r : r + 11, c : c + 11]
                if near_edge and wa.sum() + wb.sum() == 0:
                    continue
                ma, mb = (kernel * wa).sum(), (kernel * wb).sum()
                va, vb = (kernel * (wa - ma) ** 2).sum(), (kernel * (wb - mb) ** 2).sum()
                cov = (kernel * (wa - ma) * (wb - mb)).sum()
                values.append(
                    ((2 * ma * mb + 1e-4) * (2 * cov + 9e-4)) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4))
                )
        if values:
            slice_scores.append(np.mean(values))
    return float(np.mean(slice_scores)) if slice_scores else math.nan


PAIRS = {
    "unrelated": (smooth_volume(0), smooth_volume(1)),
    "shifted": (smooth_volume(0), np.roll(smooth_volume(0), 2, axis=1)),
    "noisy": (smooth_volume(0) + np.random.default_rng(5).normal(0, 0.8, (48, 40, 3)), smooth_volume(0)),
    "one slice": (smooth_volume(0)[..., :1], smooth_volume(1)[..., :1]),
    "one side constant": (np.full((48, 40, 3), 0.3), smooth_volume(1)),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("variant", "band", "rows"),
    [("band", None, (16, 32)), ("band", (5, 30), (5, 30)), ("near_edge", (5, 30), (5, 30)), ("full", None, (0, 48))],
)
def test_agrees_with_an_independent_implementation(pair, variant, band, rows):
    x, y = PAIRS[pair]
    expected = independent_rssim(x, y, lo=-1, data_range=2, sigma=2.0, rows=rows, near_edge=variant == "near_edge")
    assert region_ssim(x, y, data_range=2, sigma=2.0, band=band, variant=variant) == pytest.approx(expected, abs=1e-9)


def test_default_band_is_the_middle_third_rounded_outwards():
    """50 rows: floor(50 / 3) = 16 to ceil(100 / 3) = 34."""
    x, y = smooth_volume(0, (50, 40, 2)), smooth_volume(1, (50, 40, 2))
    kwargs = {"data_range": 2, "sigma": 2.0}
    assert region_ssim(x, y, **kwargs) == region_ssim(x, y, band=(16, 34), **kwargs)
    assert region_ssim(x, y, **kwargs) != region_ssim(x, y, band=(17, 33), **kwargs)


@pytest.mark.parametrize("variant", ["band", "near_edge", "full"])
def test_identical_volumes_score_one(variant):
    volume = smooth_volume(0)
    assert region_ssim(volume, volume, data_range=2, variant=variant) == pytest.approx(1.0, abs=1e-12)


def test_negation_keeps_edges_and_score():
    """Canny sees where grey changes, not in which direction."""
    volume = smooth_volume(0)
    assert region_ssim(-volume, volume, data_range=2) == pytest.approx(1.0, abs=1e-12)


def test_constants_agree_perfectly_but_have_no_edge_to_be_near():
    flat, other = np.zeros((48, 40, 3)), np.full((48, 40, 3), 0.5)
    assert region_ssim(flat, other, data_range=2) == 1.0
    assert region_ssim(flat, other, data_range=2, variant="full") == 1.0
    assert math.isnan(region_ssim(flat, other, data_range=2, variant="near_edge"))


def test_slices_without_edges_count_one_in_the_band_and_are_left_out_near_edges():
    real = np.dstack([smooth_volume(1)[..., :1], np.zeros((48, 40, 1))])
    fake = np.dstack([smooth_volume(0)[..., :1], np.zeros((48, 40, 1))])
    band = region_ssim(fake[..., :1], real[..., :1], data_range=2)
    near = region_ssim(fake[..., :1], real[..., :1], data_range=2, variant="near_edge")
    assert region_ssim(fake, real, data_range=2) == pytest.approx((band + 1) / 2)
    assert region_ssim(fake, real, data_range=2, variant="near_edge") == pytest.approx(near)
    metric = RegionSSIM(data_range=2)
    metric(torch.tensor(fake)[None, None], torch.tensor(real)[None, None])
    assert metric.left_out().tolist() == [[1]]


def test_score_falls_as_a_volume_is_moved_away():
    volume = smooth_volume(3, (64, 64, 3))
    scores = [region_ssim(np.roll(volume, shift, axis=1), volume, data_range=2) for shift in (0, 1, 2, 4)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.3


def test_intensities_beyond_the_range_are_clipped():
    volume = smooth_volume(0)
    assert region_ssim(volume * 5, np.clip(volume * 5, -1, 1), data_range=2) == pytest.approx(1.0)


def test_lowest_intensity_follows_the_range():
    x, y = smooth_volume(0), smooth_volume(1)
    symmetric = region_ssim(x, y, data_range=2)
    assert region_ssim((x + 1) / 2, (y + 1) / 2, data_range=1) == pytest.approx(symmetric)
    assert region_ssim(100 * x + 300, 100 * y + 300, data_range=200, lo=200) == pytest.approx(symmetric)
    with pytest.raises(ValueError, match="`lo`"):
        region_ssim(x, y, data_range=200)


def test_float32_tensors_agree_with_float64_arrays():
    x, y = smooth_volume(0), smooth_volume(1)
    single = region_ssim(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32), data_range=2)
    assert single == pytest.approx(region_ssim(x, y, data_range=2), abs=2e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_values_that_are_not_finite_are_refused(value, where):
    pair = [smooth_volume(0), smooth_volume(1)]
    pair[where][3, 3, 0] = value
    with pytest.raises(ValueError, match="finite"):
        region_ssim(*pair, data_range=2)
    with pytest.raises(ValueError, match="finite"):
        RegionSSIM(data_range=2)(*(torch.tensor(v)[None, None] for v in pair))


GOOD = smooth_volume(0)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (GOOD, GOOD[..., :2], {}, "one shape"),
        (GOOD[..., 0], GOOD[..., 0], {}, r"\(H, W, S\)"),
        (GOOD[None], GOOD[None], {}, r"\(H, W, S\)"),
        (GOOD, GOOD, {"band": (10, 20)}, "at least 11"),
        (GOOD, GOOD, {"band": (40, 60)}, "within the 48 rows"),
        (GOOD, GOOD, {"band": (-1, 20)}, "within the 48 rows"),
        (GOOD[:30], GOOD[:30], {}, "at least 11"),
        (GOOD[:, :10], GOOD[:, :10], {}, "11 columns"),
        (GOOD, GOOD, {"data_range": 0}, "`data_range`"),
        (GOOD, GOOD, {"data_range": -2}, "`data_range`"),
        (GOOD, GOOD, {"data_range": np.nan}, "`data_range`"),
        (GOOD, GOOD, {"variant": "middle"}, "near_edge"),
        (GOOD, GOOD, {"sigma": 0}, "`sigma`"),
    ],
)
def test_impossible_input_is_refused(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        region_ssim(x, y, **({"data_range": 2} | options))


def test_metric_gives_one_score_a_volume_and_their_mean():
    fake = torch.tensor(np.stack([smooth_volume(0), smooth_volume(1)]))[:, None]
    real = torch.tensor(np.stack([smooth_volume(2), smooth_volume(1)]))[:, None]
    metric = RegionSSIM(data_range=2)
    scores = metric(fake, real)
    first = region_ssim(smooth_volume(0), smooth_volume(2), data_range=2)
    assert scores.shape == (2, 1)
    assert scores[:, 0].tolist() == pytest.approx([first, 1.0])
    assert metric.aggregate().item() == pytest.approx((first + 1) / 2)
    assert metric([fake[0]], [real[0]]).tolist() == [[pytest.approx(first)]]
    assert metric.get_buffer().shape == (3, 1)
    metric.reset()
    assert len(metric) == 0
    assert metric.left_out() is None


def test_metric_takes_another_band_with_the_call():
    fake, real = torch.tensor(smooth_volume(0))[None, None], torch.tensor(smooth_volume(1))[None, None]
    assert RegionSSIM(data_range=2)(fake, real, band=(2, 20)).item() == region_ssim(
        fake[0, 0], real[0, 0], data_range=2, band=(2, 20)
    )


def test_volumes_without_a_score_are_told_not_dropped():
    """One volume has edges and is identical (1), one has none (NaN)."""
    volumes = torch.tensor(np.stack([smooth_volume(0), np.zeros((48, 40, 3))]))[:, None]
    metric = RegionSSIM(data_range=2, variant="near_edge", get_not_nans=True)
    metric(volumes, volumes)
    with pytest.warns(UserWarning, match="1 of 2 volumes"):
        score, scored = metric.aggregate()
    assert (score.item(), scored.item()) == (pytest.approx(1.0), 1)
    metric.reset()
    metric(volumes[1:], volumes[1:])
    with pytest.warns(UserWarning, match="1 of 1 volumes"):
        assert math.isnan(metric.aggregate()[0])


def test_median_of_an_even_count_lies_between():
    scores = RegionSSIM(data_range=2, reduction="median")
    scores.extend(torch.tensor([[0.0], [0.2], [0.4], [1.0]]))
    assert scores.aggregate().item() == pytest.approx(0.3)
