"""Imports from Stable Diffusion, diffusers, monai-generative and CLIP, against forward passes of their own."""

import fabricate_ldm as ldm
import pytest
import torch
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from safetensors.torch import save_file

from bundle.weights import import_weights, load_parts

CLOSE = {"atol": 2e-5, "rtol": 0}


def imported(tmp_path, state, kind, *, name="c.safetensors", **options):
    save_file(
        {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}, tmp_path / name
    )
    lines = import_weights(tmp_path / name, tmp_path / "o.pt", kind=kind, **options)
    return load_parts(tmp_path / "o.pt"), "\n".join(lines)


@torch.no_grad()
def test_stable_diffusions_unet_ignores_the_films_latent_at_first(tmp_path):
    state, stored = ldm.zero123(channels=4)
    state = {k: v for k, v in state.items() if not k.startswith(("cc_projection", "cond_stage_model"))}
    state["cond_stage_model.transformer.text_model.final_layer_norm.weight"] = torch.ones(3)
    parts, lines = imported(tmp_path, state, "stable-diffusion")
    assert set(parts) == {"unet", "autoencoder"}
    assert "text encoder" in lines
    film = torch.randn(2, 4, 16, 16)
    result = parts["unet"](torch.cat([stored["unet.x"], film], 1), stored["unet.time"], stored["unet.context"])
    torch.testing.assert_close(result, stored["unet.output"], **CLOSE)


def diffusers_unet(state):
    """Diffusers' names of an ldm UNet with 4 levels of 2 blocks, written out level by level."""
    residual = [("in_layers.0", "norm1"), ("in_layers.2", "conv1"), ("emb_layers.1", "time_emb_proj")]
    residual += [("out_layers.0", "norm2"), ("out_layers.3", "conv2"), ("skip_connection", "conv_shortcut")]
    prefixes = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}
    prefixes |= {"input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out"}
    prefixes |= {"middle_block.1": "mid_block.attentions.0"}
    blocks = {"middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1"}
    for level, (first, up) in enumerate(zip((1, 4, 7, 10), (0, 3, 6, 9), strict=True)):
        for slot in range(2):
            blocks[f"input_blocks.{first + slot}.0"] = f"down_blocks.{level}.resnets.{slot}"
            prefixes[f"input_blocks.{first + slot}.1"] = f"down_blocks.{level}.attentions.{slot}"
        prefixes[f"input_blocks.{first + 2}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
        for slot in range(3):
            blocks[f"output_blocks.{up + slot}.0"] = f"up_blocks.{level}.resnets.{slot}"
            if level:
                prefixes[f"output_blocks.{up + slot}.1"] = f"up_blocks.{level}.attentions.{slot}"
    prefixes |= {"output_blocks.2.1": "up_blocks.0.upsamplers.0"}
    prefixes |= {f"output_blocks.{3 * level + 2}.2": f"up_blocks.{level}.upsamplers.0" for level in (1, 2)}
    prefixes |= {f"{old}.{a}": f"{new}.{b}" for old, new in blocks.items() for a, b in residual}
    return renamed(state, prefixes)


def diffusers_autoencoder(state):
    """The same of an ldm autoencoder with 2 levels: its decoder counts from the latent up."""
    prefixes = {name: name for name in ("quant_conv", "post_quant_conv")}
    inner = [(name, name) for name in ("norm1", "norm2", "conv1", "conv2")] + [("nin_shortcut", "conv_shortcut")]
    old_attention = ("norm", "q", "k", "v", "proj_out")
    new_attention = ("group_norm", "to_q", "to_k", "to_v", "to_out.0")
    for half in ("encoder", "decoder"):
        prefixes |= {f"{half}.{name}": f"{half}.{name}" for name in ("conv_in", "conv_out")}
        prefixes[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        for old, new in zip(old_attention, new_attention, strict=True):
            prefixes[f"{half}.mid.attn_1.{old}"] = f"{half}.mid_block.attentions.0.{new}"
        for a, b in inner:
            for number in (0, 1):
                prefixes[f"{half}.mid.block_{number + 1}.{a}"] = f"{half}.mid_block.resnets.{number}.{b}"
            for slot in range(3):
                prefixes |= {
                    f"encoder.down.{i}.block.{slot}.{a}": f"encoder.down_blocks.{i}.resnets.{slot}.{b}" for i in (0, 1)
                }
                prefixes |= {
                    f"decoder.up.{1 - i}.block.{slot}.{a}": f"decoder.up_blocks.{i}.resnets.{slot}.{b}" for i in (0, 1)
                }
    prefixes["encoder.down.0.downsample.conv"] = "encoder.down_blocks.0.downsamplers.0.conv"
    prefixes["decoder.up.1.upsample.conv"] = "decoder.up_blocks.0.upsamplers.0.conv"
    made = renamed(state, prefixes)
    # newer releases store these 1x1 convolutions as matrices
    return {k: v.flatten(1) if ".attentions.0.to_" in k and v.ndim == 4 else v for k, v in made.items()}


def diffusers_tower(state):
    prefixes = {"ln_pre": "vision_model.pre_layrnorm", "ln_post": "vision_model.post_layernorm"}
    prefixes["conv1"] = "vision_model.embeddings.patch_embedding"
    for layer in (0, 1):
        new = f"vision_model.encoder.layers.{layer}"
        inner = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
        inner["attn.out_proj"] = "self_attn.out_proj"
        prefixes |= {f"transformer.resblocks.{layer}.{a}": f"{new}.{b}" for a, b in inner.items()}
    rest = {k: v for k, v in state.items() if "in_proj" not in k and "." in k}
    made = renamed(rest, prefixes)
    for layer in (0, 1):
        for kind in ("weight", "bias"):
            parts = state[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"].chunk(3)
            for letter, part in zip("qkv", parts, strict=True):
                made[f"vision_model.encoder.layers.{layer}.self_attn.{letter}_proj.{kind}"] = part
    made["vision_model.embeddings.class_embedding"] = state["class_embedding"]
    made["vision_model.embeddings.position_embedding.weight"] = state["positional_embedding"]
    made["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    made["visual_projection.weight"] = state["proj"].T
    return made


def renamed(state, prefixes):
    made = {}
    for name, tensor in state.items():
        old = max((old for old in prefixes if name.startswith(old + ".")), key=len)
        made[prefixes[old] + name[len(old) :]] = tensor
    return made


@torch.no_grad()
def test_a_pipeline_of_diffusers_agrees_part_by_part(tmp_path):
    state, stored = ldm.zero123()

    def below(prefix):
        return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}

    folders = {
        "unet": diffusers_unet(below("model.diffusion_model.")),
        "vae": diffusers_autoencoder(below("first_stage_model.")),
        "image_encoder": diffusers_tower(below("cond_stage_model.model.visual.")),
        "clip_camera_projection": {f"proj.{k}": v for k, v in below("cc_projection.").items()},
    }
    for folder, tensors in folders.items():
        (tmp_path / "p" / folder).mkdir(parents=True)
        file = "model" if folder == "image_encoder" else "diffusion_pytorch_model"
        save_file(
            {k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()},
            tmp_path / "p" / folder / f"{file}.safetensors",
        )
    import_weights(tmp_path / "p", tmp_path / "o.pt", kind="diffusers", tower_heads=4)
    parts = load_parts(tmp_path / "o.pt")
    given = [stored[f"unet.{name}"] for name in ("x", "time", "context")]
    torch.testing.assert_close(parts["unet"](*given), stored["unet.raw"], **CLOSE)
    torch.testing.assert_close(
        parts["autoencoder"].encode(stored["autoencoder.image"])[0], stored["autoencoder.mean"], **CLOSE
    )
    torch.testing.assert_close(
        parts["autoencoder"].decode(stored["autoencoder.latent"]), stored["autoencoder.decoded"], **CLOSE
    )
    torch.testing.assert_close(parts["tower"](stored["tower.image"]), stored["tower.embedding"], **CLOSE)
    torch.testing.assert_close(
        parts["projection"](stored["projection.embedding"]), stored["projection.context"], **CLOSE
    )


@torch.no_grad()
def test_an_open_clip_checkpoint_gives_the_tower(tmp_path):
    state, stored = ldm.zero123()
    visual = {k.removeprefix("cond_stage_model.model."): v for k, v in state.items() if ".visual." in k}
    text = {"logit_scale": torch.tensor(1.0), "token_embedding.weight": torch.ones(3, 3)}
    parts, lines = imported(tmp_path, {**visual, **text}, "open-clip", tower_heads=4)
    assert "logit_scale" in lines
    torch.testing.assert_close(parts["tower"](stored["tower.image"]), stored["tower.embedding"], **CLOSE)


def old_names(network, *, autoencoder):
    """The state of a MONAI network under monai-generative's names, with the layer that its autoencoder never used."""
    made = {}
    for name, tensor in network.state_dict().items():
        old = name.replace("postconv.", "conv.").replace(".out_proj.", ".to_out.0.")
        if autoencoder:
            old = old.replace(".attn.to_", ".to_")
            if old.endswith(".to_q.weight"):
                made[old.replace("to_q.weight", "proj_attn.weight")] = torch.randn_like(tensor)
                made[old.replace("to_q.weight", "proj_attn.bias")] = torch.randn(len(tensor))
        made[old] = tensor
    return made


def shaken(network):
    """Every parameter random: zero layers would hide differences."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return network.eval()


@pytest.mark.parametrize("attention", [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("middle", [True, False])
@torch.no_grad()
def test_an_autoencoder_of_monai_generative_agrees(tmp_path, attention, middle):
    """Its settings are found again from the flat list of blocks; MONAI's own loader gives the reference."""
    settings = {"spatial_dims": 2, "channels": (16, 32), "num_res_blocks": (1, 2), "attention_levels": attention}
    settings |= {"norm_num_groups": 8, "latent_channels": 3, "include_fc": False, "use_combined_linear": False}
    settings |= {"with_encoder_nonlocal_attn": middle, "with_decoder_nonlocal_attn": middle}
    torch.manual_seed(0)
    theirs = shaken(AutoencoderKL(**settings))
    old = old_names(theirs, autoencoder=True)
    reference = shaken(AutoencoderKL(**settings))
    reference.load_old_state_dict(dict(old))
    parts, lines = imported(tmp_path, old, "monai-generative", groups=8)
    image = torch.randn(1, 1, 16, 16)
    for ours, expected in zip(parts["autoencoder"](image)[1:], reference(image)[1:], strict=True):
        torch.testing.assert_close(ours, expected, **CLOSE)
    latent = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(parts["autoencoder"].decode(latent), reference.decode(latent), **CLOSE)
    assert ("proj_attn" in lines) == (middle or any(attention))


@pytest.mark.parametrize("updown", [False, True])
@torch.no_grad()
def test_a_unet_of_monai_generative_agrees(tmp_path, updown):
    settings = {"spatial_dims": 2, "in_channels": 8, "out_channels": 4, "num_res_blocks": (1, 2), "channels": (16, 32)}
    settings |= {"attention_levels": (False, True), "norm_num_groups": 8, "num_head_channels": 16}
    settings |= {"with_conditioning": True, "cross_attention_dim": 12, "resblock_updown": updown}
    settings |= {"include_fc": True, "use_combined_linear": False}
    torch.manual_seed(0)
    theirs = shaken(DiffusionModelUNet(**settings))
    old = old_names(theirs, autoencoder=False)
    reference = shaken(DiffusionModelUNet(**settings))
    reference.load_old_state_dict(dict(old))
    parts, _ = imported(tmp_path, old, "monai-generative", groups=8, head_channels=16)
    given = torch.randn(2, 8, 8, 8), torch.tensor([3.0, 700.0]), torch.randn(2, 1, 12)
    torch.testing.assert_close(parts["unet"](*given), reference(*given), **CLOSE)


def test_a_unet_of_monai_generative_without_context_is_refused(tmp_path):
    network = DiffusionModelUNet(
        2,
        4,
        4,
        num_res_blocks=1,
        channels=(16, 16),
        attention_levels=(False, True),
        norm_num_groups=8,
        num_head_channels=8,
    )
    with pytest.raises(ValueError, match="takes no context"):
        imported(tmp_path, old_names(network, autoencoder=False), "monai-generative", groups=8)
