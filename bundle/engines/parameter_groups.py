"""What an optimiser trains, and which parts of it learn faster."""

from __future__ import annotations

import logging
import operator
from collections.abc import Sequence
from typing import Any

from torch import nn

from bundle.networks import FilmToVolume

logger = logging.getLogger(__name__)


def parameter_groups(
    module: nn.Module, *, learning_rate: float, new_parts: Sequence[str] = (), new_parts_factor: float = 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters in groups for a torch optimiser, with the rate of each.

    Args:
        module: whose parameters are trained.
        learning_rate: of what starts from trained weights.
        new_parts: names of submodules that start from nothing, such as `unet.depth_head`; one that the module was
            built without (None) is passed over.
        new_parts_factor: their rate over `learning_rate`; 1 gives one group.

    Returns:
        `params` and `lr` of each group; the second, if there is one, is that of the new parts.

    Raises:
        ValueError: if the module knows no such part, or a factor is not positive.
    """
    if new_parts_factor <= 0:
        raise ValueError(f"`new_parts_factor` must be positive, got {new_parts_factor}.")
    for name in new_parts:
        _part(module, name, option="new_parts")
    rates = [learning_rate, learning_rate * new_parts_factor]
    groups: list[list[nn.Parameter]] = [[], []]
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            new = new_parts_factor != 1 and any(name.startswith(f"{part}.") for part in new_parts)
            groups[new].append(parameter)
    logger.info(f"learning rate {rates[0]:g}" + (f", {rates[1]:g} for new parts" if groups[1] else ""))
    return [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True) if group]


def train_only(network: FilmToVolume, parts: Sequence[str] | None) -> FilmToVolume:
    """Freeze the denoiser but for some of its parts, which then cost less to train and leave the rest as it was.

    Args:
        network: whose denoiser is trained.
        parts: names of its submodules, such as `unet.mixers`; None trains all.

    Returns:
        `network`.

    Raises:
        ValueError: if the denoiser knows no such part, or was built without it.

    Source:
        Blattmann et al., "Align your Latents", CVPR 2023, section 3.1: temporal layers alone learn between frozen
        spatial ones.
    """
    if parts is None:
        return network
    for name in parts:
        if _part(network.denoiser, name, option="trained_parts") is None:
            raise ValueError(f"`trained_parts` names `{name}`, which this denoiser was built without.")
    for name, parameter in network.denoiser.named_parameters():
        if not any(name.startswith(f"{part}.") for part in parts):
            parameter.requires_grad_(False)
    return network


def _part(module: nn.Module, name: str, *, option: str) -> nn.Module | None:
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        raise ValueError(f"`{option}` names `{name}`, which {type(module).__name__} does not have.") from None
