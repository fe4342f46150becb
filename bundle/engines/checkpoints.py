"""Checkpoints of a training, and the way back into it after an interruption."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.handlers import CheckpointLoader

logger = logging.getLogger(__name__)
KEPT = 2


class EpochCheckpoints:
    """Save after every epoch, and go on from the newest checkpoint of the folder.

    Ignite's saver writes to a temporary name and renames; MONAI's does not, and a training that was killed while it
    saved could not be resumed. MONAI's loader runs nothing that a file may hold.

    Args:
        folder: where the checkpoints are; the last two are kept.
        objects: name to object with `state_dict`; one of them is the trainer.
    """

    def __init__(self, folder: str, objects: dict[str, Any]) -> None:
        self.folder, self.objects = Path(folder), objects

    def attach(self, trainer: Engine) -> None:
        """Attach saving, and resuming when the trainer starts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        saver = Checkpoint(
            self.objects,
            DiskSaver(str(self.folder), atomic=True, create_dir=True, require_empty=False),
            filename_pattern="epoch={global_step}.{ext}",
            global_step_transform=lambda engine, _: engine.state.epoch,
            n_saved=None,
        )
        trainer.add_event_handler(Events.EPOCH_COMPLETED, saver)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.forget)
        trainer.add_event_handler(Events.STARTED, self.resume)

    def forget(self, _: Engine) -> None:
        """Delete all but the newest checkpoints, those of an interrupted run included."""
        if idist.get_rank() == 0:
            for old in _by_epoch(self.folder)[:-KEPT]:
                old.unlink()

    def resume(self, trainer: Engine) -> None:
        """Load the newest checkpoint, if there is one."""
        newest = newest_checkpoint(self.folder)
        if newest is not None:
            CheckpointLoader(str(newest), self.objects, map_location={})(trainer)
            logger.info(f"resumed from {newest} after epoch {trainer.state.epoch}")

    def restore(self) -> None:
        """Take network and averages from the newest checkpoint, if there is one: for a stage that is not run again."""
        newest = newest_checkpoint(self.folder)
        if newest is not None:
            held = torch.load(newest, map_location="cpu", weights_only=True)
            for name in {"network", "average"} & set(self.objects):
                self.objects[name].load_state_dict(held[name])
            logger.info(f"this stage is left out of `stages`; its weights are those of {newest}")


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of the highest epoch in `folder`, or None."""
    found = _by_epoch(Path(folder))
    return found[-1] if found else None


def _by_epoch(folder: Path) -> list[Path]:
    """Checkpoints from the first epoch to the last."""
    matches = [(re.fullmatch(r"epoch=(\d+)\.pt", path.name), path) for path in folder.glob("*.pt")]
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]
