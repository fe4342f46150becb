"""Training of a Siamese-GAP network: its batches, and the file it ends in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from monai.engines import PrepareBatch
from torch import Tensor

from bundle.data.datalist import source
from bundle.data.graded_knees import TARGET
from bundle.engines.slices import as_plain
from bundle.networks.siamese_gap import ABOUT, SiameseGAP, load_siamese
from bundle.transforms.joint_patches import PATCHES
from bundle.weights.files import write_whole


class PreparePatches(PrepareBatch):
    """Patches (B, 2, h, w), and the one-hot vector of what they show, (B, outputs)."""

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Items of a data set with patches."""
        patches, target = (as_plain(batchdata[key]).to(device, non_blocking=non_blocking) for key in (PATCHES, TARGET))
        return patches.float(), target.float()


def finish_siamese(
    network: SiameseGAP,
    *,
    path: str,
    patches: Mapping[str, float],
    blocks: Mapping[str, int],
    dataset_dir: str,
    run_name: str,
    reads: str = "film",
) -> None:
    """Write a network, with what it needs to be used again, to one file of tensors, whole or not at all.

    Args:
        network: the trained network.
        path: file to write.
        patches: arguments of the `JointPatches` that it was trained with.
        blocks: variable to number of grades, in the order of its outputs.
        dataset_dir: the prepared data, whose source is recorded.
        run_name: recorded, too.
        reads: what its patches are cut from, `film` or `volume`; kept, so that neither is taken for the other.
    """
    if idist.get_rank() != 0:
        return
    about = {
        "settings": network.settings(),
        "patches": dict(patches),
        "blocks": dict(blocks),
        "reads": reads,
        "trained_on": f"{source(dataset_dir)}; run {run_name}",
    }
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    state[ABOUT] = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
    print(write_whole(state, path))


def load_trained(network: SiameseGAP, path: str) -> None:
    """Put the weights of a file into a network of the same shapes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or of other shapes.
    """
    found, _ = load_siamese(path, remedy="run `training` of the same configuration first.")
    if found.settings() != network.settings():
        raise ValueError(f"{path}: is a network of {found.settings()}, the configuration asks {network.settings()}.")
    network.load_state_dict(found.state_dict())
