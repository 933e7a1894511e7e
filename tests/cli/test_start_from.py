"""`fastgru train --from`: what a training takes over from a saved model, what it tells, and what it refuses."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from task_data import write_pairs, write_reviews, write_signals
from test_cli_tasks import assert_one_line, data, run, trained

from fastgru.common.errors import InputError
from fastgru.models import TextClassifier
from fastgru.training.options import TrainOptions
from fastgru.training.run_folder import RunFolder
from fastgru.training.tasks import TASKS

__all__ = ["data", "trained"]  # fixtures

SIZES = {
    "classify": ["--embedding-size", 8, "--hidden-size", 6],
    "signals": ["--hidden-size", 5],
    "translate": ["--encoder-size", 4, "--decoder-size", 6, "--embedding-size", 5],
}
WRITE = {"classify": write_reviews, "signals": write_signals, "translate": write_pairs}


def started(name: str, path: Path, **given: Any) -> Any:
    """The model that a training on this data starts with."""
    options = TASKS["classify"].options(data=name, start_from=str(path), **given)
    return TASKS["classify"].start_model(options, TASKS["classify"].load_data(options))


@pytest.mark.parametrize("task", list(WRITE))
def test_a_training_starts_where_the_model_stands(task: str, tmp_path: Path) -> None:
    source = WRITE[task](tmp_path / ("a.npz" if task == "signals" else "a.csv"))
    first, second = tmp_path / "first", tmp_path / "second"
    given = ["train", task, "--data", source, "--epochs", 3, "--lr", 0.01, "--batch-size", 16]
    assert run(*given, "--out", first, *SIZES[task]).exit_code == 0
    done = run(*given, "--out", second, "--from", first)
    assert done.exit_code == 0, done.output
    losses = [RunFolder(out).read_log()[0]["train_loss"] for out in (first, second)]
    assert losses[1] < losses[0]
    assert RunFolder(second).read_options().start_from == str(first)
    configs = [json.loads((out / "config.json").read_text()) for out in (first, second)]
    assert configs[0] == configs[1]
    resumed = run("train", task, "--out", second, "--resume", "--epochs", 4)
    assert resumed.exit_code == 0, resumed.output
    assert_one_line(run("train", task, "--out", second, "--resume", "--from", "x"), "the run has --from ")


def test_the_same_labels_keep_every_weight(trained: Path, data: str) -> None:
    before, after = TextClassifier.from_pretrained(trained), started(data, trained)
    assert after.tokenizer.to_str() == before.tokenizer.to_str()
    for name, weight in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], weight), name


def test_labels_that_are_new_or_gone_are_told(
    trained: Path, data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "other.csv"
    table.write_text(Path(data).read_text().replace(",bad\n", ",a worse one\n"))
    with caplog.at_level(logging.INFO, "fastgru"):
        after = started(str(table), trained)
    assert "labels that are new, and learned from nothing: a worse one" in caplog.text
    assert "labels that are of the model alone, and left out: bad" in caplog.text
    before = TextClassifier.from_pretrained(trained)
    assert after.config.labels == ["a worse one", "good"]
    assert torch.equal(after.classify.weight[1], before.classify.weight[1])
    assert not torch.equal(after.classify.weight[0], before.classify.weight[0])
    assert torch.equal(after.gru.weight_hh_l0, before.gru.weight_hh_l0)


def test_a_threshold_stays_with_the_labels_that_it_is_between(trained: Path, data: str, tmp_path: Path) -> None:
    model = TextClassifier.from_pretrained(trained)
    TextClassifier.save_pretrained(model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "threshold": 0.3}))
    assert started(data, tmp_path / "model").config.threshold == 0.3
    assert started(data, tmp_path / "model", threshold="bad=0.4").config.threshold == pytest.approx(0.6)
    other = tmp_path / "other.csv"
    other.write_text(Path(data).read_text().replace(",bad\n", ",worse\n"))
    assert started(str(other), tmp_path / "model").config.threshold is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hidden_size": 7}, "--hidden-size 7: the model of --from has 6, which stays; leave it out"),
        ({"embedding_size": 9}, "--embedding-size 9: the model of --from has 8"),
        ({"tokens": "characters"}, "--tokens characters: the model of --from has its own, which stays"),
        ({"pooling": "max"}, "--pooling max: the model of --from has last,max,mean"),
        ({"ngrams": 5}, "--ngrams 5: the model of --from has 0"),
    ],
    ids=str,
)
def test_what_stays_cannot_be_asked_to_differ(trained: Path, data: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        started(data, trained, **given)


def test_what_the_model_has_already_may_be_asked_for(trained: Path, data: str) -> None:
    assert started(data, trained, hidden_size=6, pooling="mean,max,last").config.hidden_size == 6


def test_models_of_other_kinds_and_folders_are_refused(trained: Path, data: str, tmp_path: Path) -> None:
    signals = write_signals(tmp_path / "a.npz")
    refused = run("train", "signals", "--data", signals, "--out", tmp_path / "out", "--from", trained)
    assert_one_line(refused, "that is no model of signals")
    missing = run("train", "classify", "--data", data, "--out", tmp_path / "out", "--from", tmp_path / "none")
    assert_one_line(missing, "there is no such folder")
    same = run("train", "classify", "--data", data, "--out", trained, "--overwrite", "--from", trained)
    assert_one_line(same, "which --overwrite would empty: name another --out")
    assert not (tmp_path / "out").exists()


def test_signals_of_other_features_are_refused(tmp_path: Path) -> None:
    source = write_signals(tmp_path / "a.npz")
    assert run("train", "signals", "--data", source, "--out", tmp_path / "run", "--epochs", 1).exit_code == 0
    options: TrainOptions = TASKS["signals"].options(start_from=str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"the model of --from hears 2 features a step, and the data have 12"):
        TASKS["signals"].start_model(options, TASKS["signals"].load_data(options))
