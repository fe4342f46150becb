"""A batch in parts that fit memory, with the gradient of the whole."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from monai.engines import Trainer
from torch import Tensor

from bundle.engines.prepare_batch import window_of


class MicroBatches:
    """`iteration_update` of a `SupervisedTrainer`: one optimiser step of a batch that goes forward in parts.

    MONAI's `accumulation_steps` counts parts as iterations: learning rate and moving average would move with each,
    and an epoch's last, incomplete batch would weigh less than it does without accumulation.

    Args:
        size: slices of a part, on each process. A window of slices that see each other stays whole: a part is as many
            windows as `size` has room for, at least one.

    Raises:
        ValueError: if `size` is not positive.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"`size` must be at least 1, got {size}.")
        self.size = size

    def __call__(self, engine: Trainer, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        """Train on a batch; the loss must be a mean over items."""
        trainer: Any = engine
        inputs, targets, args, conditions = trainer.prepare_batch(batchdata, trainer.state.device, trainer.non_blocking)
        trainer.network.train()
        trainer.optimizer.zero_grad()
        count, total = len(inputs), torch.zeros((), device=inputs.device)
        depth = conditions.get("depth")
        window = 1 if depth is None else window_of(depth)
        size = max(self.size // window, 1) * window
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            last = part.stop == count
            # ranks exchange gradients once a step
            waiting = hasattr(trainer.network, "no_sync") and not last
            with trainer.network.no_sync() if waiting else nullcontext():
                told = _part(conditions, part)
                if window > 1:
                    told["depth"] = depth[part.start // window : part.stop // window]
                prediction = trainer.inferer(inputs[part], trainer.network, *args, **told)
                loss = trainer.loss_function(prediction, _part(targets, part)) * ((part.stop - part.start) / count)
                loss.backward()
            total += loss.detach()
        trainer.optimizer.step()
        return {"image": inputs, "label": targets, "loss": total}


def _part(value: Any, part: slice) -> Any:
    """The items of a tensor, or of every tensor of a dictionary."""
    return {name: _part(entry, part) for name, entry in value.items()} if isinstance(value, dict) else value[part]
