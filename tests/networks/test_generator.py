"""The composite network: what comes out, what each condition reaches, what it refuses."""

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet

from bundle.networks import TwoPathUNet
from bundle.networks.identity import text_of, text_tensor
from bundle.sampling import DiffusionSchedule

UNET = {
    "spatial_dims": 2,
    "in_channels": 8,
    "out_channels": 4,
    "num_res_blocks": (1, 1),
    "channels": (32, 32),
    "attention_levels": (False, True),
    "norm_num_groups": 8,
    "num_head_channels": 16,
    "with_conditioning": True,
    "cross_attention_dim": 16,
}


def unet_inputs():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 8, 8, generator=generator)
    context = torch.randn(2, 1, 16, generator=generator)
    return x, torch.tensor([10.0, 700.0]), context


def set_zero_layers(module):
    for parameter in module.parameters():
        if not parameter.abs().max():
            torch.nn.init.normal_(parameter, std=0.1)


def test_at_initialisation_it_equals_the_unconditioned_unet():
    """The heads start at zero; the rest is MONAI's UNet with the same weights."""
    torch.manual_seed(0)
    ours, monais = TwoPathUNet(readings_width=5, **UNET), DiffusionModelUNet(**UNET)
    set_zero_layers(ours.out)
    missing, unexpected = monais.load_state_dict(ours.state_dict(), strict=False)
    assert not missing
    assert {name.split(".")[0] for name in unexpected} == {"depth_head", "readings_head"}
    x, time, context = unet_inputs()
    conditioned = ours(x, time, context, depth=torch.tensor([0.1, 0.9]), readings=torch.ones(2, 5))
    torch.testing.assert_close(conditioned, monais(x, time, context), rtol=0, atol=0)
    assert conditioned.abs().max() > 0


def captured(unet, **conditions):
    """Outputs of the last down block, of the middle and of the last up block."""
    seen = {}
    blocks = {"down": unet.down_blocks[-1], "middle": unet.middle_block, "up": unet.up_blocks[-1]}
    hooks = [
        block.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name, block in blocks.items()
    ]
    x, time, context = unet_inputs()
    unet(x, time, context, **conditions)
    for hook in hooks:
        hook.remove()
    seen["down"] = seen["down"][0]
    return seen


def test_depth_enters_the_down_path_and_readings_the_up_path_alone():
    torch.manual_seed(0)
    unet = TwoPathUNet(readings_width=5, **UNET)
    set_zero_layers(unet)
    depth, readings = torch.tensor([0.1, 0.9]), torch.eye(5)[:2]
    base = captured(unet, depth=depth, readings=readings)
    other_readings = captured(unet, depth=depth, readings=torch.eye(5)[2:4])
    other_depth = captured(unet, depth=depth.flip(0), readings=readings)
    assert torch.equal(base["down"], other_readings["down"])
    assert torch.equal(base["middle"], other_readings["middle"])
    assert not torch.allclose(base["up"], other_readings["up"])
    assert not torch.allclose(base["down"], other_depth["down"])


def test_forward_gives_a_volume_on_the_grid(small_network):
    film = torch.rand(2, 1, 16, 16) * 2 - 1
    volume = small_network(film)
    assert volume.shape == (2, 1, 16, 16, 6)
    assert volume.abs().max() <= 1
    assert small_network(film, slices=9).shape[-1] == 9
    assert small_network(film, depths=torch.tensor([0.25, 0.5])).shape[-1] == 2
    # noise at a depth does not depend on the others, so the slice at d = 0.5 is the same slice
    many, few = small_network(film, slices=9), small_network(film, depths=torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(many[..., 4], few[..., 1], atol=2e-4, rtol=0)


def test_a_seed_gives_the_same_volume_bit_for_bit(small_network):
    film = torch.rand(1, 1, 16, 16)
    first = small_network(film, seed=3)
    torch.manual_seed(99)
    assert torch.equal(first, small_network(film, seed=3))
    assert not torch.equal(first, small_network(film, seed=4))


def test_each_knee_of_a_batch_is_the_knee_alone(small_network):
    films = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    both = small_network(films)
    torch.testing.assert_close(both[1:], small_network(films[1:]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("condition", ["film", "readings", "depth"])
def test_every_condition_changes_the_volume(small_network, condition):
    film, readings = torch.zeros(1, 1, 16, 16), torch.zeros(1, 66)
    base = small_network(film, readings)
    if condition == "film":
        other = small_network(film + torch.linspace(-1, 1, 16), readings)
    elif condition == "readings":
        other = small_network(film, torch.eye(66)[:1])
    else:
        other = base.flip(-1)
    assert (base - other).abs().max() > 1e-3


def test_wrong_shapes_are_refused_by_name(small_network):
    with pytest.raises(ValueError, match=r"`film` must have shape \(B, 1, 16, 16\)"):
        small_network(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="`readings` must have shape"):
        small_network(torch.zeros(1, 1, 16, 16), torch.zeros(1, 61))


def test_what_has_no_gradient_is_frozen_and_the_rest_learns(small_network):
    """DDP stops on parameters without a gradient: every parameter that is trained must get one."""
    denoiser = small_network.denoiser
    latent = torch.randn(2, 4, 4, 4)
    prediction = denoiser(
        latent,
        torch.tensor([100.0, 500.0]),
        depth=torch.tensor([0.2, 0.8]),
        readings=torch.ones(2, 66),
        film_latent=latent,
        film=torch.rand(2, 1, 16, 16),
    )
    prediction.square().mean().backward()
    trained = {name: p.grad for name, p in denoiser.named_parameters() if p.requires_grad}
    assert all(grad is not None for grad in trained.values())
    frozen = [name for name, p in denoiser.named_parameters() if not p.requires_grad]
    assert frozen
    assert all("norm2" in name or "attn2.to_" in name for name in frozen)


def test_text_survives_a_tensor():
    assert text_of(text_tensor("synthetic-phantom; KL 0 to 4 é")) == "synthetic-phantom; KL 0 to 4 é"
    with pytest.raises(ValueError, match="bytes"):
        text_tensor("x" * 513)


def test_gradients_reach_depth_through_the_down_path_and_readings_through_the_up_path_alone():
    """Cut one path's embedding off from its block: the other condition's head must keep its gradient, bit for bit."""
    torch.manual_seed(0)
    unet = TwoPathUNet(readings_width=5, covariates_width=3, **UNET)
    set_zero_layers(unet)
    x, time, context = unet_inputs()

    def gradients(cut):
        def detach(_module, _inputs, arguments):
            return _inputs, {**arguments, "temb": arguments["temb"].detach()}

        hooks = [block.register_forward_pre_hook(detach, with_kwargs=True) for block in cut]
        conditions = {"depth": torch.tensor([0.1, 0.9]), "readings": torch.ones(2, 5), "covariates": torch.ones(2, 3)}
        heads = {name: getattr(unet, f"{name}_head")[-1].weight for name in conditions}
        output = unet(x, time, context, **conditions).square().sum()
        found = torch.autograd.grad(output, list(heads.values()), allow_unused=True)
        for hook in hooks:
            hook.remove()
        return dict(zip(heads, found, strict=True))

    whole = gradients([])
    without_down = gradients([*unet.down_blocks, unet.middle_block])
    without_up = gradients(unet.up_blocks)
    assert all(gradient.abs().max() > 0 for gradient in whole.values())
    assert without_down["depth"] is None
    assert without_up["readings"] is None
    assert without_up["covariates"] is None
    assert without_up["depth"].abs().max() > 0
    assert torch.equal(without_down["readings"], whole["readings"])
    assert torch.equal(without_down["covariates"], whole["covariates"])


def test_further_tokens_change_nothing_at_first_and_learn():
    torch.manual_seed(0)
    unet = TwoPathUNet(readings_width=5, extra_tokens=True, **UNET)
    for name, parameter in unet.named_parameters():
        if not parameter.abs().max() and ".extra." not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    x, time, context = unet_inputs()
    more = torch.cat([context, torch.randn(2, 3, 16)], dim=1)
    assert torch.equal(unet(x, time, context), unet(x, time, more))
    unet(x, time, more).square().sum().backward()
    branches = [p for name, p in unet.named_parameters() if name.endswith("extra.out_proj.weight")]
    assert branches
    assert all(branch.grad.abs().max() > 0 for branch in branches)
    torch.nn.init.normal_(branches[-1], std=0.1)
    assert not torch.allclose(unet(x, time, context), unet(x, time, more))


def test_further_tokens_and_covariates_that_a_network_does_not_know_are_refused():
    unet = TwoPathUNet(readings_width=5, **UNET)
    x, time, context = unet_inputs()
    with pytest.raises(ValueError, match="extra_tokens"):
        unet(x, time, context.repeat(1, 2, 1))
    with pytest.raises(ValueError, match="covariates_width"):
        unet(x, time, context, covariates=torch.ones(2, 3))


def test_recomputed_activations_give_the_same_gradients():
    torch.manual_seed(0)
    plain = TwoPathUNet(readings_width=5, **UNET)
    set_zero_layers(plain)
    saving = TwoPathUNet(readings_width=5, use_checkpoint=True, **UNET)
    saving.load_state_dict(plain.state_dict())
    x, time, context = unet_inputs()
    for unet in (plain, saving):
        unet(x, time, context, depth=torch.tensor([0.1, 0.9])).square().sum().backward()
    for (name, ours), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_withheld_conditions_change_nothing_and_depth_still_does(small_network):
    denoiser = small_network.denoiser
    generator = torch.Generator().manual_seed(3)
    noisy, first, second = (torch.randn(2, 4, 4, 4, generator=generator) for _ in range(3))
    time, withheld = torch.tensor([100.0, 500.0]), torch.tensor([True, False])

    def predict(film_latent, film, readings, depth):
        conditions = {"film_latent": film_latent, "film": film, "readings": readings, "depth": depth}
        return denoiser(noisy, time, **conditions, withheld=withheld)

    depth = torch.tensor([0.2, 0.8])
    one = predict(first, torch.full((2, 1, 16, 16), -0.5), torch.eye(66)[:2], depth)
    two = predict(second, torch.rand(2, 1, 16, 16), torch.eye(66)[2:4], depth)
    assert torch.equal(one[0], two[0])
    assert not torch.allclose(one[1], two[1])
    assert not torch.allclose(one[0], predict(first, torch.zeros(2, 1, 16, 16), torch.eye(66)[:2], depth.flip(0))[0])


def test_guidance_moves_the_volume_away_from_the_unconditional_one(small_network):
    film = torch.linspace(-1, 1, 16).expand(1, 1, 16, 16)
    plain = small_network(film)
    small_network.guidance_scale = 3.0
    guided = small_network(film)
    small_network.guidance_scale = 0.0
    unconditional = small_network(film)
    assert not torch.allclose(plain, guided, atol=1e-3)
    assert torch.equal(unconditional, small_network(film.flip(-1))), "at scale 0 the film says nothing"


def test_ancestral_volumes_do_not_depend_on_the_slice_batch(small_network):
    small_network.schedule = DiffusionSchedule(num_train_timesteps=1000, eta=1.0, prediction_type="v_prediction")
    film = torch.linspace(-1, 1, 16).expand(1, 1, 16, 16)
    for correlation in ("shared", "independent", "correlated"):
        small_network.noise_correlation = correlation
        small_network.slice_batch = 6
        whole = small_network(film, seed=5)
        small_network.slice_batch = 2
        torch.testing.assert_close(small_network(film, seed=5), whole, atol=1e-4, rtol=0)
        assert not torch.allclose(small_network(film, seed=6), whole)


def test_weights_of_nothing_in_the_network_are_refused_by_a_loose_load_too(small_network):
    """MONAI Label loads without `strict`: another network's file would leave the parameters as they were drawn."""
    with pytest.raises(ValueError, match="none of this network's parameters"):
        small_network.load_state_dict({"landmarks.weight": torch.zeros(3)}, strict=False)
    small_network.load_state_dict({"scale_factor": small_network.scale_factor}, strict=False)
