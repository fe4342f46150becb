"""One process or several: rank, world size, and the wrapping of a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import ignite.distributed as idist
import torch
from torch import nn

T = TypeVar("T")


def join_group() -> None:
    """Join the process group that `torchrun` describes; nothing without it. NCCL where CUDA is, else gloo."""
    if "RANK" in os.environ and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    """This process's rank; 0 alone."""
    return idist.get_rank()


def world_size() -> int:
    """Number of processes; 1 alone."""
    return idist.get_world_size()


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of `items`: neighbours stay together, so that the ranks' results in order are in order.

    Raises:
        ValueError: if there are fewer items than processes.
    """
    ranks = idist.get_world_size()
    if len(items) < ranks:
        raise ValueError(f"`items` must be at least one a process ({ranks}), got {len(items)}; start fewer processes.")
    ends = [len(items) * number // ranks for number in (idist.get_rank(), idist.get_rank() + 1)]
    return items[ends[0] : ends[1]]


def distributed(network: nn.Module) -> nn.Module:
    """The network, in DistributedDataParallel where there are several processes."""
    if idist.get_world_size() == 1:
        return network
    device = next(network.parameters()).device
    return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
