"""A network's forward pass in the number format that a config names."""

from __future__ import annotations

import logging
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor, nn

logger = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WITHOUT_BFLOAT16 = ("AVX2", "NO AVX")
"""Instruction sets, as torch calls them, of which none computes in bfloat16: it is emulated there."""


class PrecisionInferer(SimpleInferer):
    """Calls the network, in mixed precision where that is asked for; what comes back is float32.

    MONAI's `amp` casts on CUDA alone and scales the loss, which bfloat16, with float32's range, does not need.
    Parameters, their averages, the loss and the optimiser stay float32.

    Args:
        precision: `float32` or `bfloat16`.

    Raises:
        ValueError: on another one.
    """

    def __init__(self, precision: str = "float32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"`precision` must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
        self.dtype = PRECISIONS[precision]
        self._told = self.dtype == torch.float32

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """The network's output, a tensor or a tuple of tensors, of which some may be None."""
        if self.dtype == torch.float32:
            return network(inputs, *args, **kwargs)
        if not self._told and inputs.device.type == "cpu":
            self._told = True
            found = torch.backends.cpu.get_cpu_capability()
            if found in WITHOUT_BFLOAT16:
                # a convolution and its gradient took 4.5 times as long (64 channels, 64 x 64, one core of an EPYC)
                logger.warning(
                    "this processor (%s) only emulates bfloat16, which is several times slower than float32 there; "
                    "use --precision float32.",
                    found,
                )
        with torch.autocast(inputs.device.type, dtype=self.dtype):
            output = network(inputs, *args, **kwargs)
        if isinstance(output, tuple):
            return tuple(None if part is None else part.float() for part in output)
        return output.float()
