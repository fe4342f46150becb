"""The parts that weights from elsewhere fill, and the strict way from foreign names to ours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bundle.networks import FilmEncoder, LatentDiffusionAutoencoder, TwoPathUNet

PREFIXES = {
    "autoencoder": "autoencoder.",
    "unet": "denoiser.unet.",
    "tower": "denoiser.film_encoder.tower.",
    "projection": "denoiser.film_encoder.projection.",
}
"""Part to its place in `FilmToVolume`."""
NEW_IN_UNET = ("depth_head.", "readings_head.", "covariates_head.")
"""What no checkpoint from elsewhere has; zero at the start, so that the UNet equals the imported one."""


@dataclass
class Part:
    """One network with its weights, under our names.

    Args:
        settings: arguments of its class, `readings_width` excepted.
        state: weights by name.
    """

    settings: dict[str, Any]
    state: dict[str, Tensor]


@dataclass
class Imported:
    """What an importer made of a checkpoint.

    Args:
        parts: those of `PREFIXES` that the checkpoint holds.
        dropped: names that were not used, by reason.
        scale_factor: on latents, where the origin fixes it.
    """

    parts: dict[str, Part]
    dropped: dict[str, list[str]] = field(default_factory=dict)
    scale_factor: float | None = None


def new_autoencoder(settings: Mapping[str, Any]) -> nn.Module:
    """An autoencoder of these settings: MONAI's own where they have `spatial_dims`."""
    if "spatial_dims" in settings:
        return _MONAI_AUTOENCODER(**settings)
    return LatentDiffusionAutoencoder(**settings)


def new_unet(settings: Mapping[str, Any]) -> nn.Module:
    """A UNet of these settings, its heads as narrow as can be."""
    return TwoPathUNet(readings_width=1, **settings)


def new_tower(settings: Mapping[str, Any]) -> nn.Module:
    """An image tower."""
    return FilmEncoder(context_dim=1, **settings).tower


def new_projection(settings: Mapping[str, Any]) -> nn.Module:
    """The projection from the tower's embedding to the context token."""
    return nn.Linear(settings["inputs"], settings["outputs"])


_MONAI_AUTOENCODER = LatentDiffusionAutoencoder.__bases__[0]
BUILDERS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "autoencoder": new_autoencoder,
    "unet": new_unet,
    "tower": new_tower,
    "projection": new_projection,
}


def fill(
    kind: str, settings: dict[str, Any], found: Iterable[tuple[str, str, Tensor]], *, path: Any, prefix: str = ""
) -> Part:
    """Put tensors into a part, strictly.

    Args:
        kind: of `BUILDERS`.
        settings: its arguments.
        found: (foreign name, our name, tensor).
        path: file that errors name.
        prefix: of the foreign names in the file.

    Raises:
        ValueError: naming the first key without a place, of another shape or not finite, or the first place without
            a key.
    """
    try:
        with torch.device("meta"):
            wanted = {
                name: value.shape
                for name, value in BUILDERS[kind](settings).state_dict().items()
                if not name.startswith(NEW_IN_UNET)
            }
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: no {kind} can be built from its shapes ({error}).") from None
    state: dict[str, Tensor] = {}
    for foreign, name, tensor in found:
        if name not in wanted:
            raise ValueError(f"{path}: `{prefix}{foreign}` has no place in the {kind} (looked for as `{name}`).")
        if tensor.shape != wanted[name]:
            theirs, ours = tuple(tensor.shape), tuple(wanted[name])
            raise ValueError(f"{path}: `{prefix}{foreign}` has shape {theirs}, the {kind}'s `{name}` needs {ours}.")
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: `{prefix}{foreign}` holds numbers that are not finite; the file is damaged.")
        state[name] = tensor.float().contiguous()
    for name in wanted:
        if name not in state:
            raise ValueError(f"{path}: nothing in it fills `{name}` of the {kind}; a key is missing or renamed.")
    return Part(settings, state)


def build(kind: str, part: Part) -> nn.Module:
    """The part as a network, in evaluation mode; a UNet's heads are at zero."""
    network = BUILDERS[kind](part.settings)
    missing, _ = network.load_state_dict(part.state, strict=False)
    if any(not name.startswith(NEW_IN_UNET) for name in missing):
        raise ValueError(f"`{missing[0]}` of the {kind} has no weights.")
    return network.eval()


def traits(network: nn.Module) -> dict[str, tuple]:
    """What changes the result and leaves no trace in a state dictionary, by module name."""
    found: dict[str, tuple] = {}
    for name, module in network.named_modules():
        if name.startswith(NEW_IN_UNET):
            continue
        if isinstance(module, nn.GroupNorm):
            found[name] = ("groups", module.num_groups, "epsilon", module.eps)
        elif hasattr(module, "num_heads"):
            found[name] = ("heads", module.num_heads)
        elif type(module).__name__ in ("GELU", "QuickGELU"):
            found[name] = ("activation", type(module).__name__)
    return found


def summary(dropped: Mapping[str, list[str]]) -> list[str]:
    """One line a reason and first word of the names: every name where there are few."""
    lines = []
    for reason, names in dropped.items():
        families = Counter(name.partition(".")[0] for name in names)
        for family, count in families.items():
            members = [name for name in names if name.partition(".")[0] == family]
            shown = ", ".join(members) if count <= 20 else f"{family}.* ({count} keys)"
            lines.append(f"dropped: {reason}: {shown}")
    return lines


def describe(imported: Imported, **origin: Any) -> str:
    """JSON of the parts' settings and of where they came from."""
    return json.dumps({**origin, "parts": {kind: part.settings for kind, part in imported.parts.items()}})
