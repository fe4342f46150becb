"""Cross-attention to further context tokens, in a branch of its own beside the film's token."""

from __future__ import annotations

from monai.networks.blocks import CrossAttentionBlock
from monai.networks.nets.diffusion_model_unet import zero_module
from torch import Tensor

from bundle.networks.one_token import OneTokenAttention, arguments_of


class ExtraTokenAttention(OneTokenAttention):
    """Attends to the first token as MONAI's block does, and to the others with weights of their own.

    In one softmax the others would take weight from the first even where they say nothing: two zero tokens change
    the output by 0.84 (zero123.md 2). The branch's last layer starts at zero, so that it changes nothing.

    Args:
        of: the block that this one stands in for; its weights are taken over.

    Source:
        Ye et al., "IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models", 2023, Eq. 5.
    """

    def __init__(self, of: CrossAttentionBlock) -> None:
        super().__init__(of)
        self.extra = CrossAttentionBlock(**arguments_of(of))
        zero_module(self.extra.out_proj)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, pixels, C) and (N, tokens, context_dim) to (N, pixels, C)."""
        if context is None or context.shape[1] == 1:
            return super().forward(x, context)
        return super().forward(x, context[:, :1]) + self.extra(x, context[:, 1:])
