"""One training, whatever computes it: two processes, parts of a batch one after the other, half precision."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from task_data import write_pairs, write_reviews, write_signals
from torchrun_training import OPTIONS, build_without_dropout, options_for, train

from fastgru.training import run as training
from fastgru.training.run_folder import RunFolder
from fastgru.training.tasks import TASKS

WRITE: dict[str, Callable[[Path], str]] = {
    "classify": lambda folder: write_reviews(folder / "data.csv"),
    "signals": lambda folder: write_signals(folder / "data.npz"),
    "translate": lambda folder: write_pairs(folder / "data.csv"),
}
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint"]


def curve(out: Path) -> list[list[float]]:
    with (out / "metrics.csv").open() as file:
        return [[float(value) for name, value in row.items() if name != "seconds"] for row in csv.DictReader(file)]


def assert_same(out: Path, other: Path, *, loss: float, weights: float) -> None:
    """The log has 6 digits; of the weights, the largest difference that was measured is 2.4e-7."""
    assert torch.tensor(curve(out)).sub(torch.tensor(curve(other))).abs().max() <= loss
    one, two = (load_file(path / "model.safetensors") for path in (out, other))
    assert max((one[name] - two[name]).abs().max() for name in one) <= weights


@pytest.fixture(scope="module", params=OPTIONS)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The data of all tasks."""
    return {task: WRITE[task](tmp_path_factory.mktemp(task)) for task in OPTIONS}


@pytest.fixture(scope="module")
def data(task: str, everything: dict[str, str]) -> str:
    return everything[task]


@pytest.fixture(scope="module")
def alone(task: str, data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process gives."""
    out = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TASKS[task], "build_model", build_without_dropout(TASKS[task]))
        train(task, data, out)
    return out


@pytest.fixture(scope="module")
def together(everything: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes give: a folder with a run of each task."""
    runs = tmp_path_factory.mktemp("together")
    trainings = [word for task, data in everything.items() for word in (task, data, str(runs / task))]
    script = str(Path(__file__).with_name("torchrun_training.py"))
    command = [sys.executable, *TORCHRUN, "localhost:0", script, *trainings]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return runs


def test_two_processes_give_the_same_curve_as_one(task: str, alone: Path, together: Path) -> None:
    out = together / task
    assert_same(out, alone, loss=1.1e-6, weights=5e-7)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in alone.iterdir())


def test_accumulated_parts_give_the_same_curve_as_the_whole_batch(
    task: str, data: str, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TASKS[task], "build_model", build_without_dropout(TASKS[task]))
    train(task, data, tmp_path / "run", accumulate=3)
    assert_same(tmp_path / "run", alone, loss=1.1e-6, weights=5e-7)


def test_bf16_learns_alike_and_keeps_weights_of_32_bits(
    task: str, data: str, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TASKS[task], "build_model", build_without_dropout(TASKS[task]))
    train(task, data, tmp_path / "run", precision="bf16")
    assert curve(tmp_path / "run") != curve(alone)
    assert abs(curve(tmp_path / "run")[-1][1] - curve(alone)[-1][1]) < 0.01
    assert {weight.dtype for weight in load_file(tmp_path / "run" / "model.safetensors").values()} == {torch.float32}


def test_process_beside_the_first_writes_and_says_nothing(
    task: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(training, "_fit", lambda *given: None)
    training.train(options_for(task, data), RunFolder(tmp_path / "run"), Console(stderr=True))
    assert not (tmp_path / "run").exists()
    assert capfd.readouterr() == ("", "")
