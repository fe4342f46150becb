"""What the CAE generator is trained on: its batches, its loss, its last batch."""

import pytest
import torch

from bundle.engines import CAELoss, PrepareCAE, drops_last
from bundle.networks.cae_generator import CAE


def batch():
    generator = torch.Generator().manual_seed(0)
    shape = (4, 1, 16, 16)
    return {
        "image": torch.rand(shape, generator=generator),
        "mri": torch.rand((*shape, 7), generator=generator),
        "side": ["R"] * 4,
    }


def test_real_volumes_are_brought_to_the_generated_slices():
    """Of 7 slices, 4 evenly over the window are the first, third, fifth and last."""
    film, (film_too, volume), positional, named = PrepareCAE(4)(batch(), "cpu")
    assert torch.equal(film, film_too)
    assert torch.equal(film, batch()["image"])
    torch.testing.assert_close(volume, batch()["mri"][..., ::2])
    assert (positional, named) == ((), {})


def test_the_loss_weighs_film_and_volume():
    """Errors of 0.5 and 2: 3 * 0.25 + 0.5 * 4."""
    output = (torch.full((2, 1), 0.5), torch.full((2, 3), 2.0))
    target = (torch.zeros(2, 1), torch.zeros(2, 3))
    assert CAELoss(film_weight=3.0, volume_weight=0.5)(output, target).item() == pytest.approx(2.75)
    with pytest.raises(ValueError, match="`volume_weight`"):
        CAELoss(volume_weight=0.0)


def test_steps_lower_both_errors():
    torch.manual_seed(0)
    network, loss = CAE(image_size=16, slices=4, width=4), CAELoss()
    film, target, *_ = PrepareCAE(4)(batch(), "cpu")
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    errors = []
    for _ in range(8):
        output = network(film)
        errors.append(
            [float((given - wanted).detach().square().mean()) for given, wanted in zip(output, target, strict=True)]
        )
        optimizer.zero_grad()
        loss(output, target).backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        optimizer.step()
    assert errors[-1][0] < 0.8 * errors[0][0]
    assert errors[-1][1] < 0.8 * errors[0][1]


@pytest.mark.parametrize(("items", "drops"), [(8, False), (9, True), (10, False), (2, False)])
def test_a_last_batch_of_one_goes(items, drops):
    assert drops_last(items, 4) is drops


def test_batches_of_one_are_refused():
    for items, size in ((1, 4), (8, 1)):
        with pytest.raises(ValueError, match="batch norm"):
            drops_last(items, size)
