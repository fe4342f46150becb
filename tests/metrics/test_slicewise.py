"""PSNR and SSIM per slice and per volume against scikit-image."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import PSNRMetric, SSIMMetric
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bundle.metrics import SliceWise, VolumeWise

SKIMAGE_SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0}


def volumes(count=2, shape=(24, 20, 4)):
    noise = np.random.default_rng(0).standard_normal((2, count, *shape))
    fake, real = np.tanh(2 * gaussian_filter(noise, (0, 0, 1.5, 1.5, 0.5)))
    return fake, real


def batch(array):
    return torch.tensor(array, dtype=torch.float32)[:, None]


def test_psnr_is_the_mean_of_skimages_over_slices():
    fake, real = volumes()
    scores = SliceWise(PSNRMetric(max_val=2.0))(batch(fake), batch(real))
    expected = [
        np.mean([peak_signal_noise_ratio(r[..., s], f[..., s], data_range=2.0) for s in range(4)])
        for f, r in zip(fake, real, strict=True)
    ]
    assert scores.shape == (2, 1)
    assert scores[:, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_is_the_mean_of_skimages_over_slices_without_the_rim():
    fake, real = volumes()
    scores = SliceWise(SSIMMetric(spatial_dims=2, data_range=2.0))(batch(fake), batch(real))
    for score, f, r in zip(scores[:, 0].tolist(), fake, real, strict=True):
        maps = [structural_similarity(f[..., s], r[..., s], full=True, **SKIMAGE_SSIM)[1] for s in range(4)]
        assert score == pytest.approx(np.mean([m[5:-5, 5:-5] for m in maps]), abs=2e-4)


def test_volume_psnr_takes_the_error_of_the_whole_volume():
    fake, real = volumes()
    scores = VolumeWise(PSNRMetric(max_val=2.0))(batch(fake), batch(real))
    expected = [peak_signal_noise_ratio(r, f, data_range=2.0) for f, r in zip(fake, real, strict=True)]
    assert scores[:, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_identical_slices_are_left_out_of_psnr_and_counted():
    fake, real = volumes(count=1)
    fake[..., 0] = real[..., 0]
    metric = SliceWise(PSNRMetric(max_val=2.0))
    score = metric(batch(fake), batch(real)).item()
    expected = np.mean([peak_signal_noise_ratio(real[0, ..., s], fake[0, ..., s], data_range=2.0) for s in (1, 2, 3)])
    assert score == pytest.approx(expected, abs=1e-4)
    assert metric.left_out().tolist() == [[1]]


def test_identical_volumes_have_infinite_psnr_and_ssim_one():
    _, real = volumes(count=1)
    assert math.isinf(SliceWise(PSNRMetric(max_val=2.0))(batch(real), batch(real)).item())
    assert math.isinf(VolumeWise(PSNRMetric(max_val=2.0))(batch(real), batch(real)).item())
    assert SliceWise(SSIMMetric(2, data_range=2.0))(batch(real), batch(real)).item() == pytest.approx(1.0)


def test_half_the_range_off_everywhere_is_six_decibels():
    """20 log10(2 / 1) = 6.02."""
    zeros = torch.zeros(1, 1, 8, 8, 3)
    metric = SliceWise(PSNRMetric(max_val=2.0))
    assert metric(zeros, zeros + 1).item() == pytest.approx(20 * math.log10(2))
    assert metric.aggregate().item() == pytest.approx(20 * math.log10(2))


@pytest.mark.parametrize("wrapper", [SliceWise, VolumeWise])
def test_nan_is_an_error_on_either_side(wrapper):
    fake, real = volumes()
    fake[1, 2, 3, 1] = np.nan
    with pytest.raises(ValueError, match=r"`y_pred` must be finite, but 1 of"):
        wrapper(PSNRMetric(max_val=2.0))(batch(fake), batch(real))
    with pytest.raises(ValueError, match="`y` must be finite"):
        wrapper(PSNRMetric(max_val=2.0))(batch(real), batch(fake))


def test_wrong_shapes_are_refused():
    fake, real = volumes()
    metric = SliceWise(PSNRMetric(max_val=2.0))
    with pytest.raises(ValueError, match="one shape"):
        metric(batch(fake), batch(real)[..., :3])
    with pytest.raises(ValueError, match=r"\(B, 1, H, W, S\)"):
        metric(torch.tensor(fake), torch.tensor(real))
    with pytest.raises(ValueError, match="needs `y`"):
        metric(batch(fake))
