"""Image towers of CLIP: open_clip's names are OpenAI's, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bundle.weights.checkpoint import Checkpoint
from bundle.weights.parts import Imported, Part, fill

HEAD_WIDTH = 64
"""Of every CLIP tower that was published; the number of heads leaves no trace in the weights."""
VISUAL = "visual."
TEXT = ("positional_embedding", "text_projection", "logit_scale", "logit_bias", "attn_mask")
TEXT_PREFIXES = ("transformer.", "token_embedding.", "ln_final.", "text.")


def tower_part(state: Mapping[str, Tensor], *, path: Path, prefix: str = VISUAL, heads: int | None = None) -> Part:
    """A tower's weights; its sizes are read off the shapes.

    Args:
        state: open_clip's names, without `prefix`.
        path: file that errors name.
        prefix: of the names in the file.
        heads: of attention; None means 64 channels each.
    """
    for name in ("conv1.weight", "positional_embedding", "proj", "transformer.resblocks.0.mlp.c_fc.weight"):
        if name not in state:
            raise ValueError(f"{path}: `{prefix}{name}` is missing; the file is of another kind, or it was renamed.")
    width, _, patch, _ = state["conv1.weight"].shape
    layers = {name.split(".")[2] for name in state if name.startswith("transformer.resblocks.")}
    settings = {
        "image_size": patch * round((state["positional_embedding"].shape[0] - 1) ** 0.5),
        "patch_size": patch,
        "width": width,
        "layers": len(layers),
        "heads": heads or max(1, width // HEAD_WIDTH),
        "mlp_ratio": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0] / width,
        "output_dim": state["proj"].shape[1],
        "quick_gelu": True,
    }
    found = ((name, name, tensor) for name, tensor in state.items())
    return fill("tower", settings, found, path=path, prefix=prefix)


def import_open_clip(checkpoint: Checkpoint, *, raw: bool, tower_heads: int | None = None) -> Imported:
    """The image tower of a CLIP checkpoint, OpenAI's, whose activation is quick-GELU; the text tower is dropped.

    Args:
        checkpoint: with `visual.` keys.
        raw: has no meaning here, there are no averages.
        tower_heads: see `tower_part`.
    """
    text = [name for name in checkpoint if name in TEXT or name.startswith(TEXT_PREFIXES)]
    for name in checkpoint:
        if not name.startswith(VISUAL) and name not in set(text):
            raise ValueError(f"{checkpoint.path}: `{name}` is not a key of a CLIP checkpoint.")
    visual = {name[len(VISUAL) :]: checkpoint[name] for name in checkpoint if name.startswith(VISUAL)}
    part = tower_part(visual, path=checkpoint.path, heads=tower_heads)
    return Imported({"tower": part}, {"CLIP's text tower": text})
