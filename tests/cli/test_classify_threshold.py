"""The metric of the best epoch, and the threshold between two labels: the same in every place that answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_text_model import TEXTS, build
from task_data import write_reviews
from test_cli_tasks import SMALL, assert_one_line, run

from fastgru import runtime
from fastgru.common.errors import InputError
from fastgru.data.labelled import LabelledTexts
from fastgru.inference.prediction import predictions
from fastgru.models import TextClassifier, TextClassifierConfig
from fastgru.models.attribution import attribute
from fastgru.sklearn import GRUTextClassifier
from fastgru.training.classify import ClassifyOptions
from fastgru.training.classify.batches import EncodedTexts
from fastgru.training.classify.module import ClassifyModule
from fastgru.training.classify.threshold import set_threshold, threshold_of
from fastgru.training.tasks import TASKS


def two_labels(**options: Any) -> TextClassifier:
    """A model that is not sure of anything, of two labels."""
    torch.manual_seed(0)
    model = build()
    config = TextClassifierConfig(["bad", "good"], model.config.vocab_size, 8, 5, **options)
    model = TextClassifier(config, model.tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    return model.eval()


def middle(model: TextClassifier) -> float:
    """A probability of the second label that lies between those of the texts."""
    found = sorted({one.probabilities["good"] for one in model.predict(TEXTS)})
    return (found[0] + found[1]) / 2


def test_a_threshold_tells_the_second_label_from_itself_on() -> None:
    rows = [[0.7, 0.3], [0.71, 0.29], [0.2, 0.8]]
    assert [one.label for one in predictions(["a", "b"], rows, 0.3)] == ["b", "a", "b"]
    assert [one.label for one in predictions(["a", "b"], rows)] == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("given", "expected"), [("good=0.3", 0.3), ("bad=0.3", 0.7), ("bad = 0.25", 0.75), (None, None)]
)
def test_threshold_names_a_label(given: str | None, expected: float | None) -> None:
    assert threshold_of(given, ["bad", "good"]) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("given", ["0.3", "=0.3", "good=", "good=1", "good=nan", "good=-1", ""])
def test_threshold_refuses_what_is_none(given: str) -> None:
    with pytest.raises(InputError, match="--threshold takes a label and a number between 0 and 1"):
        ClassifyOptions(threshold=given)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a", "good", "odd"], "is for two labels, and there are 3: a, good, odd"), (["a", "b"], "names 'good', and the")],
)
def test_threshold_refuses_other_labels(labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        threshold_of("good=0.3", labels)


@pytest.mark.parametrize("threshold", [0, 1, "0.5", True, float("nan")])
def test_config_refuses_a_threshold_that_is_none(threshold: object) -> None:
    with pytest.raises(ValueError, match="threshold must be a number between 0 and 1"):
        two_labels(threshold=threshold)
    with pytest.raises(ValueError, match="a threshold is between two labels, and there are 3"):
        build(threshold=0.5)


def test_threshold_is_kept_and_answers_alike_everywhere(tmp_path: Path) -> None:
    plain = two_labels()
    model = two_labels(threshold=middle(plain))
    expected = [one.label for one in model.predict(TEXTS)]
    assert set(expected) == {"bad", "good"}
    assert expected != [one.label for one in plain.predict(TEXTS)]
    model.save_pretrained(tmp_path)
    assert [one.label for one in TextClassifier.from_pretrained(tmp_path).predict(TEXTS)] == expected
    found = runtime.load(tmp_path)
    assert [one.label for one in found.predict(TEXTS)] == expected
    assert [one.label for one in attribute(model, TEXTS)] == expected
    for other in (plain, found):
        set_threshold(other, "good=0.999999")
        assert {one.label for one in other.predict(TEXTS)} == {"bad"}
        set_threshold(other, "bad=0.999999")
        assert {one.label for one in other.predict(TEXTS)} == {"good"}


def test_validation_measures_what_the_threshold_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    model = two_labels(threshold=middle(two_labels()))
    told = [one.label for one in model.predict(TEXTS)]
    module = ClassifyModule(model, lr=0.1, seed=0)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    rows = EncodedTexts(LabelledTexts(TEXTS, told), model)
    module.validation_step(rows[list(range(len(TEXTS)))], 0)
    assert float(module.validation_accuracy.compute()) == float(module.validation_f1.compute()) == 1


@pytest.mark.parametrize(
    ("metric", "column", "mode"),
    [("accuracy", "validation_accuracy", "max"), ("f1", "validation_f1", "max"), ("loss", "validation_loss", "min")],
)
def test_metric_chooses_the_best_epoch(metric: Any, column: str, mode: str) -> None:
    best = TASKS["classify"].best_by(ClassifyOptions(metric=metric))
    assert best == (column, mode)
    rows = [{"epoch": epoch, column: value} for epoch, value in enumerate((0.5, 0.7, 0.7, 0.2), start=1)]
    assert best.of(rows)["epoch"] == (2 if mode == "max" else 4)


@pytest.mark.parametrize(("options", "name"), [({"metric": "recall"}, "metric"), ({"tokens": "bytes"}, "tokens")])
def test_options_from_python_are_checked(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=f"--{name} takes one of "):
        ClassifyOptions(**options)


def test_the_estimator_takes_metric_tokens_and_threshold() -> None:
    texts, labels = ["a fine film", "a dull film"] * 20, [10, 2] * 20
    small = {"embedding_size": 4, "hidden_size": 3, "epochs": 2, "tokens": "characters", "metric": "loss"}
    for threshold, told in ((0.999, 2), (0.001, 10)):
        model = GRUTextClassifier(**small, threshold=threshold).fit(texts, labels)
        assert set(model.predict(texts)) == {told}
        assert model.model_.config.ngrams > 0
    assert {"validation_f1", "validation_loss"} < set(model.history_[0])


def test_commands_take_metric_and_threshold(tmp_path: Path) -> None:
    data, out = write_reviews(tmp_path / "a.csv"), tmp_path / "run"
    given = ["--data", data, "--out", out, *SMALL, "--metric", "loss", "--threshold", "good=0.001", "--epochs", "2"]
    done = run("train", "classify", *given)
    assert done.exit_code == 0, done.output
    assert "best validation loss 0." in done.stdout
    assert run("predict", out, "an awful film").stdout.startswith("good")
    assert run("predict", out, "an awful film", "--runtime").stdout.startswith("good")
    assert run("predict", out, "a lovely film", "--threshold", "good=0.999").stdout.startswith("bad")
    for given, called in ([], 1), (["--threshold", "good=0.999"], 0):
        for table in ([], ["--data", data]):
            confusion = json.loads(run("evaluate", out, "--json", *given, *table).stdout)["confusion"]
            assert [row[1 - called] for row in confusion] == [0, 0]
    assert_one_line(
        run("predict", out, "x", "--threshold", "odd=0.5"), "--threshold names 'odd', and the labels are: bad"
    )
    wrong = run("train", "classify", "--data", data, "--out", tmp_path / "b", "--threshold", "odd=0.5")
    assert_one_line(wrong, "--threshold names 'odd', and the labels are: bad, good")
    assert not (tmp_path / "b").exists()
