"""Pooling and weights of labels, from the option to the model."""

import io
import logging
from collections import Counter
from pathlib import Path

import pytest
import torch
from rich.console import Console
from small_text_model import TEXTS, build, logits_of

from fastgru.common.errors import InputError
from fastgru.data.labelled import LabelledTexts
from fastgru.models import TextClassifier
from fastgru.models.pooling import Pooling
from fastgru.training.classify import ClassifyOptions
from fastgru.training.classify.batches import EncodedTexts, label_weights, tell_unknown
from fastgru.training.classify.module import ClassifyModule
from fastgru.training.confusion import confusion_table, draw_confusion

LABELS = ["good"] * 3 + ["bad"]


def test_pooling_is_its_formulas_row_by_row() -> None:
    torch.manual_seed(0)
    pooling = Pooling(["attention", "max", "last", "mean"], 6)
    y, h_n, lengths = torch.randn(3, 5, 6), torch.randn(2, 3, 3), torch.tensor([5, 1, 3])
    y[1, 1:] = y[2, 3:] = 0
    features = pooling(y, h_n, lengths)
    assert features.shape == (3, pooling.out_features)
    for row, length in enumerate(lengths):
        states = y[row, :length]
        weights = pooling.attend(states).softmax(0)
        last = torch.cat([h_n[0, row], h_n[1, row]])
        expected = torch.cat([(weights * states).sum(0), states.amax(0), last, states.mean(0)])
        torch.testing.assert_close(features[row], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("names", [["last"], ["attention"], ["last", "max", "mean", "attention"]], ids=str)
def test_every_pooling_is_saved_and_loaded(names: list[str], tmp_path: Path) -> None:
    model = build(pooling=names).eval()
    model.save_pretrained(tmp_path)
    loaded = TextClassifier.from_pretrained(tmp_path)
    assert loaded.config.pooling == names
    assert torch.equal(logits_of(loaded, TEXTS), logits_of(model, TEXTS))


@pytest.mark.parametrize("names", ["last", [], ["last", "last"], ["median"], None], ids=str)
def test_config_refuses_a_pooling_that_is_none(names: object) -> None:
    with pytest.raises(ValueError, match="pooling must be a list of"):
        build(pooling=names)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("mean, last", ["last", "mean"]),
        ("attention", ["attention"]),
        ("all", ["last", "max", "mean", "attention"]),
    ],
)
def test_pooling_option(given: str, names: list[str]) -> None:
    assert ClassifyOptions(pooling=given).poolings() == names


@pytest.mark.parametrize("given", ["", "last,last", "median", "all,last"])
def test_pooling_option_refuses(given: str) -> None:
    with pytest.raises(InputError, match="--pooling takes names out of last, max, mean, attention"):
        ClassifyOptions(pooling=given)


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ("none", {"good": 1, "bad": 1}),
        ("balanced", {"good": 4 / 6, "bad": 2}),
        ("bad=3", {"good": 4 / 6, "bad": 2}),
        ("good=0.5,bad=0.5", {"good": 1, "bad": 1}),
    ],
)
def test_label_weights_have_a_mean_of_one(given: str, weights: dict[str, float]) -> None:
    found = label_weights(ClassifyOptions(class_weights=given), Counter(LABELS))
    assert found == pytest.approx(weights)
    assert sum(found[label] for label in LABELS) == pytest.approx(4)


@pytest.mark.parametrize("given", ["", "bad", "bad=", "bad=-1", "=2", "bad=nan", "bad=inf"])
def test_class_weights_option_refuses(given: str) -> None:
    with pytest.raises(InputError, match="--class-weights takes none, balanced, or a number above 0"):
        ClassifyOptions(class_weights=given)


def test_class_weights_of_a_label_that_is_not_there() -> None:
    with pytest.raises(InputError, match="--class-weights names 'odd', and the labels are: bad, good"):
        label_weights(ClassifyOptions(class_weights="odd=2"), Counter(LABELS))


def test_loss_counts_each_text_by_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build(word_dropout=0.0, embedding_dropout=0.0, dropout=0.0)
    rows = LabelledTexts(["a fine film", "dull", "a film"], ["good", "bad", "good"])
    batch = EncodedTexts(rows, model, {"good": 0.5, "bad": 2.0})[[0, 1, 2]]
    module = ClassifyModule(model, lr=0.1, seed=0)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    each = torch.nn.functional.cross_entropy(model(batch.steps, batch.lengths), batch.labels, reduction="none")
    expected = (each * torch.tensor([0.5, 2.0, 0.5])).mean()
    torch.testing.assert_close(module.loss(batch), expected, rtol=1e-6, atol=0)
    right = (model(batch.steps, batch.lengths).argmax(1) == batch.labels).float()
    assert module.so_far()["accuracy"] == pytest.approx(float((right * batch.weights).sum() / 3))


@pytest.mark.parametrize(("ids", "told"), [([[1, 1], [1, 2, 2]], "60 %"), ([[1, 2], [1, 2]], ""), ([[], []], "")])
def test_most_words_unknown_is_told(ids: list[list[int]], told: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastgru"):
        tell_unknown(ids)
    assert caplog.text.count("of the tokens to validate on are not among those to train on") == bool(told)
    assert told in caplog.text


def test_confusion_is_drawn(tmp_path: Path) -> None:
    draw_confusion(["a $ b $", "c_d^"], [[3, 1], [0, 0]], "$10 texts", tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("labels", "header"), [(["a", "b"], "called b"), (list("abcdefghi"), "true / called")])
def test_confusion_fits_80_columns(labels: list[str], header: str) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80)
    console.print(confusion_table(labels, [[1000] * len(labels)] * len(labels), "a file"))
    assert header in screen.getvalue()
    assert screen.getvalue().count("1000") == len(labels) ** 2
