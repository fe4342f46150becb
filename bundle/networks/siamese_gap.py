"""Siamese-GAP: one branch reads the medial and the lateral patch of a joint; all its levels are pooled and fused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.visualize import GradCAM
from torch import Tensor, nn

POOLING: dict[str, Callable[[Tensor, int], Tensor]] = {
    "average": nn.functional.adaptive_avg_pool2d,
    "maximum": nn.functional.adaptive_max_pool2d,
}
"""What makes one number of a map of a level: the paper's choice, and the other arm of its ablation."""
ABOUT = "about"
"""Entry of a weights file: JSON, as a uint8 tensor, that says which network it is and what it was trained on."""


class SiameseGAP(nn.Module):
    """Two patches through one set of convolutions; each level's maps are pooled, and one linear layer reads them all.

    The layers are a decision: the paper's text at hand names a Siamese network with global average pooling at every
    level, not their sizes (docs/siamese_gap.md).

    Args:
        outputs: numbers given for a knee: 2 for Kellgren-Lawrence 0 against 2, a grade table's width for readings.
        channels: of each level, first to last; every further level halves rows and columns.
        pooling: `average` (the paper) or `maximum` (its ablation).

    Raises:
        ValueError: if an argument is out of range.

    Source:
        Wang et al., "Siamese-GAP network for early detection of knee osteoarthritis", ISBI 2022,
        doi:10.1109/ISBI52829.2022.9761626.
    """

    def __init__(
        self, outputs: int = 2, channels: Sequence[int] = (32, 64, 128, 256), pooling: str = "average"
    ) -> None:
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"`pooling` must be one of {', '.join(POOLING)}, got {pooling!r}.")
        if outputs < 2 or not channels or min(channels) < 1:
            raise ValueError(f"`outputs` must be 2 or more and `channels` positive, got {outputs} and {channels}.")
        self.outputs, self.channels, self.pooling = int(outputs), tuple(int(c) for c in channels), pooling
        before = (1, *self.channels[:-1])
        self.levels = nn.ModuleList(_level(a, b) for a, b in zip(before, self.channels, strict=True))
        self.halve = nn.MaxPool2d(2)
        self.head = nn.Linear(2 * sum(self.channels), self.outputs)

    def forward(self, patches: Tensor) -> Tensor:
        """Scores of knees.

        Args:
            patches: (B, 2, h, w) in [-1, 1]: medial and lateral, the lateral one reversed (`JointPatches`).

        Returns:
            (B, outputs), before any softmax.

        Raises:
            ValueError: if the patches have another shape, or are too small for the levels.
        """
        smallest = 2 ** (len(self.channels) - 1)
        if patches.ndim != 4 or patches.shape[1] != 2 or min(patches.shape[2:]) < smallest:
            raise ValueError(
                f"`patches` must have shape (B, 2, h, w) with h and w of at least {smallest}, got "
                f"{tuple(patches.shape)}; cut them with `JointPatches`."
            )
        maps, pooled = patches.flatten(0, 1)[:, None], []
        for number, level in enumerate(self.levels):
            maps = level(self.halve(maps) if number else maps)
            pooled.append(POOLING[self.pooling](maps, 1).flatten(1))
        both = torch.cat(pooled, dim=1).unflatten(0, (-1, 2)).flatten(1)
        return self.head(both)

    def settings(self) -> dict[str, Any]:
        """Arguments that build a network of these shapes."""
        return {"outputs": self.outputs, "channels": list(self.channels), "pooling": self.pooling}


def _level(before: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inward in (before, channels):
        layers += [nn.Conv2d(inward, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


def parameter_table(network: SiameseGAP, *, patch_size: int) -> list[tuple[str, str, str, int]]:
    """The network layer by layer, as the paper's table has its own.

    Returns:
        rows of name, operation, shape of what comes out for one patch (for one knee: `fused` and `scores`), and number
        of trained parameters.
    """
    rows, size, before = [], patch_size, 1
    operations = {"average": "global average pooling", "maximum": "global maximum pooling"}
    for number, (level, channels) in enumerate(zip(network.levels, network.channels, strict=True), start=1):
        if number > 1:
            size //= 2
            rows.append((f"halve {number}", "maximum pooling 2x2", f"{before} x {size} x {size}", 0))
        count = sum(parameter.numel() for parameter in level.parameters())
        rows.append((f"level {number}", "2 x (conv 3x3, batch norm, ReLU)", f"{channels} x {size} x {size}", count))
        rows.append((f"pool {number}", operations[network.pooling], str(channels), 0))
        before = channels
    fused = network.head.in_features
    rows.append(("fused", "all levels, both patches", str(fused), 0))
    rows.append(("scores", "linear", str(network.outputs), sum(p.numel() for p in network.head.parameters())))
    return rows


def knee_attention(network: SiameseGAP, patches: Tensor, *, output: int) -> Tensor:
    """Grad-CAM of the last level: what in both patches speaks for an output.

    Args:
        network: in evaluation mode.
        patches: (1, 2, h, w), of one knee.
        output: index of the output.

    Returns:
        (2, h, w) in [0, 1], the larger of a knee's two maxima at 1; all zeros where nothing speaks for it.

    Source:
        Selvaraju et al., "Grad-CAM", ICCV 2017, by `monai.visualize.GradCAM`.
    """
    if patches.shape[0] != 1:
        raise ValueError(f"`patches` must be of one knee, (1, 2, h, w), got {tuple(patches.shape)}.")
    layer = f"levels.{len(network.levels) - 1}"
    explain = GradCAM(network, layer, postprocessing=lambda raw: raw)
    # An input that needs a gradient lets MONAI's hooks fire.
    maps = explain(patches.detach().requires_grad_(), class_idx=output)[:, 0].detach()
    return maps / maps.max().clamp(min=1e-12)


def load_siamese(path: str | Path, *, remedy: str) -> tuple[SiameseGAP, Mapping[str, Any]]:
    """A network from a file that `bundle.engines.finish_siamese` wrote.

    Args:
        path: the file.
        remedy: what to do where it is absent, for the error.

    Returns:
        the network in evaluation mode, and what the file says of it: `settings`, `patches` (arguments of
        `JointPatches`), `target` and `trained_on`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {remedy}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        about = json.loads(bytes(state.pop(ABOUT).tolist()))
        network = SiameseGAP(**about["settings"])
        network.load_state_dict(state)
    except Exception as error:  # torch raises a different class for every kind of damage
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: not the weights of a Siamese-GAP network ({reason}).") from None
    return network.eval(), about
