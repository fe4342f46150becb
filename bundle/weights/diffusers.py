"""Models of the library diffusers: their names become ldm's, from which they once were made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bundle.weights.checkpoint import Checkpoint
from bundle.weights.ldm import autoencoder_part, unet_part
from bundle.weights.open_clip import tower_part
from bundle.weights.parts import Imported, Part
from bundle.weights.zero123 import SCALE_FACTOR, projection_part

UNET_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
AUTOENCODER_BLOCK = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
}
"""The last four are those of releases before 0.15."""
CLIP_ENDS = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
CLIP_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
CLIP_LAYER |= {"self_attn.out_proj": "attn.out_proj"}
FOLDERS = ("unet", "vae", "image_encoder", "clip_camera_projection", "cc_projection")
FILES = ("diffusion_pytorch_model", "model", "pytorch_model")
POSITIONS = "vision_model.embeddings.position_ids"
"""0, 1, 2, ...: a buffer of older releases."""


def import_diffusers(source: str | Path, *, raw: bool, tower_heads: int | None = None) -> Imported:
    """UNet, autoencoder, image encoder and camera projection, as far as they are there.

    A UNet that does not see the film gets zero weights for its latent.

    Args:
        source: the file of one model, or the folder of a pipeline.
        raw: has no meaning here, there are no averages.
        tower_heads: of the image encoder; None means 64 channels each.

    Raises:
        ValueError: if a file is none of these models.
    """
    path = Path(source)
    parts: dict[str, Part] = {}
    dropped: dict[str, list[str]] = {}
    projection = None
    for file in _files(path) if path.is_dir() else [path]:
        checkpoint = Checkpoint(file)
        if "time_embedding.linear_1.weight" in checkpoint:
            blocks = 1 + max(int(n.split(".")[3]) for n in checkpoint if n.startswith("down_blocks.0.resnets."))
            state = {unet_name(name, blocks): tensor for name, tensor in checkpoint.items()}
            film = checkpoint.shape("conv_in.weight")[1] == checkpoint.shape("conv_out.weight")[0]
            parts["unet"] = unet_part(state, path=file, film_channels=film)
        elif "quant_conv.weight" in checkpoint:
            levels = 1 + max(int(n.split(".")[2]) for n in checkpoint if n.startswith("decoder.up_blocks."))
            state = {autoencoder_name(name, levels): tensor for name, tensor in checkpoint.items()}
            parts["autoencoder"] = autoencoder_part(state, path=file)
        elif "vision_model.embeddings.class_embedding" in checkpoint:
            dropped["position numbers"] = [name for name in checkpoint if name == POSITIONS]
            parts["tower"] = tower_part(_tower_state(checkpoint), path=file, prefix="", heads=tower_heads)
        elif len(checkpoint) == 2:
            projection = checkpoint
        else:
            raise ValueError(f"{file}: neither UNet, autoencoder (AutoencoderKL) nor CLIP image encoder of diffusers.")
    if projection is not None:
        if "tower" not in parts:
            raise ValueError(f"{path}: a camera projection without the image encoder that it belongs to.")
        state = {name.rpartition(".")[2]: tensor for name, tensor in projection.items()}
        width = parts["tower"].state["proj"].shape[1]
        parts["projection"] = projection_part(state, width, path=projection.path)
    return Imported(parts, dropped, SCALE_FACTOR if "autoencoder" in parts else None)


def unet_name(name: str, blocks: int) -> str:
    """The name in ldm of a UNet's key, given the residual blocks a level; an unknown name stays as it is."""
    for old, new in UNET_ENDS.items():
        if name.startswith(old + "."):
            return new + name[len(old) :]
    match = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name)
    if match:
        place = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{place}.{_replace(match[3], UNET_RESIDUAL if place != 1 else {})}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
    if match is None:
        return name
    path, level, kind, slot, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (blocks + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":  # at 1 or 2 in ldm, told by `.conv.` alone
        return f"output_blocks.{level * (blocks + 1) + blocks}.2.{rest}"
    number = level * (blocks + 1) + slot + (path == "down")
    place = int(kind == "attentions")
    return f"{'input' if path == 'down' else 'output'}_blocks.{number}.{place}." + _replace(
        rest, {} if place else UNET_RESIDUAL
    )


def autoencoder_name(name: str, levels: int) -> str:
    """The name in ldm of an autoencoder's key; an unknown name stays as it is."""
    name = name.replace(".conv_norm_out.", ".norm_out.")
    match = re.fullmatch(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name)
    if match:
        part = "attn" if match[2] == "attentions" else "block"
        return f"{match[1]}.mid.{part}_{int(match[3]) + 1}.{_replace(match[4], AUTOENCODER_BLOCK)}"
    match = re.fullmatch(r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(.+)", name)
    if match is None:
        return name
    level = int(match[2]) if match[1] == "encoder.down" else levels - 1 - int(match[2])
    rest = re.sub(r"^(down|up)samplers\.0\.", r"\1sample.", match[3]).replace("resnets.", "block.")
    return f"{match[1]}.{level}.{_replace(rest, AUTOENCODER_BLOCK)}"


def _tower_state(checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """open_clip's names: query, key and value are one matrix there, the last projection is transposed."""
    state: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        inner = name.removeprefix("vision_model.")
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", inner)
        if name == POSITIONS or (match and match[2].startswith(("self_attn.k_proj.", "self_attn.v_proj."))):
            continue
        if name == "visual_projection.weight":
            state["proj"] = tensor.T
        elif match and match[2].startswith("self_attn.q_proj."):
            kind = match[2].rpartition(".")[2]
            three = [f"vision_model.encoder.layers.{match[1]}.self_attn.{letter}_proj.{kind}" for letter in "qkv"]
            absent = [key for key in three if key not in checkpoint]
            if absent:
                raise ValueError(f"{checkpoint.path}: `{absent[0]}` is missing.")
            joined = torch.cat([checkpoint[key] for key in three])
            state[f"transformer.resblocks.{match[1]}.attn.in_proj_{kind}"] = joined
        elif match:
            state[f"transformer.resblocks.{match[1]}." + _replace(match[2], CLIP_LAYER)] = tensor
        else:
            state[CLIP_ENDS.get(inner, name)] = tensor
    return state


def _files(folder: Path) -> list[Path]:
    """The weights file of each model of a pipeline: safetensors where there is one."""
    found = []
    for name in FOLDERS:
        options = [folder / name / f"{stem}.{end}" for end in ("safetensors", "bin") for stem in FILES]
        found += [option for option in options if option.is_file()][:1]
    if not found:
        raise ValueError(f"{folder}: no pipeline of diffusers; none of {', '.join(FOLDERS)} holds weights.")
    return found


def _replace(rest: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        changed, count = re.subn(rf"(^|\.){re.escape(old)}\.", rf"\g<1>{new}.", rest)
        if count:
            return changed
    return rest
