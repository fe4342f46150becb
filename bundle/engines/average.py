"""A moving average of the parameters that are trained, and of no others."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn


class ParameterAverage:
    """Exponential moving average, warmed up so that early steps do not keep the random start.

    Ignite's and torch's own averages copy the whole module; stage 2 trains a part of it (design.md 3.14).

    Args:
        network: the module whose trainable parameters are averaged.
        decay: of the average; 0.99 in the paper.
    """

    def __init__(self, network: nn.Module, *, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must lie in [0, 1), got {decay}.")
        self.network, self.decay = network, decay
        self.kept: dict[str, Tensor] = {}
        self.restart()

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]

    def attach(self, trainer: Engine, evaluator: Engine | None = None) -> None:
        """Update after every optimiser step, and evaluate with the averages in place of the parameters.

        A step of the run list calls this: MONAI's property check reads `train::handlers` as dictionaries alone.
        """
        trainer.add_event_handler(Events.STARTED, lambda _: self.restart())  # a checkpoint, loaded later, takes over
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _: self.update())
        if evaluator is not None:
            evaluator.add_event_handler(Events.STARTED, lambda _: self.swap_in())
            evaluator.add_event_handler(Events.COMPLETED, lambda _: self.swap_out())

    def restart(self) -> None:
        """Begin again from the parameters as they are."""
        self.updates = 0
        self.shadow = {name: p.detach().clone() for name, p in self._trained()}

    @torch.no_grad()
    def update(self) -> None:
        """One step of the average; the decay grows as (1 + n) / (10 + n) up to `decay`."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in self._trained():
            self.shadow[name].lerp_(parameter.detach().to(self.shadow[name]), 1 - decay)

    @torch.no_grad()
    def swap_in(self) -> None:
        """Put the averages into the network."""
        for name, parameter in self._trained():
            self.kept[name] = parameter.detach().clone()
            parameter.copy_(self.shadow[name])

    def settle(self) -> None:
        """End of a stage: put the averages into the network for good, where a training has made any."""
        if self.updates:
            self.swap_in()
            self.kept.clear()

    @torch.no_grad()
    def swap_out(self) -> None:
        """Put the parameters back."""
        for name, parameter in self._trained():
            parameter.copy_(self.kept.pop(name))

    def state_dict(self) -> dict:
        """Averages and count of updates, for a checkpoint."""
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict) -> None:
        """Take a checkpoint's averages; their names must be this network's."""
        if set(state["shadow"]) != set(self.shadow):
            raise ValueError("the checkpoint's averages are of another network; start in another `output_dir`.")
        self.updates = state["updates"]
        for name, value in state["shadow"].items():
            self.shadow[name] = value.to(self.shadow[name])
