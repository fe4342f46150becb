"""Names and shapes of latent diffusion's UNet and autoencoder ("ldm"), on which Zero-1-to-3 and others are built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bundle.weights.parts import Part, fill

HEADS = 8
"""ldm fixes the number of heads, MONAI their width."""
GROUPS = 32

UNET_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1.conv",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2.conv",
    "skip_connection": "skip_connection.conv",
}
UNET_ATTENTION = {
    "proj_in": "proj_in.conv",
    "proj_out": "proj_out.conv",
    "to_out.0": "out_proj",
    "ff.net.0.proj": "ff.linear1",
    "ff.net.2": "ff.linear2",
}
AUTOENCODER_BLOCK = {
    "conv1": "conv1.conv",
    "conv2": "conv2.conv",
    "nin_shortcut": "nin_shortcut.conv",
    "q": "attn.to_q",
    "k": "attn.to_k",
    "v": "attn.to_v",
    "proj_out": "attn.out_proj",
}


def unet_part(state: Mapping[str, Tensor], *, path: Path, prefix: str = "", film_channels: bool = False) -> Part:
    """A UNet's weights under our names; its sizes are read off the shapes.

    Args:
        state: ldm's names, without `model.diffusion_model.`.
        path: file that errors name.
        prefix: what the names have lost, for errors.
        film_channels: add input channels for the film's latent, with zero weights: the checkpoint's UNet does not
            see a second image.
    """
    state = dict(state)
    first = _need(state, "input_blocks.0.0.weight", path, prefix)
    if film_channels:
        first = state["input_blocks.0.0.weight"] = torch.cat([first, torch.zeros_like(first)], dim=1)
    count = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("input_blocks."))
    lowered = [i for i in range(count) if f"input_blocks.{i}.0.op.weight" in state]
    blocks = (lowered[0] if lowered else count) - 1
    levels = len(lowered) + 1
    starts = [1 + level * (blocks + 1) for level in range(levels)]
    channels = [_need(state, f"input_blocks.{start}.0.out_layers.3.weight", path, prefix).shape[0] for start in starts]
    transformers = [int(key.split(".")[3]) for key in state if key.startswith("middle_block.1.transformer_blocks.")]
    settings: dict[str, Any] = {
        "spatial_dims": 2,
        "in_channels": first.shape[1],
        "out_channels": _need(state, "out.2.weight", path, prefix).shape[0],
        "channels": channels,
        "num_res_blocks": [blocks] * levels,
        "attention_levels": [f"input_blocks.{start}.1.norm.weight" in state for start in starts],
        "num_head_channels": [width // HEADS for width in channels],
        "norm_num_groups": GROUPS,
        "norm_eps": 1e-5,
        "transformer_norm_eps": 1e-6,
        "transformer_num_layers": 1 + max(transformers, default=0),
        "with_conditioning": True,
        "cross_attention_dim": _need(
            state, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", path, prefix
        ).shape[1],
        "use_flash_attention": True,
    }
    found = ((name, unet_name(name, blocks), tensor) for name, tensor in state.items())
    return fill("unet", settings, found, path=path, prefix=prefix)


def unet_name(name: str, blocks: int) -> str:
    """Our name of ldm's, given the residual blocks a level; an unknown name stays as it is."""
    head, _, rest = name.partition(".")
    if head == "out":
        return name.replace("out.2.", "out.2.conv.")
    if head == "middle_block":
        which, _, rest = rest.partition(".")
        return f"middle_block.{('resnet_1', 'attention', 'resnet_2')[int(which)]}." + _inner(rest)
    if name.startswith("input_blocks.0.0."):
        return name.replace("input_blocks.0.0.", "conv_in.conv.")
    match = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)", name)
    if match is None:
        return name
    path, number, place, rest = match[1], int(match[2]), int(match[3]), match[4]
    level, slot = divmod(number - (path == "input"), blocks + 1)
    block = f"{'down' if path == 'input' else 'up'}_blocks.{level}"
    if path == "input" and rest.startswith("op."):
        return f"{block}.downsampler.op.conv.{rest[3:]}"
    if path == "output" and rest.startswith("conv."):
        return f"{block}.upsampler.postconv.conv.{rest[5:]}"
    return f"{block}.{'attentions' if place else 'resnets'}.{slot}." + _inner(rest)


def autoencoder_part(state: Mapping[str, Tensor], *, path: Path, prefix: str = "") -> Part:
    """An autoencoder's weights under our names; its sizes are read off the shapes.

    Args:
        state: ldm's names, without `first_stage_model.`.
        path: file that errors name.
        prefix: what the names have lost, for errors.
    """
    levels = 1 + max((int(name.split(".")[2]) for name in state if name.startswith("encoder.down.")), default=-1)
    if not levels:
        raise ValueError(f"{path}: the autoencoder lacks `{prefix}encoder.down.0...`; a key is missing or renamed.")
    blocks = 1 + max(int(name.split(".")[4]) for name in state if name.startswith("encoder.down.0.block."))
    lasts = [f"encoder.down.{level}.block.0.conv1.weight" for level in range(levels)]
    moments = _need(state, "quant_conv.weight", path, prefix)
    settings = {
        "channels": [_need(state, last, path, prefix).shape[0] for last in lasts],
        "num_res_blocks": blocks,
        "in_channels": _need(state, "encoder.conv_in.weight", path, prefix).shape[1],
        "out_channels": _need(state, "decoder.conv_out.weight", path, prefix).shape[0],
        "latent_channels": moments.shape[0] // 2,
        "norm_num_groups": GROUPS,
    }
    return fill("autoencoder", settings, _autoencoder_tensors(state, levels, blocks), path=path, prefix=prefix)


def _autoencoder_tensors(state: Mapping[str, Tensor], levels: int, blocks: int) -> Iterator[tuple[str, str, Tensor]]:
    for name, tensor in state.items():
        kind = name.rpartition(".")[2]
        if name.startswith("quant_conv."):
            mean, log_variance = tensor.chunk(2)
            yield name, f"quant_conv_mu.conv.{kind}", mean
            yield name, f"quant_conv_log_sigma.conv.{kind}", log_variance
        elif name.startswith("post_quant_conv."):
            yield name, f"post_quant_conv.conv.{kind}", tensor
        else:
            ours = autoencoder_name(name, levels, blocks)
            yield name, ours, tensor.flatten(1) if ".attn." in ours and kind == "weight" else tensor


def autoencoder_name(name: str, levels: int, blocks: int) -> str:
    """Our name of ldm's: MONAI numbers the blocks of a half from its input on; unknown names stay as they are.

    Args:
        name: of an autoencoder's parameter in ldm.
        levels: resolutions of the autoencoder.
        blocks: residual blocks of a level of its encoder.
    """
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    encoding = half == "encoder"
    # ldm counts a decoder's levels from the image down, MONAI from the latent up
    per_level = blocks + 1 if encoding else blocks + 2
    body = 1 if encoding else 4
    middle = body + levels * per_level - 1 if encoding else 1
    norm = middle + 3 if encoding else body + levels * per_level - 1

    def block(number: int, inner: str) -> str:
        return f"{half}.blocks.{number}.{inner}"

    match = re.fullmatch(r"(?:down|up)\.(\d+)\.(.+)", rest)
    if match:
        level, inner = int(match[1]), match[2]
        start = body + (level if encoding else levels - 1 - level) * per_level
        residual = re.fullmatch(r"block\.(\d+)\.(.+)", inner)
        if residual:
            return block(start + int(residual[1]), _replace(residual[2], AUTOENCODER_BLOCK))
        if inner.startswith(("downsample.conv.", "upsample.conv.")):
            kind = inner.rpartition(".")[2]
            return block(start + per_level - 1, f"{'conv' if encoding else 'postconv'}.conv.{kind}")
        return name
    part, _, inner = rest.partition(".")
    if part == "mid":
        part, _, inner = inner.partition(".")
        places = {"block_1": 0, "attn_1": 1, "block_2": 2}
        return block(middle + places[part], _replace(inner, AUTOENCODER_BLOCK)) if part in places else name
    if part == "norm_out":
        return block(norm, inner)
    if part in ("conv_in", "conv_out"):
        return block(0 if part == "conv_in" else norm + 2, f"conv.{inner}")
    return name


def _inner(rest: str) -> str:
    table = UNET_RESIDUAL if rest.startswith(tuple(UNET_RESIDUAL)) else UNET_ATTENTION
    return _replace(rest, table)


def _replace(name: str, table: Mapping[str, str]) -> str:
    """`name` with the first entry of `table` replaced that stands in it as whole words."""
    for old, new in table.items():
        changed, count = re.subn(rf"(^|\.){re.escape(old)}\.", rf"\g<1>{new}.", name)
        if count:
            return changed
    return name


def _need(state: Mapping[str, Tensor], name: str, path: Path, prefix: str = "") -> Tensor:
    if name not in state:
        raise ValueError(f"{path}: `{prefix}{name}` is missing; the file is of another kind, or the key was renamed.")
    return state[name]
