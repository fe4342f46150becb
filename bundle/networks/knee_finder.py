"""The network that finds knees on a film: for each side and landmark, where it is, or that it is not there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from bundle.geometry import SIDES

LANDMARKS = ("joint_centre", "plateau_medial_rim", "plateau_lateral_rim", "femur_shaft", "tibia_shaft")
"""Points of each knee; the axis of a bone runs from the joint centre to its shaft's point."""
IMPLANT = "implant"
"""A further map of each side: the joint centre of a knee that has been replaced."""
MAPS = tuple((side, name) for side in SIDES for name in (*LANDMARKS, IMPLANT))
REDUCTION = 16
"""Rows and columns of the network's input must be multiples of this."""
_SHIFTS = (0, 3, 6, 9, 12)
"""Pixels by which a film is moved over the network's coarsest cells when it is looked at: answers differ by chance with
where its pixels fall in them."""
_WINDOW = 9
"""Pixels a side over which a peak is averaged and its probability summed: 3 SD of the Gaussian that is learned."""


class Peaks(NamedTuple):
    """Where each map has its peak: (B, M, 2) row and column in pixels; and (B, M) probability near it."""

    points: Tensor
    confidence: Tensor


class KneeFinder(nn.Module):
    """A small U-Net whose maps are probabilities over the pixels of the film and one more outcome: not there.

    Args:
        channels: of each level, finest first; every further level halves rows and columns.
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 48, 64, 96)) -> None:
        super().__init__()
        if 2 ** (len(channels) - 1) != REDUCTION:
            raise ValueError(f"`channels` must have 5 levels, got {len(channels)}.")
        self.body = UNet(
            2,
            1,
            len(MAPS),
            channels=channels,
            strides=(2,) * (len(channels) - 1),
            num_res_units=1,
            norm=("instance", {"affine": True}),
        )

    def forward(self, film: Tensor) -> Tensor:
        """Scores of films, (B, 1, H, W) with values in [0, 1], to (B, M, H, W); 0 is the score of "not there".

        Raises:
            ValueError: if H or W is no multiple of 16.
        """
        if film.shape[2] % REDUCTION or film.shape[3] % REDUCTION:
            raise ValueError(
                f"`film` must have rows and columns in multiples of {REDUCTION}, got {tuple(film.shape[2:])}."
            )
        return self.body(film)

    def look(self, film: Tensor) -> Tensor:
        """Scores as `forward` gives them, of probabilities averaged over five places of the film among the cells."""

        def probabilities(shift: int) -> Tensor:
            rest = -shift % REDUCTION
            moved = nn.functional.pad(film, (shift, rest, shift, rest))
            scores = self(moved)[:, :, shift : shift + film.shape[2], shift : shift + film.shape[3]]
            return log_probabilities(scores).exp()

        total = reduce(torch.add, map(probabilities, _SHIFTS))
        log = (total / len(_SHIFTS)).clamp(min=1e-20).log()
        return (log[..., :-1] - log[..., -1:]).unflatten(2, tuple(film.shape[2:]))

    @classmethod
    def load(cls, path: str | Path) -> KneeFinder:
        """A finder from a file of tensors alone, as `bundle.engines.finish_finder` writes it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, or of another network.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"knee finder {path}: no such file; `make knee-finder` trains one.")
        finder = cls()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            finder.load_state_dict({name: value.float() for name, value in state.items()})
        except Exception as error:  # torch raises a different class for every kind of damage
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"knee finder {path}: not the weights of this network ({reason}).") from None
        return finder.eval()


def log_probabilities(scores: Tensor) -> Tensor:
    """Scores (B, M, H, W) to log-probabilities (B, M, H * W + 1), the last one that of "not there"."""
    absent = scores.new_zeros(*scores.shape[:2], 1)
    return torch.cat([scores.flatten(2), absent], dim=2).log_softmax(dim=2)


def find_peaks(scores: Tensor) -> Peaks:
    """The most probable place of each map, between pixels, and the probability that it is thereabouts.

    Args:
        scores: (B, M, H, W), of `KneeFinder`.

    Returns:
        peaks; the probability is that of the 9 x 9 pixels round the peak.
    """
    height, width = scores.shape[2:]
    maps = log_probabilities(scores)[..., :-1].exp().unflatten(2, (height, width))
    best = maps.flatten(2).argmax(dim=2)
    rows, columns = best // width, best % width

    reach = torch.arange(_WINDOW, device=scores.device) - _WINDOW // 2
    r, c = rows[..., None] + reach, columns[..., None] + reach
    inside = ((r >= 0) & (r < height))[..., :, None] & ((c >= 0) & (c < width))[..., None, :]
    at = r.clamp(0, height - 1)[..., :, None] * width + c.clamp(0, width - 1)[..., None, :]
    weight = maps.flatten(2).gather(2, at.flatten(2)).unflatten(2, (_WINDOW, _WINDOW)) * inside
    total = weight.sum(dim=(2, 3))
    place = torch.stack([(weight.sum(dim=3) * r).sum(dim=2), (weight.sum(dim=2) * c).sum(dim=2)], dim=2)
    return Peaks(place / total.clamp(min=1e-12)[..., None], total)


def landmark_loss(scores: Tensor, points: Tensor, *, sd: float = 1.5) -> Tensor:
    """Cross-entropy between the maps and Gaussians round the true points, or "not there"; mean over maps.

    Args:
        scores: (B, M, H, W).
        points: (B, M, 2) row and column in pixels; NaN, or outside the film, for what is not there.
        sd: of the Gaussians, pixels.
    """
    height, width = scores.shape[2:]
    rows = torch.arange(height, device=scores.device, dtype=scores.dtype)
    columns = torch.arange(width, device=scores.device, dtype=scores.dtype)
    there = points.isfinite().all(dim=2)
    there = there & (points >= 0).all(dim=2) & (points[..., 0] <= height - 1) & (points[..., 1] <= width - 1)
    centre = points.to(scores.dtype).nan_to_num()
    down = torch.exp(-0.5 * ((rows - centre[..., :1]) / sd).square())
    across = torch.exp(-0.5 * ((columns - centre[..., 1:]) / sd).square())
    target = (down[..., :, None] * across[..., None, :]).flatten(2)
    target = target / target.sum(dim=2, keepdim=True).clamp(min=1e-12) * there[..., None]
    target = torch.cat([target, (~there)[..., None].to(scores.dtype)], dim=2)
    return -(target * log_probabilities(scores)).sum(dim=2).mean()
