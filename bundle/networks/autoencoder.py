"""The autoencoder of latent diffusion and Zero-1-to-3, which MONAI's class cannot represent."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.blocks import Convolution
from monai.networks.nets import AutoencoderKL
from monai.networks.nets.autoencoderkl import Decoder
from torch import Tensor, nn


class LatentDiffusionAutoencoder(AutoencoderKL):
    """MONAI's autoencoder with the three differences of the published checkpoints.

    1. A SiLU stands between the last norm and the last convolution of encoder and decoder; MONAI has none. It holds
       no weights, so a strict load would not notice.
    2. The decoder has one residual block a level more than the encoder.
    3. The encoder ends in mean and log-variance channels together, which one 1x1 convolution mixes; each of MONAI's
       two convolutions therefore reads both and holds half of that one's rows.

    Attention is in the middle alone, as published. A grey image is repeated to `in_channels`.

    Args:
        channels: of each level; each level but the last halves the resolution.
        num_res_blocks: residual blocks a level of the encoder.
        in_channels: of the image.
        out_channels: of the decoded image.
        latent_channels: of the latent.
        norm_num_groups: groups of every norm.
        use_checkpoint: compute activations again in the backward pass, to save memory.

    Source:
        Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, appendix G;
        the paper's autoencoder (channels 128, 256, 512, 512) has 83,653,863 parameters.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (128, 256, 512, 512),
        num_res_blocks: int = 2,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        use_checkpoint: bool = False,
    ) -> None:
        plain = (False,) * len(channels)
        super().__init__(
            2,
            in_channels,
            out_channels,
            num_res_blocks=num_res_blocks,
            channels=channels,
            attention_levels=plain,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            use_checkpoint=use_checkpoint,
            use_flash_attention=True,
        )
        self.in_channels = in_channels
        self.decoder = Decoder(
            2,
            channels,
            latent_channels,
            out_channels,
            num_res_blocks=(num_res_blocks + 1,) * len(channels),
            norm_num_groups=norm_num_groups,
            norm_eps=1e-6,
            attention_levels=plain,
            use_flash_attention=True,
        )
        both = 2 * latent_channels
        self.encoder.blocks[-1] = _convolution(channels[-1], both, 3)
        for half in (self.encoder, self.decoder):
            half.blocks.insert(len(half.blocks) - 1, nn.SiLU())
        self.quant_conv_mu = _convolution(both, latent_channels, 1)
        self.quant_conv_log_sigma = _convolution(both, latent_channels, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (N, latent_channels, h, w), of images (N, 1 or in_channels, H, W)."""
        return super().encode(x.expand(-1, self.in_channels, -1, -1) if x.shape[1] == 1 else x)


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Module:
    return Convolution(2, inputs, outputs, kernel_size=kernel, padding=kernel // 2, conv_only=True)
