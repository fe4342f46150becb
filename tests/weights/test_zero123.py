"""Importing Zero-1-to-3: every part agrees with forward passes written in the checkpoint's own convention."""

import fabricate_ldm as ldm
import pytest
import torch
from safetensors.torch import save_file

from bundle.networks import FilmEncoder, FilmToVolume, LatentDiffusionAutoencoder, TwoPathUNet
from bundle.sampling import DiffusionSchedule
from bundle.weights import import_weights, load_parts, load_pretrained

CLOSE = {"atol": 2e-5, "rtol": 0}


@pytest.fixture(scope="module")
def fabricated():
    return ldm.zero123()


@pytest.fixture(scope="module")
def files(fabricated, tmp_path_factory):
    """A Lightning checkpoint of Zero-1-to-3's form and its import, averages and raw."""
    folder = tmp_path_factory.mktemp("zero123")
    state, stored = fabricated
    torch.save({"epoch": 3, "global_step": 105000, "state_dict": state}, folder / "z.ckpt")
    save_file(
        {k: v.clone(memory_format=torch.contiguous_format) for k, v in stored.items() if k != "unet.raw"},
        folder / "reference.safetensors",
    )
    options = {"kind": "zero123", "tower_heads": ldm.TOWER["heads"]}
    reference = folder / "reference.safetensors"
    lines = import_weights(folder / "z.ckpt", folder / "ema.pt", reference=reference, **options)
    import_weights(folder / "z.ckpt", folder / "raw.pt", raw=True, **options)
    return folder, lines


@pytest.fixture(scope="module")
def parts(files):
    return load_parts(files[0] / "ema.pt")


@torch.no_grad()
def test_the_unet_of_the_averages_and_the_raw_one_agree(fabricated, files, parts):
    stored = fabricated[1]
    given = [stored[f"unet.{name}"] for name in ("x", "time", "context")]
    assert stored["unet.output"].std() > 0.3, "a quiet network would hide differences"
    torch.testing.assert_close(parts["unet"](*given), stored["unet.output"], **CLOSE)
    raw = load_parts(files[0] / "raw.pt")["unet"]
    torch.testing.assert_close(raw(*given), stored["unet.raw"], **CLOSE)
    assert (stored["unet.raw"] - stored["unet.output"]).abs().max() > 0.1


@torch.no_grad()
def test_depth_and_readings_change_nothing_at_first(fabricated, parts):
    stored = fabricated[1]
    given = [stored[f"unet.{name}"] for name in ("x", "time", "context")]
    conditioned = parts["unet"](*given, depth=torch.tensor([0.2, 0.9]), readings=torch.ones(2, 1))
    assert torch.equal(conditioned, parts["unet"](*given))


@torch.no_grad()
def test_the_autoencoder_agrees(fabricated, parts):
    stored = fabricated[1]
    mean, sd = parts["autoencoder"].encode(stored["autoencoder.image"])
    torch.testing.assert_close(mean, stored["autoencoder.mean"], **CLOSE)
    torch.testing.assert_close(2 * sd.log(), stored["autoencoder.log_variance"], **CLOSE)
    decoded = parts["autoencoder"].decode(stored["autoencoder.latent"])
    torch.testing.assert_close(decoded, stored["autoencoder.decoded"], **CLOSE)


@torch.no_grad()
def test_the_tower_and_the_projection_agree(fabricated, parts):
    stored = fabricated[1]
    torch.testing.assert_close(parts["tower"](stored["tower.image"]), stored["tower.embedding"], **CLOSE)
    context = parts["projection"](stored["projection.embedding"])
    torch.testing.assert_close(context, stored["projection.context"], **CLOSE)


@torch.no_grad()
def test_five_ddim_steps_agree_with_ldms_sampler(fabricated, parts):
    """Leading timesteps 801, 601, ..., 1 and a last step to the first alpha-bar: zero123.md 4."""
    stored, weights = fabricated[1], ldm.Weights(0)
    context, film = stored["unet.context"], stored["unet.x"][:, 4:]
    weights.update({k: v for k, v in average_weights(fabricated[0]).items()})

    def theirs(x, time):
        inputs = (torch.cat([x, film], 1), time, context)
        return ldm.run(weights, "model.diffusion_model.", ldm.unet, *inputs)

    def ours(x, time):
        return parts["unet"](torch.cat([x, film], 1), time, context)

    noise = stored["unet.x"][:, :4]
    schedule = DiffusionSchedule(num_train_timesteps=1000, spacing="leading")
    expected = ldm.ddim(theirs, noise, 5)
    torch.testing.assert_close(schedule.sample(ours, noise, steps=5), expected, atol=2e-4, rtol=0)


def average_weights(state):
    raw = [name for name in state if name.startswith("model.diffusion_model.")]
    return {name: state["model_ema." + name.removeprefix("model.").replace(".", "")] for name in raw}


def test_the_report_names_what_was_dropped_and_compared(files):
    lines = "\n".join(files[1])
    for word in ("logit_scale", "posterior_variance", "model_ema.num_updates", "model.* (", "averages are taken"):
        assert word in lines
    assert lines.count("compared:") == 6


def configured(**changes):
    """A network of the fabricated checkpoint's sizes, as `configs/paper.json` builds it."""
    unet = {
        "readings_width": 66,
        "spatial_dims": 2,
        "in_channels": 8,
        "out_channels": 4,
        "channels": [32, 64, 64, 64],
        "num_res_blocks": [2] * 4,
        "attention_levels": [True, True, True, False],
        "num_head_channels": [4, 8, 8, 8],
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "transformer_norm_eps": 1e-6,
        "with_conditioning": True,
        "cross_attention_dim": ldm.CONTEXT,
        "use_flash_attention": True,
    }
    tower = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 4, "output_dim": 20}
    unet |= {name: value for name, value in changes.items() if name in unet}
    tower |= {name: value for name, value in changes.items() if name in tower or name == "quick_gelu"}
    torch.manual_seed(0)
    return FilmToVolume(
        autoencoder=LatentDiffusionAutoencoder(channels=[32, 64]),
        unet=TwoPathUNet(**unet),
        film_encoder=FilmEncoder(**{"quick_gelu": True, **tower}, context_dim=ldm.CONTEXT),
        schedule=DiffusionSchedule(),
        image_size=32,
        slices=4,
        sampling_steps=2,
    )


@torch.no_grad()
def test_a_configured_network_takes_the_weights_and_makes_a_volume(fabricated, files):
    stored = fabricated[1]
    network = load_pretrained(configured(), files[0] / "ema.pt").eval()
    given = [stored[f"unet.{name}"] for name in ("x", "time", "context")]
    conditions = {"depth": torch.tensor([0.2, 0.9]), "readings": torch.ones(2, 66)}
    torch.testing.assert_close(network.denoiser.unet(*given, **conditions), stored["unet.output"], **CLOSE)
    assert network.scale_factor.item() == pytest.approx(0.18215)
    assert network(torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_head_channels": [8, 8, 8, 8]}, "heads"),
        ({"transformer_norm_eps": None}, "epsilon"),
        ({"quick_gelu": False}, "activation"),
        ({"heads": 2}, "heads"),
        ({"cross_attention_dim": 16}, "shape"),
    ],
)
def test_what_would_load_without_a_word_and_give_other_numbers_is_refused(files, change, said):
    if "cross_attention_dim" in change:
        network = configured()
        unet = configured(**change).denoiser.unet
        network.denoiser.unet = unet
    else:
        network = configured(**change)
    before = network.denoiser.unet.state_dict()["conv_in.conv.weight"].clone()
    with pytest.raises(ValueError, match=said):
        load_pretrained(network, files[0] / "ema.pt")
    assert torch.equal(before, network.denoiser.unet.state_dict()["conv_in.conv.weight"])


def test_a_reference_that_disagrees_stops_the_import(fabricated, files, tmp_path):
    stored = dict(fabricated[1])
    del stored["unet.raw"]
    stored["autoencoder.decoded"] = stored["autoencoder.decoded"] + 1e-3
    save_file(
        {k: v.clone(memory_format=torch.contiguous_format) for k, v in stored.items()}, tmp_path / "r.safetensors"
    )
    with pytest.raises(ValueError, match=r"`autoencoder.decoded` differs from the reference by 0.001"):
        import_weights(
            files[0] / "z.ckpt",
            tmp_path / "out.pt",
            kind="zero123",
            reference=tmp_path / "r.safetensors",
            tower_heads=4,
        )
    assert not (tmp_path / "out.pt").exists()
