"""Imported weights into a network, or as networks of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.networks import FilmToVolume
from bundle.weights.files import read_weights
from bundle.weights.parts import BUILDERS, NEW_IN_UNET, PREFIXES, Part, build, traits

NEW_BRANCH = ".extra."
"""Attention to further tokens, which starts at zero as the heads do."""


def load_parts(path: str | Path) -> dict[str, nn.Module]:
    """The parts of an imported file as networks: `autoencoder`, `unet`, `tower`, `projection`, as far as it has them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if `import_weights` did not write it.
    """
    return {kind: build(kind, part) for kind, part in _parts(path)[0].items()}


def load_pretrained(network: FilmToVolume, path: str | Path) -> FilmToVolume:
    """Put imported weights into a network that is to be trained; parts that the file lacks stay as they are.

    The heads for depth and readings, and branches for further tokens, keep their zero start: the UNet equals the
    imported one.

    Args:
        network: of the imported parts' sizes, as of `configs/paper.json`.
        path: file of `import_weights`.

    Returns:
        `network`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, of another kind, or does not fit; names the first key that does not. The
            network is unchanged then.
    """
    parts, state = _parts(path)
    places = {kind: network.get_submodule(prefix.rstrip(".")) for kind, prefix in PREFIXES.items()}
    for kind, part in parts.items():
        _check(kind, part, places[kind], path)
    for kind, part in parts.items():
        places[kind].load_state_dict(part.state, strict=False)
    if "scale_factor" in state:
        network.scale_factor.copy_(state["scale_factor"])
    return network


def _check(kind: str, part: Part, place: nn.Module, path: Any) -> None:
    own = place.state_dict()
    for name, value in part.state.items():
        theirs, ours = tuple(value.shape), tuple(own[name].shape) if name in own else None
        if theirs != ours:
            where = "is missing in the network" if ours is None else f"has shape {theirs}, the network's has {ours}"
            raise ValueError(f"weights {path}: `{PREFIXES[kind]}{name}` {where}.")
    for name in own:
        new = kind == "unet" and (name.startswith(NEW_IN_UNET) or NEW_BRANCH in name)
        if name not in part.state and not new:
            raise ValueError(f"weights {path}: `{PREFIXES[kind]}{name}` is missing in the file.")
    # heads, groups, epsilons and activations: a wrong one loads without a word and gives other numbers
    with torch.device("meta"):
        theirs_traits, ours_traits = traits(BUILDERS[kind](part.settings)), traits(place)
    for name, trait in theirs_traits.items():
        if ours_traits.get(name) != trait:
            raise ValueError(
                f"weights {path}: `{PREFIXES[kind]}{name}` was trained with {_say(trait)}, the network has "
                f"{_say(ours_traits.get(name, ('nothing', '')))}; its configuration must say the same."
            )


def _say(trait: tuple) -> str:
    return " ".join(str(word) for word in trait)


def _parts(path: str | Path) -> tuple[dict[str, Part], dict[str, Tensor]]:
    state = read_weights(path)
    if "architecture" not in state:
        raise ValueError(f"weights {path}: not imported ones; `scripts/import_weights.py` makes such a file.")
    settings = json.loads(bytes(state["architecture"].tolist()))["parts"]
    parts = {kind: Part(settings[kind], {}) for kind in settings}
    for name, value in state.items():
        for kind, part in parts.items():
            if name.startswith(PREFIXES[kind]):
                part.state[name.removeprefix(PREFIXES[kind])] = value
    return parts, state
