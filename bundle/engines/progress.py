"""Progress of a training or an evaluation on stderr, and validation scores in a file."""

from __future__ import annotations

import csv
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.utils import optional_import

tqdm, _ = optional_import("tqdm", name="tqdm")


class Progress:
    """One bar over all epochs of a stage, with the last epoch's loss where there is one.

    Args:
        stage: name in front of the bar.
        unit: what an iteration is.
    """

    def __init__(self, stage: str, *, unit: str = "step") -> None:
        self.stage, self.unit = stage, unit

    def attach(self, trainer: Engine) -> None:
        """Attach to a trainer or an evaluator."""
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.describe)
        trainer.add_event_handler(Events.COMPLETED, lambda _: self.bar.close())

    def start(self, trainer: Engine) -> None:
        """Open the bar."""
        total = (trainer.state.max_epochs or 0) * (trainer.state.epoch_length or 0)
        self.bar = tqdm(total=total, desc=self.stage, unit=self.unit, disable=idist.get_rank() != 0)

    def advance(self, trainer: Engine) -> None:
        """Move the bar to the trainer's step, which a resumed training does not count from 0."""
        self.bar.update(trainer.state.iteration - self.bar.n)

    def describe(self, trainer: Engine) -> None:
        """Show epoch and loss."""
        loss = trainer.state.metrics.get("loss")
        words = {} if loss is None else {"loss": f"{loss:.4f}"}
        self.bar.set_postfix({"epoch": trainer.state.epoch} | words if (trainer.state.max_epochs or 0) > 1 else words)


class MetricLog:
    """Append a validation's scores, with the epoch they were taken at, to a CSV file.

    Args:
        path: the file; columns epoch and the metrics.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def attach(self, evaluator: Engine) -> None:
        """Attach to an evaluator that MONAI's `ValidationHandler` runs."""
        evaluator.add_event_handler(Events.COMPLETED, self.write)

    def write(self, evaluator: Engine) -> None:
        """Write one row."""
        if idist.get_rank() != 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            names = sorted(evaluator.state.metrics)
            if new:
                writer.writerow(["epoch", *names])
            # MONAI's validation handler names the trainer's epoch to the evaluator
            writer.writerow([evaluator.state.epoch, *(evaluator.state.metrics[name] for name in names)])
