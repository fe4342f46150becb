"""What an optimiser trains, and which parts of it learn faster."""

from __future__ import annotations

import logging
import operator
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from torch import nn

logger = logging.getLogger(__name__)
Module = TypeVar("Module", bound=nn.Module)


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


def train_only(module: Module, parts: Sequence[str] | None, *, option: str = "trained_parts") -> Module:
    """Freeze a network but for some of its parts, which then cost less to train and leave the rest as it was.

    Args:
        module: what is trained, such as the denoiser.
        parts: names of its submodules, such as `unet.mixers`, or patterns of them, such as `*.modulation`; None trains
            all.
        option: the configuration's name for `parts`, for errors.

    Returns:
        `module`.

    Raises:
        ValueError: if the module knows no such part, or was built without it.

    Source:
        Blattmann et al., "Align your Latents", CVPR 2023, section 3.1: temporal layers alone learn between frozen
        spatial ones, and then the decoder alone behind a frozen encoder.
    """
    if parts is None:
        return module
    trained = parameters_of(module, parts, option=option)
    for name, parameter in module.named_parameters():
        if name not in trained:
            parameter.requires_grad_(False)
    return module


def parameters_of(module: nn.Module, parts: Sequence[str], *, option: str) -> set[str]:
    """Names of the parameters of some parts.

    Args:
        module: a network.
        parts: as in `train_only`.
        option: the configuration's name for `parts`, for errors.

    Raises:
        ValueError: if the module knows no such part, or was built without it.
    """
    names = [name for name, _ in module.named_parameters()]
    chosen: set[str] = set()
    for part in parts:
        if "*" not in part and _part(module, part, option=option) is None:
            raise ValueError(f"`{option}` names `{part}`, which this {type(module).__name__} was built without.")
        found = {name for name in names if fnmatchcase(name, f"{part}.*")}
        if not found:
            raise ValueError(f"`{option}` names `{part}`, and no part of {type(module).__name__} is called so.")
        chosen |= found
    return chosen


def _part(module: nn.Module, name: str, *, option: str) -> nn.Module | None:
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        raise ValueError(f"`{option}` names `{name}`, which {type(module).__name__} does not have.") from None
