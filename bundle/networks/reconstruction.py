"""One pass through an autoencoder whose posterior noise is given, not drawn."""

from __future__ import annotations

from monai.networks.nets import AutoencoderKL
from torch import Tensor, nn


class Reconstruction(nn.Module):
    """What stage 1 trains. MONAI's own `forward` draws from the global stream, which resume could not repeat.

    Args:
        autoencoder: trained in place.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, sample, decode.

        Args:
            image: (N, C, H, W) in [-1, 1]; a grey one where the autoencoder knows colours is repeated.
            noise: standard normal, shaped as the latent.

        Returns:
            reconstruction (N, C, H, W), posterior mean and standard deviation (N, latent channels, h, w).
        """
        mean, sd = self.autoencoder.encode(image)
        return self.autoencoder.decode(mean + noise * sd), mean, sd
