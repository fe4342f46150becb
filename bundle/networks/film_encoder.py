"""The film's context token: an open_clip image tower and a projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FilmEncoder(nn.Module):
    """One context token for a film.

    Args:
        image_size: edge, in pixels, to which the film is resized for the tower.
        patch_size, width, layers, heads, mlp_ratio, output_dim: of `open_clip.transformer.VisionTransformer`.
        context_dim: C of the token.
        quick_gelu: x sigmoid(1.702 x) in place of GELU: what OpenAI's towers need, without a trace in their weights.
        freeze_tower: train the projection alone.

    Source:
        Liu et al., "Zero-1-to-3", ICCV 2023, section 3.2: CLIP embedding through a linear layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
        context_dim: int,
        mlp_ratio: float = 4.0,
        quick_gelu: bool = False,
        freeze_tower: bool = False,
    ) -> None:
        # Here, because it takes seconds and 60 MB, and making or preparing data has no tower.
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
        from open_clip.transformer import QuickGELU, VisionTransformer

        super().__init__()
        self.tower = VisionTransformer(
            image_size=image_size,
            patch_size=patch_size,
            width=width,
            layers=layers,
            heads=heads,
            mlp_ratio=mlp_ratio,
            output_dim=output_dim,
            act_layer=QuickGELU if quick_gelu else nn.GELU,
        )
        if freeze_tower:
            self.tower.requires_grad_(False)
        self.projection = nn.Linear(output_dim, context_dim)
        self.register_buffer("mean", torch.tensor(OPENAI_DATASET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(OPENAI_DATASET_STD).view(1, 3, 1, 1), persistent=False)

    @property
    def frozen(self) -> bool:
        """Whether the tower's embedding of a film never changes."""
        return not any(parameter.requires_grad for parameter in self.tower.parameters())

    def forward(self, film: Tensor) -> Tensor:
        """Encode films.

        Args:
            film: (B, 1, H, W) in [-1, 1], or (B, 3, H, W); or (B, output_dim), what `embed` gave before.

        Returns:
            (B, 1, context_dim).
        """
        return self.projection(film if film.ndim == 2 else self.embed(film))[:, None]

    def embed(self, film: Tensor) -> Tensor:
        """The tower's embedding of `forward`'s films, (B, output_dim), not normalised."""
        # bicubic, align_corners, no antialias: what the tower of Zero-1-to-3 was given (zero123.md, C3)
        image = F.interpolate(film, size=self.tower.image_size, mode="bicubic", align_corners=True)
        image = ((image + 1) / 2 - self.mean) / self.std
        return self.tower(image)
