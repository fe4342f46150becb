"""A comparison of evaluations in MLflow's store: a run for the table, and below it one for each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bundle.engines.mlflow_store import local_client, log_metrics, run_of
from bundle.reports.comparison import Comparison


def track_comparison(comparison: Comparison, folder: str | Path, *, title: str, files: Sequence[str | Path]) -> str:
    """Record a comparison in `mlruns.db` of `folder`.

    Args:
        comparison: of `bundle.reports.comparison.compare`.
        folder: where the store is, made if absent.
        title: name of the run; rows are runs below it, named as in the table, with each metric's mean over knees.
        files: kept as artifacts of the run.

    Returns:
        identifier of the run.

    Raises:
        OptionalImportError: if mlflow is not installed.
    """
    client, experiment = local_client(folder)
    run_id: str = run_of(client, experiment, name=title).info.run_id
    for name, text in {"knees": len(comparison.knees), "baselines": ", ".join(comparison.baselines)}.items():
        client.log_param(run_id, name, text)
    for path in files:
        client.log_artifact(run_id, str(path))
    for row in comparison.rows:
        of_row = run_of(client, experiment, name=row.name).info.run_id
        client.set_tag(of_row, "mlflow.parentRunId", run_id)
        client.set_tag(of_row, "is_model", row.model)
        means = {metric: values[np.isfinite(values)] for metric, values in row.scores.items()}
        log_metrics(client, of_row, {metric: values.mean() for metric, values in means.items() if len(values)})
        client.set_terminated(of_row)
    client.set_terminated(run_id)
    return run_id
