"""The mean-volume baseline."""

import numpy as np
import pytest
import torch

from bundle.networks.baselines import MeanVolume

SHAPE = (4, 3, 2)


def items(count=5):
    generator = torch.Generator().manual_seed(0)
    return [{"mri": torch.rand((1, *SHAPE), generator=generator) * 2 - 1} for _ in range(count)]


def test_gives_every_film_the_mean_of_the_training_volumes():
    network = MeanVolume(SHAPE).fit(items())
    volumes = network(torch.zeros(2, 1, 4, 3), readings=torch.zeros(2, 66))
    expected = np.mean([item["mri"].numpy() for item in items()], axis=0)
    assert volumes.shape == (2, 1, *SHAPE)
    np.testing.assert_allclose(volumes[1].numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(volumes[0], volumes[1])


def test_one_pass_over_a_generator_is_enough():
    from_generator = MeanVolume(SHAPE).fit(item for item in items())
    assert torch.equal(from_generator.mean, MeanVolume(SHAPE).fit(items()).mean)


def test_sum_is_kept_in_double_precision():
    """1 + 4000 * 2e-8 in float32 additions would stay 1; the mean of these is 2e-8 * 4000 / 4001 over 1 / 4001."""
    volumes = [torch.ones(1, 1, 1, 1)] + [torch.full((1, 1, 1, 1), 2e-8)] * 4000
    mean = MeanVolume((1, 1, 1)).fit({"mri": volume} for volume in volumes).mean.item()
    assert mean == pytest.approx((1 + 4000 * 2e-8) / 4001, rel=1e-6)


def test_fitting_again_forgets_the_first_fit():
    network = MeanVolume(SHAPE).fit(items(5)).fit(items(1))
    assert torch.equal(network.mean[0], items(1)[0]["mri"])


def test_more_slices_lie_between_the_fitted_ones():
    """Slices 0 and 1 of one volume: three slices are first, their mean, last."""
    volume = items(1)[0]["mri"]
    three = MeanVolume(SHAPE).fit(items(1))(torch.zeros(1, 1, 4, 3), slices=3, steps=8, seed=1, sample=0)
    expected = torch.stack([volume[..., 0], volume.mean(-1), volume[..., 1]], dim=-1)
    torch.testing.assert_close(three[0], expected)


def test_state_dict_carries_the_mean():
    fitted, loaded = MeanVolume(SHAPE).fit(items()), MeanVolume(SHAPE)
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(loaded(torch.zeros(1, 1, 4, 3)), fitted(torch.zeros(1, 1, 4, 3)))
    assert not list(fitted.parameters())


def test_unfitted_or_unfittable_is_an_error():
    with pytest.raises(RuntimeError, match="`fit`"):
        MeanVolume(SHAPE)(torch.zeros(1, 1, 4, 3))
    with pytest.raises(ValueError, match="at least one"):
        MeanVolume(SHAPE).fit([])
    with pytest.raises(ValueError, match="item 2"):
        MeanVolume(SHAPE).fit([*items(1), {"mri": torch.zeros(1, 4, 3, 3)}])
    with pytest.raises(ValueError, match="NaN"):
        MeanVolume(SHAPE).fit([{"mri": torch.full((1, *SHAPE), torch.nan)}])
    with pytest.raises(ValueError, match="`shape`"):
        MeanVolume((4, 3))
