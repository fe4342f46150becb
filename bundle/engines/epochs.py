"""What a trainer does around its epochs: name the epoch to the data, log the loss, set the learning rate."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from bundle.writers import whole


class EpochToDataset:
    """Tell the dataset which epoch it draws for; let it prepare itself when the trainer starts.

    Args:
        dataset: with `set_epoch`, and perhaps `prepare`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def attach(self, trainer: Engine) -> None:
        """Attach to a trainer."""
        if hasattr(self.dataset, "prepare"):
            trainer.add_event_handler(Events.STARTED, lambda _: self.dataset.prepare())
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.dataset.set_epoch(engine.state.epoch))


class LossLog:
    """Write each epoch's mean loss to a CSV file that holds every stage of a run.

    A resumed training overwrites the rows from its epoch on, so the file reads as if it had never stopped.

    Args:
        path: the CSV file; columns stage, epoch, iterations, loss.
        stage: name of the stage.
    """

    columns = ("stage", "epoch", "iterations", "loss")

    def __init__(self, path: str, stage: str) -> None:
        self.path, self.stage = Path(path), stage
        self.total, self.count = 0.0, 0

    def attach(self, trainer: Engine) -> None:
        """Attach to a trainer."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def start(self, _: Engine) -> None:
        """Begin an epoch."""
        self.total, self.count = 0.0, 0

    def add(self, trainer: Engine) -> None:
        """Count an iteration."""
        self.total += float(trainer.state.output["loss"].detach())
        self.count += 1

    def write(self, trainer: Engine) -> None:
        """Write the epoch's mean, averaged over ranks."""
        mean = float(idist.all_reduce(self.total)) / (self.count * idist.get_world_size())
        trainer.state.metrics["loss"] = mean
        if idist.get_rank() != 0:
            return
        rows = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if not self._redone(row, trainer.state.epoch)]
        rows.append({"stage": self.stage, "epoch": trainer.state.epoch, "iterations": self.count, "loss": repr(mean)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def _redone(self, row: dict[str, str], epoch: int) -> bool:
        return row["stage"] == self.stage and int(row["epoch"]) >= epoch


def warm_up_then_cosine(warm_up_steps: int, total_steps: int, *, final: float = 0.05) -> Callable[[int], float]:
    """Factor on the learning rate: linear rise, then half a cosine down.

    Args:
        warm_up_steps: steps of the rise.
        total_steps: steps of the whole training.
        final: the factor at the end; 1 keeps the rate flat after the rise (the paper).

    Returns:
        step to factor, for `torch.optim.lr_scheduler.LambdaLR`.
    """

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / max(1, warm_up_steps))
        done = min(1.0, step / max(1, total_steps))
        return rise * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))

    return factor
