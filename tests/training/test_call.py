"""`fastgru.training.train`: the command's training as a function, and what it refuses."""

import json
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_data import write_pairs, write_reviews, write_signals

from fastgru.common.errors import InputError, in_python
from fastgru.training import train
from fastgru.training.call import Trained, options_for
from fastgru.training.classify.module import ClassifyModule
from fastgru.training.run_folder import RunFolder
from fastgru.training.tasks import TASKS

SMALL: dict[str, Any] = {"embedding_size": 8, "hidden_size": 6, "lr": 0.03, "batch_size": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train("classify", tmp_path_factory.mktemp("runs") / "run", data=data, epochs=6, **SMALL)


def test_train_gives_what_the_folder_holds(trained: Trained, data: Path) -> None:
    assert [row["epoch"] for row in trained.log] == [row["epoch"] for row in RunFolder(trained.folder).read_log()]
    assert trained.best in trained.log
    assert trained.model.predict(["a lovely film"])[0].label == "good"
    assert not trained.model.training
    assert json.loads((trained.folder / "train.json").read_text())["options"]["hidden_size"] == 6
    assert (trained.evaluate().count, trained.evaluate(data).count) == (12, 120)


@pytest.mark.parametrize(
    ("task", "write", "options"),
    [
        ("signals", write_signals, {"hidden_size": 4}),
        ("translate", write_pairs, {"embedding_size": 4, "encoder_size": 4, "decoder_size": 4, "dropout": 0}),
    ],
)
def test_train_of_the_other_tasks(task: str, write: Any, options: dict[str, Any], tmp_path: Path) -> None:
    file = write(tmp_path / ("data.npz" if task == "signals" else "data.csv"))
    trained = train(task, str(tmp_path / "run"), data=file, epochs=1, **options)
    assert type(trained.model) is type(TASKS[task].load_model(str(tmp_path / "run")))
    assert len(trained.log) == 1


def test_train_is_quiet_and_leaves_the_random_states(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), np.random.rand(), random.random()

    def seed() -> None:
        torch.manual_seed(5), np.random.seed(5), random.seed(5)

    seed()
    expected = draw()
    seed()
    train("classify", tmp_path / "run", data=data, epochs=1, **SMALL)
    assert draw() == expected
    assert capfd.readouterr() == ("", "")
    train("classify", tmp_path / "run", data=data, epochs=1, **SMALL, overwrite=True, verbose=True)
    assert "epoch  1/1" in capfd.readouterr().err


def test_resume_goes_on_for_longer(data: Path, trained: Trained, tmp_path: Path) -> None:
    train("classify", tmp_path / "run", data=data, epochs=3, **SMALL)
    longer = train("classify", tmp_path / "run", resume=True, epochs=6)
    assert len(longer.log) == 6
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (trained.folder / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="resume has no option 'lr'; there are: epochs, patience"):
        train("classify", tmp_path / "run", resume=True, lr=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "classify has no option 'colour'; there are: accelerator, accumulate, batch_size"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": "3"}, "epochs must be int, got '3'"),
        ({"epochs": True}, "epochs must be int, got True"),
        ({"dropout": 1.5}, "dropout must be from 0 to 0.99, got 1.5"),
        ({"precision": "16"}, r"precision must be Literal\['32', 'bf16'\], got '16'"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1, got 0"),
        ({"pooling": "median"}, "^pooling takes names out of"),
        ({"class_weights": "heavy"}, "^class_weights takes none, balanced"),
    ],
)
def test_train_refuses_options_by_their_names(
    options: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train("classify", tmp_path / "run", data=data, **options)
    assert not (tmp_path / "run").exists()


def test_train_refuses_other_tasks_and_folders(trained: Trained, data: Path) -> None:
    with pytest.raises(InputError, match="task must be one of classify, translate, signals, got 'paint'"):
        train("paint", "run")
    with pytest.raises(InputError, match="already holds a run: go on with it with resume, or replace it with overwrit"):
        train("classify", trained.folder, data=data)
    with pytest.raises(InputError, match="evaluate has no option 'epochs'"):
        trained.evaluate(data, epochs=3)


def test_options_are_the_commands(data: Path) -> None:
    kind = TASKS["classify"].options
    assert options_for(TASKS["classify"], {"data": data, "lr": 1, "test": None}) == kind(data=str(data), lr=1)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_is_what_it_is_elsewhere(
    number: signal.Signals, raised: type[BaseException], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClassifyModule, "training_step", lambda *_: signal.raise_signal(number))
    with pytest.raises(raised):
        train("classify", tmp_path / "run", data=data, **SMALL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_messages_speak_of_parameters() -> None:
    message = "--class-weights, or ('--seed') and a well-known--thing"
    with pytest.raises(InputError) as raised, in_python(class_weights="class_weight"):
        raise InputError(message)
    assert str(raised.value) == "class_weight, or ('seed') and a well-known--thing"
