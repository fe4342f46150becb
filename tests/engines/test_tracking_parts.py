"""Parts of tracking that need no store: what is off, what is a parameter, what is left alone."""

import pytest
from ignite.engine import Engine, Events
from monai.utils import OptionalImportError

from bundle.engines import TrackedRun, is_off, mlflow_store, tensorboard
from bundle.engines.mlflow_store import allowed_name, log_parameters


def test_without_mlflows_handler_nothing_happens(tmp_path):
    trainer = Engine(lambda engine, batch: None)
    run = TrackedRun([object()], folder=str(tmp_path / "run"))
    run.follow("stage", trainer)
    run.score("test", trainer)
    run.close(weights="absent.pt")
    assert not any(trainer.has_event_handler(handler, Events.STARTED) for handler in (run.follow, run.score))
    assert not list(tmp_path.iterdir())


def test_negative_number_of_pictures_is_refused():
    with pytest.raises(ValueError, match="pictured"):
        TrackedRun([], pictured=-1)


def test_tensorboard_is_off_by_default_and_above_rank_0(monkeypatch):
    monkeypatch.setattr(tensorboard, "has_tensorboard", True)
    assert is_off(False)
    assert not is_off(True)
    monkeypatch.setattr(tensorboard.idist, "get_rank", lambda: 1)
    assert is_off(True)


@pytest.mark.skipif(tensorboard.has_tensorboard, reason="tensorboard is installed")
def test_tensorboard_that_is_missing_is_named():
    with pytest.raises(OptionalImportError, match="tensorboard"):
        is_off(True)


class Client:
    """Keeps what is logged."""

    def __init__(self, known):
        self.params, self.tags = dict(known), {}

    def get_run(self, _):
        return type("Run", (), {"data": type("Data", (), {"params": dict(self.params)})})

    def log_param(self, _, name, value):
        self.params[name] = value

    def set_tag(self, _, name, value):
        self.tags[name] = value


def test_plain_values_become_parameters_and_changes_become_tags():
    client = Client({"epochs": "2", "seed": "0"})
    config = {"_desc_": "x", "epochs": 3, "seed": 0, "train": {"lr": 1}, "steps": [{"a": 1}], "stages": ["a", "b"]}
    log_parameters(client, "run", config)
    assert client.params == {"epochs": "2", "seed": "0", "stages": "['a', 'b']"}
    assert client.tags == {"changed.epochs": "3"}


def test_long_values_are_cut():
    client = Client({})
    log_parameters(client, "run", {"long": "x" * 10_000})
    assert len(client.params["long"]) == mlflow_store.LONGEST


@pytest.mark.parametrize(
    ("given", "allowed"), [("pred_psnr", "pred_psnr"), ("Model, a sample", "Model a sample"), ("a/b (c)", "a/b c")]
)
def test_names_hold_what_mlflow_allows(given, allowed):
    assert allowed_name(given) == allowed
