"""A UNet that is told the slice's depth in its down path and the film's readings in its up path."""

from __future__ import annotations

from typing import Any

from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet, get_timestep_embedding, zero_module
from torch import Tensor, nn

DEPTH_SCALE = 1000.0
"""Depth in [0, 1] times this goes into the sinusoid; at 1 neighbouring slices would share one code (zero123.md 2)."""


class TwoPathUNet(DiffusionModelUNet):
    """MONAI's conditional UNet with two more embeddings, each added to time's in one path alone.

    The heads' last layers start at zero, so that a new network equals the UNet without depth and readings.

    Args:
        readings_width: length of the readings' vector.
        depth_scale: what depth in [0, 1] is multiplied with before its sinusoidal code.
        unet: arguments of `DiffusionModelUNet`.

    Source:
        Wang et al., "Feasibility Study of a Diffusion-Based Model for Cross-Modal Generation of Knee MRI from X-ray",
        section on conditioning: depth in the down path, radiographic features in the up path.
    """

    def __init__(self, *, readings_width: int, depth_scale: float = DEPTH_SCALE, **unet: Any) -> None:
        super().__init__(**unet)
        self.depth_scale = depth_scale
        base = self.block_out_channels[0]
        self.depth_head = _head(base, 4 * base)
        self.readings_head = _head(readings_width, 4 * base)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        *,
        depth: Tensor | None = None,
        readings: Tensor | None = None,
    ) -> Tensor:
        """Predict noise, latent or velocity, as the schedule asks.

        Args:
            x: noised latent beside the film's latent, (N, C, h, w).
            timesteps: (N,), on the schedule's scale.
            context: tokens for cross-attention, (N, tokens, C).
            depth: (N,) in [0, 1]; None leaves the down path unconditioned.
            readings: (N, readings_width); None leaves the up path unconditioned.

        Returns:
            (N, out_channels, h, w).
        """
        base = self.block_out_channels[0]
        time = self.time_embed(get_timestep_embedding(timesteps, base).to(x.dtype))
        down = up = time
        if depth is not None:
            down = time + self.depth_head(get_timestep_embedding(depth * self.depth_scale, base).to(x.dtype))
        if readings is not None:
            up = time + self.readings_head(readings.to(x.dtype))

        hidden = self.conv_in(x)
        skips = [hidden]
        for block in self.down_blocks:
            hidden, outputs = block(hidden_states=hidden, temb=down, context=context)
            skips.extend(outputs)
        hidden = self.middle_block(hidden_states=hidden, temb=down, context=context)
        for block in self.up_blocks:
            count = len(block.resnets)
            hidden = block(hidden_states=hidden, res_hidden_states_list=skips[-count:], temb=up, context=context)
            skips = skips[:-count]
        return self.out(hidden)


def _head(width: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), zero_module(nn.Linear(embedding, embedding)))


def freeze_one_token_attention(unet: nn.Module) -> None:
    """Freeze what has no gradient when the context is one token.

    A softmax over one key is 1 whatever the query, so `norm2` and cross-attention's `to_q` and `to_k` do nothing.
    They stay in the network, since imported weights have them; distributed training stops on unused parameters.
    """
    for name, parameter in unet.named_parameters():
        if "transformer_blocks" in name and any(part in name for part in (".norm2.", ".attn2.to_q.", ".attn2.to_k.")):
            parameter.requires_grad_(False)
