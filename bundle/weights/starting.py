"""Weights of an earlier network as the start of one that has more: what is new keeps its own initialisation."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bundle.weights.files import read_weights

NEW_PARTS = ("denoiser.unet.mixers.", "denoiser.unet.covariates_head.", "mean_head.told_covariates.")
"""What a network may have and its start not: parts that begin at zero, so that both give the same volume."""
NEW_LAYERS = (".more.",)
"""The same of layers inside a part: the mean head's modulation by covariates."""


def load_start(network: nn.Module, path: str | Path | None) -> nn.Module:
    """Load weights into a network that may have parts which they lack.

    Args:
        network: a `FilmToVolume`.
        path: file of `save_weights`; None leaves the network as it is.

    Returns:
        `network`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it lacks anything else, has anything more, or a shape differs; names the first such key.
    """
    if path is None:
        return network
    state, own = read_weights(path), network.state_dict()
    for name in [*own, *state]:
        if name in state and name in own:
            if state[name].shape != own[name].shape:
                theirs, ours = tuple(state[name].shape), tuple(own[name].shape)
                raise ValueError(f"weights {path}: `{name}` has shape {theirs}, the network's has {ours}.")
        elif name not in own or not (name.startswith(NEW_PARTS) or any(layer in name for layer in NEW_LAYERS)):
            place = "the file" if name in own else "the network"
            raise ValueError(f"weights {path}: `{name}` is missing in {place}; they are of another network.")
    network.load_state_dict({**own, **state})
    return network
