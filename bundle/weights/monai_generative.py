"""Networks of monai-generative, the archived package whose classes went into MONAI core under other names."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from bundle.weights.checkpoint import Checkpoint
from bundle.weights.parts import Imported, Part, fill

GROUPS = 32
"""Its default of `norm_num_groups`."""


def import_monai_generative(
    checkpoint: Checkpoint,
    *,
    raw: bool,
    groups: int = GROUPS,
    head_channels: int | list[int] = 8,
    tower_heads: int | None = None,
) -> Imported:
    """A conditioned DiffusionModelUNet or an AutoencoderKL of monai-generative 0.2.

    Its autoencoder's attention had an output layer, `proj_attn`, that its forward pass never used: it is dropped,
    and MONAI's class built with `include_fc=False`. The UNet's transformers did use theirs.

    Args:
        checkpoint: the state dictionary of one network.
        raw: has no meaning here, there are no averages.
        groups: `norm_num_groups` of the network, which the weights do not show.
        head_channels: `num_head_channels` of the UNet, likewise.
        tower_heads: has no meaning here.

    Raises:
        ValueError: if it is neither, is not two-dimensional, or does not fit.
    """
    path = checkpoint.path
    if "quant_conv_mu.conv.weight" in checkpoint:
        unused = [name for name in checkpoint if ".proj_attn." in name]
        return Imported({"autoencoder": _autoencoder(checkpoint, groups)}, {"never used by its own network": unused})
    if "conv_in.conv.weight" in checkpoint and "time_embed.0.weight" in checkpoint:
        return Imported({"unet": _unet(checkpoint, groups, head_channels)})
    raise ValueError(f"{path}: neither a DiffusionModelUNet nor an AutoencoderKL of monai-generative.")


def _autoencoder(checkpoint: Checkpoint, groups: int) -> Part:
    _check_flat(checkpoint, "encoder.blocks.0.conv.weight")
    levels, nonlocal_encoder = _levels(checkpoint, "encoder")
    _, nonlocal_decoder = _levels(checkpoint, "decoder")
    last = 1 + max(int(name.split(".")[2]) for name in checkpoint if name.startswith("decoder.blocks."))
    settings: dict[str, Any] = {
        "spatial_dims": 2,
        "in_channels": checkpoint.shape("encoder.blocks.0.conv.weight")[1],
        "out_channels": checkpoint.shape(f"decoder.blocks.{last - 1}.conv.weight")[0],
        "num_res_blocks": [level["blocks"] for level in levels],
        "channels": [level["channels"] for level in levels],
        "attention_levels": [level["attention"] for level in levels],
        "latent_channels": checkpoint.shape("quant_conv_mu.conv.weight")[0],
        "norm_num_groups": groups,
        "with_encoder_nonlocal_attn": nonlocal_encoder,
        "with_decoder_nonlocal_attn": nonlocal_decoder,
        "include_fc": False,
        "use_combined_linear": False,
    }

    def rename(name: str) -> str:
        name = re.sub(r"(blocks\.\d+)\.(to_[qkv])\.", r"\1.attn.\2.", name)
        # an encoder's `conv.conv` lowers the resolution and keeps its name
        return re.sub(r"^(decoder\.blocks\.\d+)\.conv\.conv\.", r"\1.postconv.conv.", name)

    found = ((name, rename(name), checkpoint[name]) for name in checkpoint if ".proj_attn." not in name)
    return fill("autoencoder", settings, found, path=checkpoint.path)


def _levels(checkpoint: Checkpoint, half: str) -> tuple[list[dict[str, Any]], bool]:
    """Residual blocks, width and attention of each level, read off the flat list of blocks; and the middle's attention.

    A level with attention ends in it, one without has none: a residual block after attention at the end of the list
    is the middle's.
    """
    kinds: dict[int, str] = {}
    for name in checkpoint:
        match = re.fullmatch(rf"{half}\.blocks\.(\d+)\.(.+)", name)
        if match:
            number, inner = int(match[1]), match[2]
            if inner.startswith("conv1."):
                kinds[number] = "residual"
            elif inner.startswith("to_q."):
                kinds[number] = "attention"
            elif inner.startswith("conv.conv."):
                kinds[number] = "resample"
    order = [(number, kinds[number]) for number in sorted(kinds)]
    if half == "decoder":
        return [], [kind for _, kind in order[:3]] == ["residual", "attention", "residual"] and _is_middle(order)
    middle = len(order) > 1 and order[-1][1] == "residual" and order[-2][1] == "attention"
    levels = []
    for resampling, group in groupby(order[:-3] if middle else order, key=lambda item: item[1] == "resample"):
        if not resampling:
            members = list(group)
            residual = [number for number, kind in members if kind == "residual"]
            levels.append(
                {
                    "blocks": len(residual),
                    "channels": checkpoint.shape(f"{half}.blocks.{residual[0]}.conv1.conv.weight")[0],
                    "attention": any(kind == "attention" for _, kind in members),
                }
            )
    return levels, middle


def _is_middle(order: list[tuple[int, str]]) -> bool:
    """Whether the decoder's first three blocks are the middle: a level that begins so would go on with attention."""
    return len(order) < 4 or order[3][1] != "attention"


def _unet(checkpoint: Checkpoint, groups: int, head_channels: int | list[int]) -> Part:
    _check_flat(checkpoint, "conv_in.conv.weight")
    path = checkpoint.path
    cross = [name for name in checkpoint if name.endswith("attn2.to_k.weight")]
    if not cross:
        raise ValueError(f"{path}: the UNet takes no context; only conditioned ones can be imported.")
    levels = 1 + max(int(name.split(".")[1]) for name in checkpoint if name.startswith("down_blocks."))
    below = [[name for name in checkpoint if name.startswith(f"down_blocks.{level}.")] for level in range(levels)]
    blocks = [1 + max(int(n.split(".")[3]) for n in names if ".resnets." in n) for names in below]
    layers = {int(name.partition("transformer_blocks.")[2].split(".")[0]) for name in cross}
    heads = head_channels if isinstance(head_channels, list) else [head_channels] * levels
    settings: dict[str, Any] = {
        "spatial_dims": 2,
        "in_channels": checkpoint.shape("conv_in.conv.weight")[1],
        "out_channels": checkpoint.shape("out.2.conv.weight")[0],
        "num_res_blocks": blocks,
        "channels": [checkpoint.shape(f"down_blocks.{i}.resnets.0.conv1.conv.weight")[0] for i in range(levels)],
        "attention_levels": [any(".attentions." in name for name in names) for names in below],
        "norm_num_groups": groups,
        "num_head_channels": heads,
        "resblock_updown": any(".downsampler.conv1." in name for name in checkpoint),
        "with_conditioning": True,
        "transformer_num_layers": 1 + max(layers),
        "cross_attention_dim": checkpoint.shape(cross[0])[1],
        "include_fc": True,
        "use_combined_linear": False,
        "use_flash_attention": True,
    }

    def rename(name: str) -> str:
        if ".transformer_blocks." in name:
            return name.replace(".to_out.0.", ".out_proj.")
        return name.replace(".upsampler.conv.conv.", ".upsampler.postconv.conv.")

    found = ((name, rename(name), checkpoint[name]) for name in checkpoint)
    return fill("unet", settings, found, path=path)


def _check_flat(checkpoint: Checkpoint, first: str) -> None:
    if first not in checkpoint:
        raise ValueError(f"{checkpoint.path}: `{first}` is missing.")
    if len(checkpoint.shape(first)) != 4:
        raise ValueError(f"{checkpoint.path}: the network is not two-dimensional.")
