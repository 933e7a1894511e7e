"""BLEU and chrF: sacrebleu's own numbers, for any number of references, and none where they mean nothing."""

import io
import logging
import sys
from typing import Any

import pytest
import sacrebleu
from rich.console import Console

from fastgru.data.labelled import LabelledTexts
from fastgru.inference.generation import GeneratedText
from fastgru.training.translate.bleu import corpus_scores
from fastgru.training.translate.measure import measure

WRITTEN = ["the cat sat on the mat", "a dog ran home quickly", "birds sing in the morning sun"]
REFERENCES = [["the cat is on the mat", "a cat sat on the mat"], ["a dog ran home"], ["the birds sing at dawn"]]


class Parrot:
    """Writes what it is told to, whatever it reads."""

    def __init__(self, written: list[str]) -> None:
        self.written = written

    def predict(self, texts: Any, **options: Any) -> list[list[GeneratedText]]:
        return [[GeneratedText(text, -0.5)] for text, _ in zip(self.written, texts, strict=True)]

    def target_tokens(self, text: str) -> list[str]:
        return text.split()


def test_scores_are_those_of_each_source_with_all_of_its_references() -> None:
    found = corpus_scores(WRITTEN, REFERENCES)
    streams = [[several[0] for several in REFERENCES], [REFERENCES[0][1], None, None]]
    assert found.bleu == sacrebleu.corpus_bleu(WRITTEN, streams).score
    assert found.chrf == sacrebleu.corpus_chrf(WRITTEN, streams).score
    assert found.bleu != sacrebleu.corpus_bleu(WRITTEN, streams[:1]).score
    assert 0 < found.bleu < found.chrf < 100
    assert "tok:13a" in found.signatures["bleu"]
    assert "nc:6" in found.signatures["chrf"]


def test_single_words_have_no_scores() -> None:
    assert corpus_scores(["katze"], [["katze", "kater"]]) is None


def test_without_sacrebleu_it_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with caplog.at_level(logging.INFO, "fastgru"):
        assert corpus_scores(WRITTEN, REFERENCES) is None
    assert "pip install 'fastgru[bleu]'" in caplog.text


def test_measures_show_them_and_keep_what_was_wrong() -> None:
    sources = ["s1", "s1", "s2", "s3"]
    targets = [*REFERENCES[0], "a dog ran home quickly", *REFERENCES[2]]
    found = measure(Parrot(WRITTEN), LabelledTexts(sources, targets), beam=1)
    assert found.corpus == corpus_scores(WRITTEN, [REFERENCES[0], ["a dog ran home quickly"], REFERENCES[2]])
    assert [(one.input, one.truth) for one in found.errors] == [
        ("s1", "the cat is on the mat | a cat sat on the mat"),
        ("s3", "the birds sing at dawn"),
    ]
    screen = io.StringIO()
    found.show("a file", Console(file=screen, width=80))
    assert f"BLEU {found.corpus.bleu:.2f}   chrF {found.corpus.chrf:.2f}" in screen.getvalue()
