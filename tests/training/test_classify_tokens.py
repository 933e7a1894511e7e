"""Words, characters or subwords: what is asked for, what is chosen, and that it is learned and kept."""

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from task_data import write_reviews

from fastgru import runtime
from fastgru.common.errors import InputError
from fastgru.data.tokenizer import kind_for, train_tokenizer, unknown_share
from fastgru.models import TextClassifier
from fastgru.models.ngrams import NGramEmbedding
from fastgru.training.classify import Classify, ClassifyOptions

SMALL: dict[str, Any] = {"embedding_size": 3, "hidden_size": 3}


def write_characters(path: Path, count: int = 60) -> str:
    """Write texts without spaces, whose label is what two characters side by side say."""
    draw = random.Random(0)
    rows = []
    for row in range(count):
        text = "".join(draw.choices("\u4e00\u4e8c\u4e09\u56db\u4e94", k=12))
        said, label = ("\u597d", "a") if row % 2 else ("\u574f", "b")
        rows.append(f"{text}{said}{text[::-1]},{label}")
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("words", ["good", ",", "film", "[UNK]"]),
        ("characters", [*"good, film ", *["[UNK]"] * 3]),
        ("subwords", ["\u2581good", ",", "\u2581film", "\u2581", *["[UNK]"] * 3]),
    ],
)
def test_tokens_of_each_kind(kind: str, tokens: list[str]) -> None:
    tokenizer = train_tokenizer(["Good, film", "good, FILM"] * 3, kind)
    assert tokenizer.encode("GOOD, film xyz").tokens == tokens
    assert (tokenizer.token_to_id("[PAD]"), tokenizer.token_to_id("[UNK]")) == (0, 1)


def test_unknown_share_counts_tokens() -> None:
    assert unknown_share([[1, 1], [1, 2, 2], []]) == 0.6
    assert unknown_share([[], []]) == 0


@pytest.mark.parametrize(
    ("texts", "unknown", "kind"),
    [
        (["a fine film and a story"], 0.25, "words"),
        (["a fine film and a story"], 0.3, "characters"),
        (["\u559c\u6b22\u8c22\u8c22\u4e86\u5929\u5417\u60a8\u5417\u6211\u5417\u8ba2\u5355"], 0.1, "characters"),
        (["\u559c\u6b22" * 300], 0.1, "subwords"),
        ([""], 0.0, "words"),
    ],
)
def test_kind_that_suits_the_texts(texts: list[str], unknown: float, kind: str) -> None:
    assert kind_for(texts, unknown) == kind


def test_texts_without_spaces_are_read_as_characters_and_learned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ClassifyOptions(data=write_characters(tmp_path / "a.csv"), **SMALL)
    data = Classify().load_data(options)
    with caplog.at_level(logging.INFO, "fastgru"):
        model = Classify().build_model(options, data)
        Classify().batches(data, model, options)
    assert "100 % of the words to validate on are unknown, or lack spaces: read as characters" in caplog.text
    assert "not among those to train on" not in caplog.text
    assert isinstance(model.embedding, NGramEmbedding)
    assert model.config.ngrams > 10


def test_words_that_were_asked_for_stay_and_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ClassifyOptions(data=write_characters(tmp_path / "a.csv"), tokens="words", **SMALL)
    data = Classify().load_data(options)
    with caplog.at_level(logging.WARNING, "fastgru"):
        Classify().batches(data, Classify().build_model(options, data), options)
    assert "100 % of the tokens to validate on are not among those to train on" in caplog.text


@pytest.mark.parametrize(
    ("given", "ngrams"),
    [
        ({}, False),
        ({"tokens": "characters"}, True),
        ({"tokens": "characters", "ngrams": 0}, False),
        ({"tokens": "subwords"}, False),
        ({"tokens": "words", "ngrams": 20}, True),
    ],
    ids=str,
)
def test_a_model_of_any_tokens_is_saved_and_answers_alike(tmp_path: Path, given: dict[str, Any], ngrams: bool) -> None:
    options = ClassifyOptions(data=write_reviews(tmp_path / "a.csv"), **SMALL, **given)
    data = Classify().load_data(options)
    model = Classify().build_model(options, data).eval()
    assert bool(model.config.ngrams) == ngrams
    model.save_pretrained(tmp_path / "model")
    texts = ["a fine film", "dull", "", "\u4f60\u597d"]
    expected = model.predict(texts)
    assert TextClassifier.from_pretrained(tmp_path / "model").predict(texts) == expected
    for one, other in zip(runtime.load(tmp_path / "model").predict(texts), expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_an_even_longest_ngram_is_refused(tmp_path: Path) -> None:
    options = ClassifyOptions(data=write_reviews(tmp_path / "a.csv"), longest_ngram=4, **SMALL)
    with pytest.raises(InputError, match="longest_ngram must be an odd number, got 4"):
        Classify().build_model(options, Classify().load_data(options))


def test_a_model_from_before_ngrams_is_read(tmp_path: Path) -> None:
    options = ClassifyOptions(data=write_reviews(tmp_path / "a.csv"), **SMALL)
    Classify().build_model(options, Classify().load_data(options)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["ngrams"], config["longest_ngram"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert TextClassifier.from_pretrained(tmp_path).config.ngrams == 0
