"""Slices of a volume that see each other: nothing at first, in any order, in millimetres, and worth learning."""

import pytest
import torch
from torch.nn.functional import mse_loss

from bundle.networks import TwoPathUNet
from bundle.networks.depth_mixing import DepthMixer, interpolation

UNET = {
    "readings_width": 5,
    "spatial_dims": 2,
    "in_channels": 8,
    "out_channels": 4,
    "num_res_blocks": (1, 1, 1),
    "channels": (32, 32, 64),
    "attention_levels": (False, False, True),
    "norm_num_groups": 8,
    "num_head_channels": 16,
    "with_conditioning": True,
    "cross_attention_dim": 16,
    "use_flash_attention": True,
}
MIXING = {"levels": [0, 1, 2], "num_head_channels": 16, "pitch_mm": 1.5}
DEPTHS = torch.linspace(0, 1, 6)


def unet(mixing=MIXING, *, wake=True):
    """A network with no layer at zero but, without `wake`, those of the mixers."""
    torch.manual_seed(0)
    network = TwoPathUNet(depth_mixing=mixing, **UNET)
    network.see_stacks(span_mm=7.5, slice_batch=50)
    for name, parameter in network.named_parameters():
        if not parameter.abs().max() and (wake or not name.startswith("mixers")):
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def inputs(count=6):
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(count, 8, 8, 8, generator=generator), torch.randn(count, 1, 16, generator=generator)
    return x, torch.full((count,), 400.0), context


@torch.no_grad()
def run(network, order=slice(None), *, x=None, depths=DEPTHS):
    given, time, context = inputs()
    x = given if x is None else x
    return network(x[order], time[order], context[order], depth=depths[order][None], readings=torch.ones(6, 5))


def test_at_initialisation_it_equals_the_slicewise_network():
    off, on = unet(None), unet(wake=False)
    missing, unexpected = on.load_state_dict(off.state_dict(), strict=False)
    assert missing
    assert all(name.startswith("mixers.") for name in missing)
    assert not unexpected
    x, time, context = inputs()
    with torch.no_grad():
        alone = off(x, time, context, depth=DEPTHS, readings=torch.ones(6, 5))
    assert torch.equal(run(on), alone)
    assert alone.abs().max() > 0


@pytest.mark.parametrize("pitch", [None, 1.5])
def test_another_order_of_the_slices_is_another_order_of_the_output(pitch):
    network, order = unet({**MIXING, "pitch_mm": pitch}), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(run(network, order), run(network)[order], atol=1e-4, rtol=1e-4)


def test_a_slice_depends_on_its_neighbours_within_reach_alone():
    """Slices are 1.5 mm apart; one layer that reaches 3 mm lets slice 0 see slices 1 and 2, not 3."""
    network, alone = unet({"num_head_channels": 16, "reach_mm": 3.0}), unet(None)
    x = inputs()[0]
    for changed, seen in ((2, True), (3, False)):
        other = x.clone()
        other[changed] += 1
        difference = (run(network, x=other) - run(network)).abs().amax((1, 2, 3))
        assert (difference[0] > 1e-4) == seen
    with torch.no_grad():
        _, time, context = inputs()
        both = [alone(value, time, context, depth=DEPTHS) for value in (x, other)]
    assert torch.equal(both[0][0], both[1][0])


def test_volumes_of_a_batch_do_not_see_each_other():
    network = unet()
    x, time, context = inputs()
    with torch.no_grad():
        both = network(x, time, context, depth=DEPTHS.reshape(2, 3))
        one = network(x[:3], time[:3], context[:3], depth=DEPTHS[None, :3])
    torch.testing.assert_close(both[:3], one, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pitch", [None, 1.5])
def test_only_differences_of_positions_count(pitch):
    torch.manual_seed(0)
    mixer = DepthMixer(32, num_head_channels=16, reach_mm=5.0, pitch_mm=pitch)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    hidden, positions = torch.randn(1, 5, 32, 2, 2), torch.tensor([[0.0, 1.5, 3.0, 4.5, 9.0]])
    with torch.no_grad():
        here = mixer(hidden, positions)
        torch.testing.assert_close(mixer(hidden, positions + 40), here, atol=1e-4, rtol=1e-4)
        assert (mixer(hidden, positions * 1.5) - here).abs().max() > 1e-2


def test_interpolation_by_hand():
    """Positions 3, 0, 1 in that order: 2 lies midway of 1 and 3; beyond the ends stands the end."""
    weights = interpolation(torch.tensor([[3.0, 0.0, 1.0]]), torch.tensor([[2.0, 0.25, -5.0, 8.0]]))
    expected = torch.tensor([[[0.5, 0, 0.5], [0, 0.75, 0.25], [0, 1, 0], [1, 0, 0]]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)


def test_blocks_in_batches_of_slices_change_nothing():
    network = unet()
    whole = run(network)
    network.see_stacks(span_mm=7.5, slice_batch=2)
    torch.testing.assert_close(run(network), whole, atol=1e-4, rtol=1e-4)


def test_a_batch_that_does_not_say_which_slices_belong_together_is_refused():
    x, time, context = inputs()
    with pytest.raises(ValueError, match="depth"):
        unet()(x, time, context, depth=DEPTHS)


@pytest.mark.parametrize("wrong", [{"levels": [3]}, {"levels": []}, {"num_head_channels": 24}, {"reach_mm": 0.0}])
def test_what_cannot_be_built_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TwoPathUNet(depth_mixing=wrong, **UNET)


def test_a_volume_is_the_same_whatever_the_batches(small_network):
    """Through the whole network: 6 slices at once, or blocks of 2."""
    network = small_network.denoiser.unet
    network.mixers = torch.nn.ModuleDict({"1": DepthMixer(32, num_head_channels=16)})
    torch.nn.init.normal_(network.mixers["1"].out.weight, std=0.3)
    film = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = small_network(film)
        small_network.slice_batch = network.slice_batch = 2
        torch.testing.assert_close(small_network(film), whole, atol=1e-4, rtol=1e-4)
        assert small_network(film, slices=30).shape[-1] == 30


def test_neighbours_lower_the_loss_below_what_one_slice_allows():
    """Pixels of variance 1, alike in all 8 slices, under noise of variance 1.

    One slice allows a squared error of 1/2 and no less, since pixels are independent; eight allow 1/9.
    """
    torch.manual_seed(0)
    mixing = {"levels": [0], "num_head_channels": 16, "reach_mm": 20.0}
    network = TwoPathUNet(depth_mixing=mixing, **{**UNET, "in_channels": 4})
    network.see_stacks(span_mm=10.5, slice_batch=50)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    depth, time = torch.linspace(0, 1, 8).expand(4, 8), torch.zeros(32)
    context, losses = torch.zeros(32, 1, 16), []
    for _ in range(150):
        clean = torch.randn(4, 1, 4, 8, 8).expand(4, 8, 4, 8, 8).flatten(0, 1)
        noisy = clean + torch.randn_like(clean)
        loss = mse_loss(network(noisy, time, context, depth=depth), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) / 20 < 0.4
