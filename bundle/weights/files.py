"""Weights in one file: a flat dictionary of tensors, half precision, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from bundle.networks.identity import text_tensor


def save_weights(
    network: nn.Module, path: str | Path, *, trained_on: str, replace: dict[str, Tensor] | None = None
) -> Path:
    """Write a network's state in half precision.

    Args:
        network: a `FilmToVolume`.
        path: file to write; its folder is made.
        trained_on: what the weights were trained on, kept in the file.
        replace: parameters, by their full name, to write instead of the network's (the moving averages).

    Returns:
        `path`.
    """
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    for name, value in (replace or {}).items():
        if name not in state:
            raise ValueError(f"`replace` names {name!r}, which the network does not have.")
        state[name] = value.detach().cpu()
    parameters = {name for name, _ in network.named_parameters()}
    state = {name: value.half() if name in parameters else value for name, value in state.items()}
    state["trained_on"] = text_tensor(trained_on)
    return write_whole(state, path)


def write_whole(state: dict[str, Tensor], path: str | Path) -> Path:
    """Write tensors to a file that is complete or absent; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a weights file without running anything that it may hold.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a flat dictionary of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights {path}: no such file; `make weights` trains them, --weights names others.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different class for every kind of damage
        raise ValueError(f"weights {path}: not a file of tensors alone ({_first_line(error)}).") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in state.items()):
        raise ValueError(f"weights {path}: must be a flat dictionary of tensors; a checkpoint of a training is not.")
    return state


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a weights file into a network, strictly.

    Args:
        network: built as the weights' was.
        path: file of `save_weights`.

    Returns:
        `network`, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or does not fit; names the first key that does not.
    """
    state = read_weights(path)
    own = network.state_dict()
    for name in [*own, *state]:
        if name not in state or name not in own:
            place = "the file" if name not in state else "the network"
            raise ValueError(f"weights {path}: `{name}` is missing in {place}; they are of another network.")
        if state[name].shape != own[name].shape:
            theirs, ours = tuple(state[name].shape), tuple(own[name].shape)
            raise ValueError(f"weights {path}: `{name}` has shape {theirs}, the network's has {ours}.")
    try:
        network.load_state_dict(state)
    except ValueError as error:
        raise ValueError(f"weights {path}: {error}") from None
    return network.eval()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
