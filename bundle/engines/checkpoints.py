"""Checkpoints of a training, and the way back into it after an interruption."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader, CheckpointSaver

logger = logging.getLogger(__name__)


class EpochCheckpoints:
    """Save after every epoch, and go on from the newest checkpoint of the folder.

    MONAI's saver and loader do the work (files appear whole, loading runs nothing); this finds the newest file.

    Args:
        folder: where the checkpoints are; the last two are kept.
        objects: name to object with `state_dict`; one of them is the trainer.
    """

    def __init__(self, folder: str, objects: dict[str, Any]) -> None:
        self.folder, self.objects = Path(folder), objects

    def attach(self, trainer: Engine) -> None:
        """Attach saving, and resuming when the trainer starts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        saver = CheckpointSaver(
            save_dir=str(self.folder), save_dict=self.objects, file_prefix="", save_interval=1, n_saved=2
        )
        saver.attach(trainer)
        trainer.add_event_handler(Events.STARTED, self.resume)

    def resume(self, trainer: Engine) -> None:
        """Load the newest checkpoint, if there is one."""
        newest = newest_checkpoint(self.folder)
        if newest is not None:
            CheckpointLoader(str(newest), self.objects, map_location={}).__call__(trainer)
            logger.info(f"resumed from {newest} after epoch {trainer.state.epoch}")


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of the highest epoch in `folder`, or None."""
    found = [
        (int(match[1]), path) for path in Path(folder).glob("*.pt") if (match := re.search(r"epoch=(\d+)", path.name))
    ]
    return max(found)[1] if found else None
