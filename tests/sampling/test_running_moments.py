"""Mean and spread of samples that come one after another."""

import pytest
import torch

from bundle.sampling import RunningMoments


def test_mean_and_spread_are_those_of_all_samples_at_once():
    """Also where the mean is large beside the spread, which a sum of squares would lose."""
    samples = 1e6 + torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = RunningMoments()
    for sample in samples:
        moments.add(sample)
    torch.testing.assert_close(moments.mean, samples.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(moments.spread, samples.std(0), rtol=1e-8, atol=0)


def test_one_sample_is_its_own_mean_to_the_bit_and_has_no_spread():
    sample, moments = torch.rand(5), RunningMoments()
    moments.add(sample)
    assert torch.equal(moments.mean.float(), sample)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        _ = moments.spread
    with pytest.raises(ValueError, match=r"must have shape \(5,\), got \(1,\)"):
        moments.add(torch.rand(1))
