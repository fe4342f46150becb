"""One MLflow run for a whole training or evaluation, around the handlers that `--tracking mlflow` adds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler
from torch import Tensor

from bundle.engines.mlflow_store import experiment_of, log_metrics, log_parameters, run_of, stay_at_home
from bundle.engines.record import merged_config
from bundle.keys import FILM, PRED
from bundle.writers import PicturedKnee, file_hash, knee_strip

REMEMBERED = "mlflow_run.txt"
LABEL = "label"
"""The real volume in an engine's output (MONAI's key)."""


class TrackedRun:
    """What MONAI's tracking leaves out: other stages, parameters, pictures, hash of the weights, going on in one run.

    `--tracking mlflow` appends an `MLFlowHandler` to the handlers of `train::trainer`, `validate::evaluator` and
    `evaluator`. This class looks for it. Where there is none (no tracking; a rank above 0) every call does nothing.

    Args:
        handlers: list of handlers that MONAI appends one to.
        folder: the run's `output_dir`. It remembers the run's identifier, so that a resumed training goes on in it;
            None begins a new run each time, as for evaluations.
        name: of the run where the config has no `run_name`.
        pictured: how many knees a picture shows.

    Raises:
        ValueError: if `pictured` is negative.
    """

    def __init__(
        self, handlers: Sequence[Any], *, folder: str | None = None, name: str = "evaluation", pictured: int = 4
    ) -> None:
        if pictured < 0:
            raise ValueError(f"`pictured` must not be negative, got {pictured}.")
        self.pictured = pictured
        self.handler = _tracker_among(handlers)
        if self.handler is None:
            return
        stay_at_home()
        self.client = self.handler.client
        experiment = experiment_of(self.client, self.handler.experiment_name, artifacts=self.handler.artifact_location)
        remembered = None if folder is None else Path(folder, REMEMBERED)
        self.run = run_of(self.client, experiment, name=self.handler.run_name or name, remembered=remembered)
        self.run_id: str = self.run.info.run_id
        self.client.set_tag(self.run_id, "kind", "evaluation" if folder is None else "training")
        config = merged_config(sys.argv[1:])
        if config is not None:
            log_parameters(self.client, self.run_id, config)
            self.client.log_dict(self.run_id, config, "config.json")

    def follow(self, stage: str, trainer: Engine, handlers: Sequence[Any] = ()) -> None:
        """Track a stage's losses: `<stage>/iteration_loss` and rate a step, `<stage>/loss` an epoch.

        Args:
            stage: name in front of the metrics.
            trainer: MONAI trainer whose `state.metrics["loss"]` is the epoch's mean (`LossLog`).
            handlers: the trainer's, if MONAI may have put a handler there; without one the trainer gets its own.
        """
        if self.handler is None:
            return
        tracker = _tracker_among(handlers)
        if tracker is None:
            tracker = MLFlowHandler(
                tracking_uri=self.client.tracking_uri,
                experiment_name=self.handler.experiment_name,
                artifact_location=self.handler.artifact_location,
            )
            tracker.attach(trainer)
        self._adopt(tracker)
        tracker.epoch_logger = partial(self._log_metrics, stage)
        tracker.iteration_logger = partial(self._log_step, stage)

    def score(self, split: str, evaluator: Engine, handlers: Sequence[Any] = ()) -> None:
        """Track an evaluator's metrics as `<split>/<metric>`, and a picture of its first volumes at each run.

        Args:
            split: name in front of the metrics, and folder of the pictures.
            evaluator: MONAI evaluator.
            handlers: the evaluator's, if MONAI may have put a handler there.
        """
        if self.handler is None:
            return
        tracker = _tracker_among(handlers)
        if tracker is not None:
            self._adopt(tracker)
        knees: list[PicturedKnee] = []
        evaluator.add_event_handler(Events.STARTED, lambda _: knees.clear())
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: self._collect(engine, knees))
        # at the end, when reports have put their figures among the metrics, too
        evaluator.add_event_handler(Events.COMPLETED, lambda engine: self._log_metrics(split, engine))
        evaluator.add_event_handler(Events.COMPLETED, lambda engine: self._picture(engine, split, knees))

    def close(self, *, weights: str | None = None, files: Sequence[str] = ()) -> None:
        """Record what a run has written, and mark it finished.

        Args:
            weights: weights file; its hash becomes the tag `weights_sha256`.
            files: kept as artifacts, those that exist.
        """
        if self.handler is None:
            return
        if weights is not None and Path(weights).is_file():
            self.client.set_tag(self.run_id, "weights_sha256", file_hash(weights))
        for path in files:
            if Path(path).is_file():
                self.client.log_artifact(self.run_id, str(path))
        self.client.set_terminated(self.run_id)

    def _adopt(self, tracker: MLFlowHandler) -> None:
        """Let a handler of MONAI's use this run, and write nothing but what this class tells it."""
        tracker.cur_run = self.run
        tracker.default_tracking_params = []  # epochs are among the run's parameters
        tracker.epoch_logger = _nothing

    def _log_step(self, stage: str, engine: Engine) -> None:
        values = {f"{stage}/iteration_loss": float(engine.state.output["loss"].detach())}
        optimiser = getattr(engine, "optimizer", None)
        if optimiser is not None:
            values[f"{stage}/learning_rate"] = float(optimiser.param_groups[0]["lr"])
        self._log(values, engine.state.iteration)

    def _log_metrics(self, prefix: str, engine: Engine) -> None:
        self._log({f"{prefix}/{name}": value for name, value in engine.state.metrics.items()}, engine.state.epoch)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        log_metrics(self.client, self.run_id, values, step)

    def _collect(self, engine: Engine, knees: list[PicturedKnee]) -> None:
        for item in engine.state.output if isinstance(engine.state.output, list) else []:
            if len(knees) < self.pictured and isinstance(item.get(PRED), Tensor) and item[PRED].ndim == 4:
                knees.append(PicturedKnee(_plain(item[FILM]), _plain(item[PRED]), _plain(item.get(LABEL))))

    def _picture(self, engine: Engine, split: str, knees: list[PicturedKnee]) -> None:
        if knees:
            self.client.log_image(self.run_id, knee_strip(knees), f"{split}/epoch={engine.state.epoch:05d}.png")


def _nothing(_: Engine) -> None:
    """What an adopted handler writes after an epoch, unless told otherwise."""


def _tracker_among(handlers: Sequence[Any]) -> MLFlowHandler | None:
    return next((handler for handler in handlers if isinstance(handler, MLFlowHandler)), None)


def _plain(image: Any) -> Any:
    """An image or volume (1, ...) as an array without channel axis; None stays None."""
    return np.asarray(image.detach().cpu().float())[0] if isinstance(image, Tensor) else None
