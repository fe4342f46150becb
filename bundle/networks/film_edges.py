"""The film's edges as a second stream beside the film, and the gates that weigh the two."""

from __future__ import annotations

import numpy as np
import torch
from skimage.feature import canny
from torch import Tensor, nn

from bundle.geometry import FIELD_OF_VIEW_MM

EDGE_SIGMA_MM = 1.25
"""Smoothing before the gradient: 2 pixels of the paper's 256."""
EDGE_QUANTILES = (0.8, 0.92)
"""Canny's thresholds as quantiles of the film's own gradient, so that gain and offset change nothing."""


def film_edges(film: Tensor) -> Tensor:
    """Canny edges of films.

    Args:
        film: (B, 1, H, W) over the field of view, in [-1, 1].

    Returns:
        (B, 1, H, W), 1 on an edge and -1 elsewhere, on the film's device; a film without contrast has none.

    Source:
        Canny, "A Computational Approach to Edge Detection", IEEE TPAMI 8(6), 1986; scikit-image's.
    """
    sigma = EDGE_SIGMA_MM * film.shape[-1] / FIELD_OF_VIEW_MM
    low, high = EDGE_QUANTILES
    edges = []
    for image in film.detach().cpu().double().numpy()[:, 0]:
        found = np.zeros(image.shape, dtype=bool)
        if np.ptp(image) > 0:
            found = canny(image, sigma, low_threshold=low, high_threshold=high, use_quantiles=True)
        edges.append(torch.from_numpy(found))
    return torch.stack(edges)[:, None].to(film) * 2 - 1


class ChannelGates(nn.Module):
    """Weights of channels that depend on all of them; at the start every weight is 1.

    Args:
        channels: C.

    Source:
        Yang et al., "Gated Channel Transformation for Visual Recognition", CVPR 2020, Eqs. 1 to 4, with the l2 norm.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gain = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.offset = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same, each channel times its weight in (0, 2)."""
        size = self.embedding * (x.square().sum(dim=(2, 3), keepdim=True) + 1e-5).sqrt()
        size = size / (size.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        return x * (1 + torch.tanh(self.gain * size + self.offset))
