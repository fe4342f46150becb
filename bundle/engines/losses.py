"""The autoencoder's loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PIXEL_LOSSES = {"l1": nn.functional.l1_loss, "mse": nn.functional.mse_loss}


class AutoencoderLoss(nn.Module):
    """Reconstruction and Kullback-Leibler divergence to a standard normal.

    Args:
        kl_weight: of the divergence, which is summed over a latent's elements and averaged over the batch.
        pixel_loss: `mse` (the paper) or `l1`.

    Source:
        Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, appendix G; the
        adversarial and perceptual terms are left out, as the paper has none.
    """

    def __init__(self, *, kl_weight: float = 1e-6, pixel_loss: str = "l1") -> None:
        super().__init__()
        if pixel_loss not in PIXEL_LOSSES:
            raise ValueError(f"`pixel_loss` must be one of {', '.join(PIXEL_LOSSES)}, got {pixel_loss!r}.")
        self.kl_weight, self.pixel_loss = kl_weight, PIXEL_LOSSES[pixel_loss]

    def forward(self, output: tuple[Tensor, Tensor, Tensor], image: Tensor) -> Tensor:
        """Loss of `Reconstruction`'s output against the image."""
        reconstruction, mean, sd = output
        divergence = 0.5 * (mean.square() + sd.square() - 2 * torch.log(sd) - 1).sum(dim=(1, 2, 3)).mean()
        image = image.expand_as(reconstruction)  # a grey image where the autoencoder knows colours
        return self.pixel_loss(reconstruction, image) + self.kl_weight * divergence
