"""One process or several: rank, world size, and the wrapping of a network."""

from __future__ import annotations

import os

import ignite.distributed as idist
import torch
from torch import nn


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


def distributed(network: nn.Module) -> nn.Module:
    """The network, in DistributedDataParallel where there are several processes."""
    if idist.get_world_size() == 1:
        return network
    device = next(network.parameters()).device
    return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
