"""The task signals from end to end: by the commands, on sounds and on sequences."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sound_data import tone, tones
from typer.testing import CliRunner, Result

from benchmarks import spoken_words
from fastgru.cli import app
from fastgru.data.signals import load_signals
from fastgru.models import LogMel, SequenceClassifier
from fastgru.training.signals.module import KEPT, SignalsModule

SMALL = ("--epochs", "8", "--hidden-size", "8", "--num-bins", "12", "--lr", "0.02")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def assert_one_line(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tones(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def trained(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    result = run("train", "signals", "--data", sounds, "--out", out, *SMALL)
    assert result.exit_code == 0, result.output
    assert "16 sequences to train on, 2 to validate, 2 to test; labels: high, low; 12 features of sounds at" in (
        " ".join(result.stderr.split())
    )
    return out


def test_sounds_are_told_apart(trained: Path) -> None:
    measures = json.loads(run("evaluate", trained, "--json").stdout)
    assert measures["count"] == 2
    assert measures["accuracy"] == 1
    assert "2 sequences" in " ".join(run("evaluate", trained).stdout.split())


def test_predict_hears_files_of_any_rate(trained: Path, tmp_path: Path) -> None:
    files = [tone(tmp_path / "a.flac", 210, rate=48_000, channels=2), tone(tmp_path / "b.wav", 2005)]
    result = run("predict", trained, *files, "--json")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["low", "high"]
    assert [answer["source"] for answer in answers] == list(map(str, files))
    (tmp_path / "list.txt").write_text("".join(f"{file}\n" for file in files))
    lines = run("predict", trained, "--file", tmp_path / "list.txt").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["low", "high"]


def test_evaluate_on_another_folder(trained: Path, tmp_path: Path) -> None:
    tone(tmp_path / "low" / "x.wav", 203)
    assert json.loads(run("evaluate", trained, "--data", tmp_path, "--json").stdout)["count"] == 1
    tone(tmp_path / "middle" / "x.wav", 900)
    assert_one_line(run("evaluate", trained, "--data", tmp_path), "labels that the training data has not: middle")


def test_bad_files_get_one_line(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_text("no sound")
    assert_one_line(run("predict", trained, tmp_path / "x.wav"), "cannot be read as a sound")
    assert_one_line(run("predict", trained, tmp_path / "none.wav"), "there is no such file")
    np.save(tmp_path / "x.npy", np.zeros((3, 12)))
    assert_one_line(run("predict", trained, tmp_path / "x.npy"), "the model was made for sounds")
    assert_one_line(run("predict", trained), "give files or folders to classify")
    assert_one_line(run("train", "signals", "--data", tmp_path / "no", "--out", tmp_path / "o"), "is not there")
    assert not (tmp_path / "o").exists()


def test_the_same_seed_gives_the_same_model(sounds: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("train", "signals", "--data", sounds, "--out", out, *SMALL).exit_code == 0
    assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_sounds_that_stay_on_the_disk(sounds: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run("train", "signals", "--data", sounds, "--stream", "--out", out, *SMALL, "--checkpoint-every", 3)
    assert result.exit_code == 0, result.output
    assert json.loads(run("evaluate", out, "--json").stdout)["accuracy"] == 1
    assert (out / "config.json").read_bytes() == (trained / "config.json").read_bytes()


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_spoken_words_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_words, "WORDS", ("yes", "no"))
    monkeypatch.setattr(spoken_words, "SPEEDS", (120, 180))
    for part, people in spoken_words.PEOPLE.items():
        spoken_words.speak(tmp_path / part, people, ("en-us",))
    splits = load_signals(str(tmp_path / "train"), str(tmp_path / "test"))
    assert splits.features == LogMel(16_000)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (14, 2, 8)
    assert all(20 < len(sequence) < 200 for sequence in splits.train.sequences)


def test_sequences_of_an_array_file(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((40, 5, 2)) + np.repeat([0, 3], 20)[:, None, None]
    np.savez(tmp_path / "x.npz", x=x, labels=["near"] * 20 + ["far"] * 20)
    arguments = ("--data", tmp_path / "x.npz", "--out", tmp_path / "run", "--no-bidirectional", *SMALL)
    assert run("train", "signals", *arguments).exit_code == 0
    np.save(tmp_path / "one.npy", x[0])
    lines = run("predict", tmp_path / "run", tmp_path / "one.npy", tmp_path / "x.npz").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["near"] * 21 + ["far"] * 20
    assert_one_line(run("predict", tmp_path / "run", __file__), "is no sequence that this model takes")


def test_the_trend_is_a_running_mean_and_part_of_the_state(trained: Path) -> None:
    module = SignalsModule(SequenceClassifier.from_pretrained(trained), lr=0.1, seed=0)
    module.log = lambda *value, **options: None  # type: ignore[method-assign]
    for loss in (1.0, 2.0):
        for metric in (module.train_loss, module.train_accuracy, module.validation_loss, module.validation_accuracy):
            metric.reset()
            metric.update(torch.tensor(loss), 3)
        module.validation_f1.update(torch.tensor([0]), torch.tensor([0]))
        module.on_validation_epoch_end()
    assert module.state_dict()["trend"] == pytest.approx(KEPT * 1 + (1 - KEPT) * 2)
