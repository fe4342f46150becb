"""The paper's figure of patches for any trained network: what is cut from films, and where the network looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bundle.data.graded_knees import TARGET
from bundle.engines.slices import as_plain
from bundle.geometry import FIELD_OF_VIEW_MM
from bundle.keys import FILM, PARTICIPANT
from bundle.networks.grade_blocks import log_probabilities
from bundle.networks.siamese_gap import SiameseGAP, knee_attention
from bundle.transforms.joint_patches import PATCHES
from bundle.writers.patch_sheet import PatchRow, write_patch_sheet


def picture_patches(
    network: SiameseGAP,
    *,
    dataset: Sequence[Mapping[str, Any]],
    patches: Mapping[str, float],
    blocks: Mapping[str, int],
    path: str,
    knees: int = 6,
) -> None:
    """Write the picture of a few knees.

    Knees are taken in turn from each grade, in the order of the data, never by score. Grad-CAM is of the highest grade.

    Args:
        network: the trained network.
        dataset: knees with `image` (1, H, W) in [-1, 1], `patches` and `target`.
        patches: `patch_mm` and `centre_mm` that they were cut with.
        blocks: variable to number of grades; the first one is explained.
        path: PNG to write.
        knees: how many.
    """
    name, grades = next(iter(blocks.items()))
    device = next(network.parameters()).device
    network.eval()
    rows = []
    for knee in _in_turn(dataset, grades)[:knees]:
        cut = as_plain(knee[PATCHES])[None].float().to(device)
        with torch.no_grad():
            chance = log_probabilities(network(cut), blocks)[name][0].exp()
        attention = knee_attention(network, cut, output=grades - 1)
        known = torch.as_tensor(knee[TARGET])[:grades]
        class_ = int(known.argmax()) if known.any() else None
        rows.append(
            PatchRow(
                title=f"{knee[PARTICIPANT]}: {name} class {'unknown' if class_ is None else class_}, chance of the "
                f"highest {float(chance[-1]):.2f}",
                film=((as_plain(knee[FILM])[0] + 1) / 2).numpy(),
                squares=squares(**{key: patches[key] for key in ("patch_mm", "centre_mm")}),
                patches=((cut[0].cpu() + 1) / 2).numpy(),
                attention=attention.detach().cpu().numpy(),
            )
        )
    print(
        write_patch_sheet(
            rows, path, title=f"Joint patches and Grad-CAM of the highest class; {network.pooling} pooling"
        )
    )


def squares(*, patch_mm: float, centre_mm: float) -> dict[str, tuple[float, float, float]]:
    """First row, first column and edge of each patch, in shares of the film's edge."""
    half, edge = (FIELD_OF_VIEW_MM - patch_mm) / 2, patch_mm / FIELD_OF_VIEW_MM
    return {
        name: (half / FIELD_OF_VIEW_MM, (half + side * centre_mm) / FIELD_OF_VIEW_MM, edge)
        for name, side in (("medial", 1), ("lateral", -1))
    }


def _in_turn(dataset: Sequence[Mapping[str, Any]], grades: int) -> list[Mapping[str, Any]]:
    """Knees with one of each grade after the other, in the order of the data."""
    queues: list[list[int]] = [[] for _ in range(grades + 1)]
    for index in range(len(dataset)):
        known = torch.as_tensor(dataset[index][TARGET])[:grades]
        queues[int(known.argmax()) if known.any() else grades].append(index)
    chosen = [queue[turn] for turn in range(len(dataset)) for queue in queues if turn < len(queue)]
    return [dataset[index] for index in chosen]
