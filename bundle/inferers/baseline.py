"""A second network's volume beside the model's, for evaluation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.networks import eval_mode
from monai.transforms import Transform
from torch import nn

from bundle.keys import COVARIATES, FILM, READINGS


class AddPredictiond(Transform):
    """Store `network(film)` of one item under a key, as a step of an evaluator's postprocessing.

    Args:
        network: called as the model is, `network(film, readings=...)`, with film (1, 1, H, W) and, where the item
            has them as a vector, readings (1, N); covariates too, where it says a `covariates_width`.
        key: where its volume, (1, H, W, S), goes.
        film: key of the film, (1, H, W).
        options: what else the network is called with, such as `mean`.
    """

    def __init__(
        self, network: nn.Module, *, key: str, film: str = FILM, options: Mapping[str, Any] | None = None
    ) -> None:
        self.network = network
        self.key = key
        self.film = film
        self.options = dict(options or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volume added; the network is in evaluation mode and back after."""
        if self.film not in data:
            raise KeyError(f"`{self.film}` is not among the item's keys: {', '.join(map(str, data))}.")
        film, readings = data[self.film][None], data.get(READINGS)
        vector = readings[None].to(film.device) if isinstance(readings, torch.Tensor) else None
        told = dict(self.options)
        covariates = data.get(COVARIATES)
        if isinstance(covariates, torch.Tensor) and getattr(self.network, "covariates_width", None):
            told["covariates"] = covariates[None].to(film.device)
        with eval_mode(self.network):
            volume = self.network(film, readings=vector, **told)[0]
        return {**data, self.key: volume}
