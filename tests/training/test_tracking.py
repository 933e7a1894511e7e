import csv
from pathlib import Path

import pytest
from rich.console import Console
from task_data import write_reviews
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training import options_for

from fastgru.training import run as training
from fastgru.training import tracking
from fastgru.training.run_folder import RunFolder


def train(tmp_path: Path) -> tuple[RunFolder, list[float]]:
    run = RunFolder(tmp_path / "run")
    training.train(options_for(write_reviews(tmp_path / "data.csv"), epochs=2), run, Console(quiet=True))
    with run.metrics.open() as file:
        return run, [float(row["validation_loss"]) for row in csv.DictReader(file)]


def test_tensorboard_has_the_log(tmp_path: Path) -> None:
    run, losses = train(tmp_path)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    found = events.Scalars("validation_loss")
    assert [event.step for event in found] == [1, 2]
    assert [event.value for event in found] == pytest.approx(losses, abs=1e-5)


def test_mlflow_has_the_log_where_its_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    _, losses = train(tmp_path)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    (experiment,) = client.search_experiments(filter_string="name = 'fastgru classify'")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "validation_loss")
    assert [metric.step for metric in history] == [1, 2]
    assert [metric.value for metric in history] == pytest.approx(losses, abs=1e-5)


def test_without_trackers_there_is_the_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    run, losses = train(tmp_path)
    assert len(losses) == 2
    assert not (run.path / "tensorboard").exists()
