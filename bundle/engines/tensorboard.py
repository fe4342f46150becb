"""The switch of MONAI's TensorBoard handlers."""

from __future__ import annotations

import ignite.distributed as idist
from monai.utils import optional_import

SummaryWriter, has_tensorboard = optional_import("torch.utils.tensorboard", name="SummaryWriter")


def is_off(wanted: bool) -> bool:
    """Whether the handlers stay out: nobody wants them, or this process is not the first.

    Args:
        wanted: the id `tensorboard` of a config.

    Raises:
        OptionalImportError: if they are wanted and the package tensorboard, which the lock does not hold, is missing.
    """
    if wanted and not has_tensorboard:
        SummaryWriter()  # MONAI's stand-in raises by name
    return not wanted or idist.get_rank() > 0
