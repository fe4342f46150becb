"""`--tracking mlflow` as a user types it: what a training, an evaluation and a comparison leave in the store."""

import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from monai.utils import optional_import, path_to_sqlite_uri

MlflowClient, has_mlflow = optional_import("mlflow", name="MlflowClient")
ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--autoencoder_epochs=1", "--mean_epochs=2", "--mean_repeats=2", "--patches_per_volume=4"]
SHORT += ["--slices_per_volume=4", "--window=4", "--batch_size=8", "--patch_batch_size=8", "--val_interval=2"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not has_mlflow, reason="mlflow is not installed")]


def command(what, *configs):
    names = ",".join(f"'configs/{name}.json'" for name in configs)
    return ["-m", "monai.bundle", "run", what, f"--config_file=[{names}]", "--tracking=mlflow"]


def python(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, check=True, env=environment)


def runs(folder):
    """Client and runs of the store in `folder`, the oldest first; MLflow's own `Default` experiment has none."""
    client = MlflowClient(path_to_sqlite_uri(folder / "mlruns.db"))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments)
    return client, sorted(found, key=lambda run: run.info.start_time)


def history(client, run, metric):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


def losses(folder):
    with (folder / "losses.csv").open() as file:
        return [(row["stage"], int(row["epoch"]), float(row["loss"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    """Two ranks train; then one process goes on with one epoch more."""
    output = tmp_path_factory.mktemp("tracked")
    options = [f"--dataset_dir={prepared}", f"--output_dir={output}", *SHORT]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    python(*launch, *command("training", "train", "smoke", "multi_gpu"), *options, "--epochs=2")
    before = runs(output)[1]
    python(*command("training", "train", "smoke"), *options, "--epochs=3")
    return output, before


@pytest.fixture(scope="module")
def evaluated(prepared, trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated")
    options = [f"--dataset_dir={prepared}", f"--weights={trained[0] / 'model.pt'}", f"--output_dir={output}"]
    python(*command("evaluation", "inference", "smoke", "evaluate"), *options, "--sampling_steps=1")
    return output


def test_losses_of_every_stage_are_those_of_the_file_each_once(trained):
    """Were rank 1 to track, too, a step would be there twice; so would it if going on began from the start."""
    client, (run,) = runs(trained[0])
    stages = ("autoencoder", "mean", "diffusion")
    recorded = [(stage, *point) for stage in stages for point in history(client, run, f"{stage}/loss")]
    assert recorded == losses(trained[0])
    steps = [step for step, _ in history(client, run, "diffusion/iteration_loss")]
    assert steps == list(range(1, len(steps) + 1))
    assert history(client, run, "mean/learning_rate")


def test_a_training_that_goes_on_stays_in_its_run(trained):
    output, before = trained
    _, after = runs(output)
    assert [run.info.run_id for run in after] == [run.info.run_id for run in before]
    assert after[0].info.status == "FINISHED"
    assert after[0].data.tags["kind"] == "training"
    assert after[0].data.params["epochs"] == "2"
    assert after[0].data.tags["changed.epochs"] == "3"


def test_run_names_its_config_metrics_pictures_and_weights(trained):
    client, (run,) = runs(trained[0])
    digest = subprocess.run(["sha256sum", trained[0] / "model.pt"], capture_output=True, text=True, check=True).stdout
    assert digest.startswith(run.data.tags["weights_sha256"])
    assert run.data.params["autoencoder_epochs"] == "1"
    with (trained[0] / "validation.csv").open() as file:
        scores = [(int(row["epoch"]), pytest.approx(float(row["psnr"]))) for row in csv.DictReader(file)]
    assert history(client, run, "validation/psnr") == scores
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.json", "losses.csv", "validation"}
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, "validation")]
    assert pictures == [f"validation/epoch={epoch:05d}.png" for epoch, _ in scores]


def test_evaluation_is_a_run_with_its_scores_and_pages(evaluated):
    client, (run,) = runs(evaluated)
    with (evaluated / "metrics.csv").open() as file:
        scores = [float(row["rssim"]) for row in csv.DictReader(file) if row["method"] == "pred"]
    assert run.data.metrics["test/pred_rssim"] == pytest.approx(sum(scores) / len(scores), rel=1e-5)
    assert run.data.metrics.keys() >= {"test/mean_volume_psnr", "test/pred_mean_ssim"}
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.json", "summary.json", "report.html", "test"}
    assert run.info.status == "FINISHED"


def test_comparison_is_a_run_with_a_run_for_each_row(evaluated, tmp_path):
    python("scripts/compare.py", f"Mine={evaluated}", "--out", tmp_path, "--tracking", "mlflow", "--title", "Table")
    _, found = runs(tmp_path)
    table = next(run for run in found if run.info.run_name == "Table")
    rows = {run.info.run_name: run for run in found if run.data.tags.get("mlflow.parentRunId") == table.info.run_id}
    assert len(rows) == len(found) - 1
    with (tmp_path / "comparison.csv").open() as file:
        mine = {row["metric"]: row for row in csv.DictReader(file) if row["row"] == "Mine" and row["kl_grade"] == "all"}
    assert rows["Mine"].data.metrics["psnr"] == pytest.approx(float(mine["psnr"]["mean"]))


def test_page_opens_on_this_machine_alone(trained):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    page = ["make", "mlflow", f"DIR={trained[0]}", f"PORT={port}"]
    server = subprocess.Popen(
        page, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        assert f"http://127.0.0.1:{port}" in server.stdout.readline().decode()
        assert b"<html" in answer(f"http://127.0.0.1:{port}/", server).lower()
        listening = Path("/proc/net/tcp")
        if listening.is_file():
            bound = re.findall(rf"([0-9A-F]{{8}}):{port:04X} 00000000:0000 0A", listening.read_text())
            assert bound == ["0100007F"], "127.0.0.1 and nothing else"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answer(address, server):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                return response.read()
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    raise AssertionError(f"{address} did not answer")


def test_page_of_a_run_without_tracking_is_one_line(tmp_path):
    done = subprocess.run(["make", "mlflow", f"DIR={tmp_path}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "--tracking mlflow" in done.stderr
