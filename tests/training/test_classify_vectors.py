"""Training that begins with word vectors: words that it never saw are told by the company they keep in the file."""

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from task_data import OTHER

from fastgru import runtime
from fastgru.common.errors import InputError
from fastgru.data.labelled import LabelledTexts
from fastgru.data.tokenizer import train_tokenizer
from fastgru.training.classify import Classify, ClassifyOptions
from fastgru.training.classify.measure import measure
from fastgru.training.run import train
from fastgru.training.run_folder import RunFolder

GOOD = ["fine", "warm", "lovely", "bright", "tender", "witty"]
BAD = ["dull", "flat", "awful", "bleak", "tired", "stale"]
SIZE = 8


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    """A file in which good words point one way and bad ones the other."""
    draw = np.random.default_rng(0)
    rows = {word: draw.normal(0, 1, SIZE) for word in OTHER}
    for words, sign in ((GOOD, 2), (BAD, -2)):
        rows |= {word: draw.normal(0, 0.3, SIZE) + sign for word in words}
    lines = [f"{word} {' '.join(f'{value:.4f}' for value in row)}" for word, row in rows.items()]
    (tmp_path / "words.vec").write_text("\n".join([f"{len(lines)} {SIZE}", *lines]) + "\n")
    return str(tmp_path / "words.vec")


def texts(words: list[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join([*draw.choices(OTHER, k=5), draw.choice(words)]) for _ in range(count)]


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Texts with the first three words of each kind alone."""
    rows = [f"{text},{label}" for words, label in ((GOOD, "good"), (BAD, "bad")) for text in texts(words[:3], 60, 1)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return str(tmp_path / "a.csv")


def test_words_that_were_never_seen_are_told_by_their_vectors(
    tmp_path: Path, data: str, vectors: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = ClassifyOptions(data=data, vectors=vectors, hidden_size=6, epochs=8, batch_size=16, lr=0.03)
    with caplog.at_level(logging.INFO, "fastgru"):
        train(options, RunFolder(tmp_path / "run"), Console(quiet=True))
    assert "has vectors of 12 of the 12 words to train on, of 8 features" in caplog.text
    rows = LabelledTexts(texts(GOOD[3:], 30, 2) + texts(BAD[3:], 30, 3), ["good"] * 30 + ["bad"] * 30)
    model = Classify().load_model(str(tmp_path / "run"))
    assert measure(model, rows, "unseen words").accuracy > 0.95
    found = runtime.load(tmp_path / "run").predict(rows.texts)
    assert [one.label for one in found] == [one.label for one in model.predict(rows.texts)]


def test_the_model_begins_with_the_vectors_scaled(data: str, vectors: str) -> None:
    options = ClassifyOptions(data=data, vectors=vectors)
    torch.manual_seed(0)
    model = Classify().build_model(options, Classify().load_data(options))
    assert model.config.embedding_size == SIZE
    tokens = [line.split() for line in Path(vectors).read_text().splitlines()[1:]]
    given = torch.tensor([[float(value) for value in values] for _, *values in tokens])
    ids = [model.tokenizer.token_to_id(word) for word, *_ in tokens]
    assert None not in ids
    torch.testing.assert_close(model.embedding.weight[ids], given * (0.1 / given.std(correction=0)))
    assert not model.embedding.weight[0].any()


def test_words_seen_once_are_kept_where_they_have_a_vector(tmp_path: Path, data: str, vectors: str) -> None:
    with Path(data).open("a") as file:
        file.write("so tender a film,good\nso strange a film,bad\n")
    options = ClassifyOptions(data=data, vectors=vectors)
    splits = Classify().load_data(options)
    tokenizer = Classify().build_model(options, splits).tokenizer
    assert train_tokenizer(splits.train.texts).token_to_id("tender") is None
    assert tokenizer.token_to_id("tender") is not None
    assert tokenizer.token_to_id("strange") is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": "characters"}, "--vectors are of words"),
        ({"ngrams": 10}, "--vectors are of words"),
        ({"embedding_size": 9}, "--embedding-size 9: leave it out, the vectors of .* have 8 features"),
    ],
    ids=str,
)
def test_vectors_refuse_what_they_decide(data: str, vectors: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Classify().build_model(
            options := ClassifyOptions(data=data, vectors=vectors, **given), Classify().load_data(options)
        )


def test_vectors_of_another_language_are_refused(tmp_path: Path, data: str) -> None:
    (tmp_path / "b.vec").write_text("1 2\n\u4f60\u597d 1 2\n")
    options = ClassifyOptions(data=data, vectors=str(tmp_path / "b.vec"))
    with pytest.raises(InputError, match="has none of the words to train on"):
        Classify().build_model(options, Classify().load_data(options))


def test_vectors_that_are_not_there_are_told_before_the_data_is_read() -> None:
    with pytest.raises(InputError, match=r"none\.vec: there is no such file of word vectors"):
        Classify().load_data(ClassifyOptions(data="none.csv", vectors="none.vec"))
