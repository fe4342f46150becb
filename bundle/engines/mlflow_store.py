"""MLflow's store as this bundle uses it: a file beside the results, no server, nothing sent anywhere."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.utils import optional_import, path_to_sqlite_uri, path_to_uri

mlflow, _ = optional_import("mlflow")
Metric, _ = optional_import("mlflow.entities", name="Metric")
MlflowException, _ = optional_import("mlflow.exceptions", name="MlflowException")

EXPERIMENT = "knee_xray_to_mri"
STORE = "mlruns.db"
LONGEST = 500
"""Characters of a parameter's value that are kept."""


def stay_at_home() -> None:
    """Turn MLflow's usage reports off (it sends them by default), and its lines about the store's tables.

    Raises:
        OptionalImportError: if mlflow is not installed.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    mlflow.telemetry.set_telemetry_client()
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)


def local_client(folder: str | Path) -> tuple[Any, str]:
    """A client of the store in `folder`, made if absent (its first use takes some ten seconds).

    Args:
        folder: where `mlruns.db` and, beside it, the artifacts of `mlruns/` are.

    Returns:
        client, identifier of the experiment.
    """
    stay_at_home()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    client = mlflow.MlflowClient(tracking_uri=path_to_sqlite_uri(folder / STORE))
    return client, experiment_of(client, EXPERIMENT, artifacts=path_to_uri(folder.absolute() / "mlruns"))


def experiment_of(client: Any, name: str, *, artifacts: str | None) -> str:
    """Identifier of an experiment, made if absent.

    Args:
        client: of the store.
        name: of the experiment.
        artifacts: address of its artifacts where it is made; None leaves it to MLflow.
    """
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name, artifact_location=artifacts)


def run_of(client: Any, experiment: str, *, name: str, remembered: Path | None = None) -> Any:
    """A run: the one that a file remembers, opened again, or a new one that the file then remembers.

    Args:
        client: of the store.
        experiment: its identifier.
        name: of a new run.
        remembered: file with a run's identifier; None always makes a new run.
    """
    if remembered is not None and remembered.is_file():
        try:
            run = client.get_run(remembered.read_text().strip())
            client.update_run(run.info.run_id, status="RUNNING")
            return run
        except MlflowException:
            pass  # another store, or a store that was deleted
    run = client.create_run(experiment, run_name=name)
    if remembered is not None:
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(run.info.run_id + "\n")
    return run


def log_parameters(client: Any, run_id: str, config: Mapping[str, Any]) -> None:
    """Record the plain top-level values of a configuration; what has changed since is a tag `changed.<id>`.

    MLflow never changes a run's parameter, and a training may go on with more epochs.

    Args:
        client: of the store.
        run_id: the run.
        config: the configuration; what is built, such as networks, is left to the artifact `config.json`.
    """
    known = client.get_run(run_id).data.params
    for name, value in config.items():
        if name.startswith("_") or isinstance(value, dict) or any(isinstance(part, dict) for part in _parts(value)):
            continue
        name, text = allowed_name(name), str(value)[:LONGEST]
        if name not in known:
            client.log_param(run_id, name, text)
        elif known[name] != text:
            client.set_tag(run_id, f"changed.{name}", text)


def log_metrics(client: Any, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
    """Record numbers under their names; what MLflow does not allow in a name becomes a space.

    Args:
        client: of the store.
        run_id: the run.
        values: name to number.
        step: iteration or epoch.
    """
    now = int(time.time() * 1000)
    metrics = [Metric(allowed_name(name), float(value), now, step) for name, value in values.items()]
    client.log_batch(run_id, metrics=metrics)


def allowed_name(text: str) -> str:
    """`text` with what MLflow does not allow in the name of a metric replaced by spaces."""
    return re.sub(r"\s+", " ", re.sub(r"[^\w./: -]", " ", text)).strip()


def _parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
