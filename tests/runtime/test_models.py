"""The ready models without torch: what they answer is what `fastgru.models` answers, of each kind, option and input."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_text_model import TEXTS
from small_text_model import build as build_text

from fastgru import runtime
from fastgru.common.errors import InputError
from fastgru.inference.tokens import source_tokenizer, target_tokenizer
from fastgru.models import (
    Prediction,
    Seq2Seq,
    Seq2SeqConfig,
    Seq2SeqEnsemble,
    SequenceClassifier,
    SequenceClassifierConfig,
)
from fastgru.models.ngrams import frequent_ngrams
from fastgru.models.pretrained import Pretrained
from fastgru.runtime.models import Seq2SeqEnsemble as RuntimeEnsemble

DRAW = random.Random(0)
WORDS = ["".join(DRAW.choices("abcABC?", k=DRAW.randint(1, 12))) for _ in range(20)]
POOLINGS = [["last", "max", "mean"], ["attention"], ["mean", "attention", "last"], ["max"]]
DECODERS: list[dict[str, Any]] = [
    {"attention": "luong"},
    {"attention": "luong", "decoder_layers": 2, "bidirectional": False, "encoder_layers": 2},
    {"attention": "gnmt", "decoder_layers": 2},
    {"attention": "gnmt", "decoder_layers": 3, "encoder_layers": 2},
    {"attention": "bahdanau"},
    {"attention": "none", "decoder_layers": 2},
    {"attention": "none", "bridge": False, "bidirectional": False, "encoder_size": 6},
    {"attention": "luong", "ngrams": 9, "longest_ngram": 5},
]


def loaded(model: Pretrained, folder: Path) -> Any:
    model.save_pretrained(folder)
    return runtime.load(folder)


def assert_alike(found: list[Prediction], expected: list[Prediction]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.label == other.label
        assert list(one.probabilities) == list(other.probabilities)
        assert [*one.probabilities.values()] == pytest.approx([*other.probabilities.values()], rel=0, abs=1e-6)


def stir(model: Pretrained) -> None:
    """Make answers differ: a new model's are all about the same."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_text_classifier_answers_alike(tmp_path: Path, pooling: list[str], layers: int) -> None:
    model = build_text(pooling=pooling, num_layers=layers)
    stir(model)
    found = loaded(model, tmp_path)
    assert found.config == model.config
    texts = [*TEXTS, "never seen", "caf\u00e9 \u4f60\u597d", "a fine film " * 40]
    assert len({round(one.probabilities["good"], 3) for one in model.predict(texts)}) > 5
    assert_alike(found.predict(texts), model.predict(texts))
    assert_alike(found.predict(iter(texts), batch_size=2), model.predict(texts))
    assert found.predict([]) == []


@pytest.mark.parametrize("longest", [3, 7])
def test_a_text_classifier_with_ngrams_answers_alike(tmp_path: Path, longest: int) -> None:
    texts = [text for text in TEXTS for _ in range(6)]
    encode = build_text().encode
    codes = frequent_ngrams(texts, encode, longest=longest, most=9)
    model = build_text(ngrams=len(codes), longest_ngram=longest)
    model.set_ngrams(codes)
    stir(model)
    with_ngrams, without = model.predict(TEXTS), build_text()
    without.load_state_dict({name: model.state_dict()[name] for name in without.state_dict()})
    assert with_ngrams != without.predict(TEXTS)
    assert_alike(loaded(model, tmp_path).predict(texts), model.predict(texts))


def sequences(count: int, size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(2, 3, (length, size)) for length in rng.integers(1, 30, count)]


def build_sequence(**options: Any) -> SequenceClassifier:
    model = SequenceClassifier(SequenceClassifierConfig(["a", "b", "c"], input_size=4, hidden_size=5, **options))
    model.fit_standardisation(sequences(9, 4))
    stir(model)
    return model


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_sequence_classifier_answers_alike(tmp_path: Path, pooling: list[str], bidirectional: bool) -> None:
    model = build_sequence(pooling=pooling, bidirectional=bidirectional, num_layers=2)
    found = loaded(model, tmp_path)
    rows: list[Any] = sequences(11, 4)
    rows += [rows[0].astype(np.float16), rows[1].round().astype(np.int64), rows[2].tolist(), torch.ones(3, 4)]
    rows += [rows[3][::-1], np.ones((2, 4), bool)]
    assert_alike(found.predict(rows), model.predict(rows))
    assert_alike(found.predict(rows, batch_size=3), model.predict(rows))


def test_a_sequence_in_parts_is_answered_alike(tmp_path: Path) -> None:
    model = build_sequence(bidirectional=False, num_layers=2)
    found = loaded(model, tmp_path)
    parts = np.split(sequences(40, 4)[0].repeat(5, 0), [1, 4, 5])
    assert_alike([*found.predict_parts(parts)], [*model.predict_parts(parts)])
    assert_alike([*found.predict_parts(parts)][-1:], found.predict([np.concatenate(parts)]))


@pytest.mark.parametrize("options", [{}, {"bidirectional": False, "pooling": ["attention"]}], ids=str)
def test_a_sequence_in_parts_needs_a_model_that_can(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bidirectional=False, without pooling by attention"):
        next(loaded(build_sequence(**options), tmp_path).predict_parts(sequences(3, 4)))


def build_seq2seq(**options: Any) -> Seq2Seq:
    config = Seq2SeqConfig(6, 7, **{"embedding_size": 5, "encoder_size": 4, "decoder_size": 6, **options})
    model = Seq2Seq(
        config, source_tokenizer("characters", "abc", fold=True), target_tokenizer("words", ["X", "Y", "Z"])
    )
    stir(model)
    if config.ngrams:
        texts = [text for text in WORDS for _ in range(6)]
        model.set_ngrams(frequent_ngrams(texts, model.encode_sources, longest=5, most=config.ngrams))
    return model


@pytest.mark.parametrize("options", DECODERS, ids=str)
@pytest.mark.parametrize(("beam", "best"), [(1, 1), (4, 3), (40, 2)])
def test_a_seq2seq_writes_alike(tmp_path: Path, options: dict[str, Any], beam: int, best: int) -> None:
    model = build_seq2seq(**options)
    found = loaded(model, tmp_path)
    expected = model.predict(WORDS, beam=beam, best=best, max_length=9)
    assert len({(one.text, round(one.score, 2)) for several in expected for one in several}) > 8
    for batch_size in (256, 3):
        written = found.predict(WORDS, beam=beam, best=best, max_length=9, batch_size=batch_size)
        assert [[one.text for one in several] for several in written] == [[one.text for one in s] for s in expected]
        scores = [[one.score for one in several] for several in written]
        assert scores == [[pytest.approx(one.score, abs=1e-5) for one in several] for several in expected]


@pytest.mark.parametrize("options", DECODERS, ids=str)
def test_a_seq2seq_looks_at_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    model = build_seq2seq(**options)
    found, expected = loaded(model, tmp_path).align("cab", "Z Y"), model.align("cab", "Z Y")
    assert (found.source, found.target) == (expected.source, expected.target)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=1e-6)


def test_an_ensemble_writes_alike(tmp_path: Path) -> None:
    models = [build_seq2seq(**options) for options in DECODERS[:5]]
    ensemble = RuntimeEnsemble([loaded(model, tmp_path / str(n)) for n, model in enumerate(models)])
    expected = Seq2SeqEnsemble(models)
    assert ensemble.config == expected.config
    for found, other in zip(ensemble.predict(WORDS, best=2), expected.predict(WORDS, best=2), strict=True):
        assert [one.text for one in found] == [one.text for one in other]
        assert [one.score for one in found] == pytest.approx([one.score for one in other], abs=1e-5)
    weights = [each.align("cab", "Z Y").weights for each in (ensemble, expected)]
    np.testing.assert_allclose(*weights, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="of one model or more, got none"):
        RuntimeEnsemble([])


def test_more_threads_answer_alike(tmp_path: Path) -> None:
    model = build_seq2seq(attention="bahdanau")
    model.save_pretrained(tmp_path)
    found, expected = (runtime.load(tmp_path, threads=threads).predict(WORDS) for threads in (2, 1))
    assert found == expected


def test_weights_of_other_widths_answer_alike(tmp_path: Path) -> None:
    model = build_seq2seq(attention="gnmt", decoder_layers=2, ngrams=9)
    found = loaded(model.to(torch.bfloat16), tmp_path)
    expected = Seq2Seq.from_pretrained(tmp_path)
    assert [s[0].text for s in found.predict(WORDS)] == [s[0].text for s in expected.predict(WORDS)]


WRONG = [
    (TypeError, "put this one into a list", lambda m: m.predict("a fine film")),
    (ValueError, "batch_size must be at least 1, got 0", lambda m: m.predict(["a"], batch_size=0)),
    (InputError, "text 2 is not valid text", lambda m: m.predict(["a", None])),
    (InputError, "text 2 is not valid text", lambda m: m.predict(["a", "half an emoji \ud83d"])),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_texts_are_checked_alike(tmp_path: Path, number: int) -> None:
    kind, words, ask = WRONG[number]
    model = build_text()
    for each in (model, loaded(model, tmp_path)):
        with pytest.raises(kind, match=words):
            ask(each)


SEQUENCES = {
    "must be [steps, 4], one step or more, got [3, 5]": np.ones((3, 5)),
    "must be [steps, 4], one step or more, got [0, 4]": np.ones((0, 4)),
    "must be [steps, 4], one step or more, got [4]": np.ones(4),
    "is no array of numbers": [["1", "2", "3", "4"]],
    "is no array of numbers: it holds complex128": np.ones((2, 4), complex),
    "holds numbers that are not finite": np.full((2, 4), 1e300),
}


@pytest.mark.parametrize("words", SEQUENCES)
def test_sequences_are_checked_alike(tmp_path: Path, words: str) -> None:
    model = build_sequence()
    for each in (model, loaded(model, tmp_path)):
        with pytest.raises(InputError) as refused:
            each.predict([np.zeros((2, 4)), SEQUENCES[words]])
        assert f"sequence 2 {words}" in str(refused.value)


def test_a_search_is_checked_alike(tmp_path: Path) -> None:
    model = build_seq2seq()
    for each in (model, loaded(model, tmp_path)):
        assert each.predict([]) == []
        with pytest.raises(TypeError, match="put this one into a list"):
            each.predict("cab")
        for wrong in ({"beam": 0}, {"beam": 2, "best": 3}, {"batch_size": 0}, {"max_length": -1}):
            with pytest.raises(ValueError, match="best at most beam"):
                each.predict(["cab"], **wrong)
