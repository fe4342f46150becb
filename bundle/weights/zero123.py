"""Checkpoints of Zero-1-to-3 and of Stable Diffusion: one Lightning module, its parts told by prefix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bundle.weights.checkpoint import Checkpoint
from bundle.weights.ldm import autoencoder_part, unet_part
from bundle.weights.open_clip import tower_part
from bundle.weights.parts import Imported, Part, fill

SCALE_FACTOR = 0.18215
"""Factor on latents: a number of ldm's configuration, not a key."""
UNET, AUTOENCODER, CONDITION, AVERAGE = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.",
    "model_ema.",
)
VISUAL = "cond_stage_model.model.visual."
PROJECTION = "cc_projection."
TEXT = {
    *(f"cond_stage_model.model.{name}" for name in ("positional_embedding", "text_projection", "logit_scale")),
    *(f"cond_stage_model.model.{name}" for name in ("token_embedding.weight", "ln_final.weight", "ln_final.bias")),
}
"""What Zero-1-to-3 left of CLIP's text tower."""
SCHEDULE = {
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
    *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "logvar"),
    *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("lvlb_weights", "scale_factor"),
}
BOOKKEEPING = ("model_ema.decay", "model_ema.num_updates")


def import_zero123(checkpoint: Checkpoint, *, raw: bool, tower_heads: int | None = None) -> Imported:
    """All four parts of a Zero-1-to-3 checkpoint.

    The pose columns of `cc_projection` see the pose of "the same view" for good: sine 0, cosine 1, the rest 0. The
    cosine's column joins the bias, the others fall away.

    Args:
        checkpoint: the opened file.
        raw: take the weights themselves, not their moving averages.
        tower_heads: heads of the image tower; None is its width over 64.

    Source:
        Liu et al., "Zero-1-to-3", ICCV 2023, section 3.2.
    """
    path, dropped = checkpoint.path, _dropped(checkpoint, raw=raw)
    dropped["CLIP's text tower"] = [name for name in checkpoint if name in TEXT]
    _all_known(checkpoint, (UNET, AUTOENCODER, VISUAL, PROJECTION), dropped)
    parts = {
        "unet": unet_part(_unet_state(checkpoint, raw=raw), path=path, prefix=UNET),
        "autoencoder": autoencoder_part(_below(checkpoint, AUTOENCODER), path=path, prefix=AUTOENCODER),
        "tower": tower_part(_below(checkpoint, VISUAL), path=path, prefix=VISUAL, heads=tower_heads),
    }
    width = parts["tower"].state["proj"].shape[1]
    parts["projection"] = projection_part(_below(checkpoint, PROJECTION), width, path=path)
    return Imported(parts, dropped, _scale(checkpoint))


def import_stable_diffusion(checkpoint: Checkpoint, *, raw: bool, tower_heads: int | None = None) -> Imported:
    """UNet and autoencoder of a Stable Diffusion 1 checkpoint; the UNet gets zero weights for the film's latent.

    Args:
        checkpoint: the opened file.
        raw: take the weights themselves, not their moving averages.
        tower_heads: of an image tower, which such a checkpoint does not have; not used.
    """
    path, dropped = checkpoint.path, _dropped(checkpoint, raw=raw)
    dropped["text encoder"] = [name for name in checkpoint if name.startswith(CONDITION)]
    _all_known(checkpoint, (UNET, AUTOENCODER), dropped)
    unet = _unet_state(checkpoint, raw=raw)
    plain = "input_blocks.0.0.weight" in unet and "out.2.weight" in unet
    film = plain and unet["input_blocks.0.0.weight"].shape[1] == unet["out.2.weight"].shape[0]
    parts = {
        "unet": unet_part(unet, path=path, prefix=UNET, film_channels=film),
        "autoencoder": autoencoder_part(_below(checkpoint, AUTOENCODER), path=path, prefix=AUTOENCODER),
    }
    return Imported(parts, dropped, _scale(checkpoint))


def _unet_state(checkpoint: Checkpoint, *, raw: bool) -> Mapping[str, Tensor]:
    """The UNet's raw weights, or their averages, whose names have lost their dots.

    The names are mapped forward from the raw ones: `1.10` and `11.0` lose their dots to the same digits.
    """
    names = [name for name in checkpoint if name.startswith(UNET)]
    if raw:
        return {name[len(UNET) :]: checkpoint[name] for name in names}
    flat = {AVERAGE + name.removeprefix("model.").replace(".", ""): name for name in names}
    if len(flat) != len(names):
        raise ValueError(f"{checkpoint.path}: two of the UNet's names are the same without dots; use --raw.")
    averages = {name for name in checkpoint if name.startswith(AVERAGE)} - set(BOOKKEEPING)
    if not averages:
        raise ValueError(f"{checkpoint.path}: holds no averaged weights (`{AVERAGE}...`); import its own with --raw.")
    for name in averages - set(flat):
        raise ValueError(f"{checkpoint.path}: `{name}` is the average of no weight of the UNet.")
    for average, name in flat.items():
        if average not in averages:
            raise ValueError(f"{checkpoint.path}: `{average}`, the average of `{name}`, is missing; use --raw.")
    return {name[len(UNET) :]: checkpoint[average] for average, name in flat.items()}


def _dropped(checkpoint: Checkpoint, *, raw: bool) -> dict[str, list[str]]:
    kept_prefix, reason = (
        (UNET, "averaged, the raw ones are taken") if raw else (AVERAGE, "raw, the averages are taken")
    )
    other = AVERAGE if kept_prefix == UNET else UNET
    return {
        "noise schedule": [name for name in checkpoint if name in SCHEDULE],
        "count of the averages": [name for name in checkpoint if name in BOOKKEEPING],
        reason: [name for name in checkpoint if name.startswith(other) and name not in BOOKKEEPING],
    }


def _all_known(checkpoint: Checkpoint, prefixes: tuple[str, ...], dropped: Mapping[str, list[str]]) -> None:
    known = {name for names in dropped.values() for name in names}
    for name in checkpoint:
        if name not in known and not name.startswith((*prefixes, AVERAGE)):
            raise ValueError(f"{checkpoint.path}: `{name}` is not a key of this kind of checkpoint.")


def _below(checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: checkpoint[name] for name in checkpoint if name.startswith(prefix)}


def projection_part(state: Mapping[str, Tensor], width: int, *, path: Path) -> Part:
    """`cc_projection` at the pose of "the same view": its columns for the embedding, the pose in the bias.

    Args:
        state: `weight` (C, width + 4) and `bias`.
        width: of the tower's embedding.
        path: file that errors name.
    """
    weight, bias = state.get("weight"), state.get("bias")
    if weight is None or bias is None or weight.ndim != 2 or weight.shape[1] != width + 4:
        shape = None if weight is None else tuple(weight.shape)
        raise ValueError(
            f"{path}: `{PROJECTION}weight` must have {width} + 4 columns, and a bias; its shape is {shape}."
        )
    weight, bias = weight.float(), bias.float()
    # columns of the pose: polar angle, sine and cosine of the azimuth, radius
    rest = {name: tensor for name, tensor in state.items() if name not in ("weight", "bias")}
    folded = {"weight": weight[:, :width], "bias": bias + weight[:, width + 2], **rest}
    found = ((PROJECTION + name, name, tensor) for name, tensor in folded.items())
    return fill("projection", {"inputs": width, "outputs": weight.shape[0]}, found, path=path)


def _scale(checkpoint: Checkpoint) -> float:
    return float(checkpoint["scale_factor"]) if "scale_factor" in checkpoint else SCALE_FACTOR
