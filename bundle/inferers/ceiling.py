"""What the autoencoder leaves of a real volume: no model that decodes through it can be better."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from torch import Tensor

from bundle.keys import MRI
from bundle.networks.generator import FilmToVolume
from bundle.sampling import FittingBatches


class AddReconstructiond(Transform):
    """Store the autoencoder's reconstruction of the real volume, as a step of an evaluator's postprocessing.

    Each slice goes to the mean of its latent and back, as training's target does.

    Args:
        network: the model.
        key: where the volume, (1, H, W, S), goes.
        real: key of the real volume, (1, H, W, S), on the network's rows and columns.
    """

    def __init__(self, network: FilmToVolume, *, key: str = "autoencoder", real: str = MRI) -> None:
        self.network, self.key, self.real = network, key, real

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volume added."""
        real = data.get(self.real)
        if not isinstance(real, Tensor) or real.ndim != 4 or real.shape[0] != 1:
            raise ValueError(f"`{self.real}` must be a real volume (1, H, W, S) in every item to be reconstructed.")
        plain = real.as_tensor() if isinstance(real, MetaTensor) else real
        slices = plain[0].permute(2, 0, 1)[:, None].to(self.network.scale_factor.device).float()
        training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                decoded = FittingBatches(self.network.slice_batch)(lambda part: self._pass(slices[part]), len(slices))
        finally:
            self.network.train(training)
        return {**data, self.key: decoded[:, 0].permute(1, 2, 0)[None]}

    def _pass(self, slices: Tensor) -> Tensor:
        return self.network.decode(self.network.autoencoder.encode(slices)[0] * self.network.scale_factor)
