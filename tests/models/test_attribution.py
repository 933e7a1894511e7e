"""Integrated gradients of the text classifier, and the page that shows them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_text_model import TEXTS, build
from torch import Tensor

from fastgru.common.errors import InputError
from fastgru.models import TextClassifier, attribution
from fastgru.models.attribution import Attribution, attribute
from fastgru.training.classify.page import write_page


@pytest.fixture
def model() -> TextClassifier:
    """A model whose answers differ from text to text."""
    torch.manual_seed(0)
    model = build()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
        model.embedding.weight.mul_(5)
    return model


def log_odds(model: TextClassifier, x: Tensor, label: int) -> Tensor:
    p = model.logits(x, torch.full((len(x),), x.shape[1])).softmax(1)[:, label]
    return p.log() - (1 - p).log()


def test_scores_and_base_sum_to_the_log_odds(model: TextClassifier) -> None:
    found = attribute(model, TEXTS)
    assert model.training
    assert any(abs(sum(one.scores)) > 0.5 for one in found)
    for one, prediction in zip(found, model.predict(TEXTS), strict=True):
        assert one.label == prediction.label
        assert one.probability == pytest.approx(prediction.probabilities[one.label], abs=1e-6)
        whole = np.log(one.probability / (1 - one.probability))
        assert one.base + sum(one.scores) + one.gap == pytest.approx(whole, abs=1e-4)
        assert abs(one.gap) <= 0.01 * max(1, abs(whole - one.base))


def test_scores_are_the_integral(model: TextClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a midpoint sum of 2,000 points, in double precision: the maximum over t has kinks."""
    monkeypatch.setattr(attribution, "POINTS", 512)
    text = "a dull and flat film"
    one = attribute(model, [text], "odd")[0]
    model = model.double().eval()
    x = model.embedding(torch.tensor(model.encode([text]))).detach()
    places = ((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)[:, None, None]
    scaled = (places * x).requires_grad_()
    log_odds(model, scaled, 2).sum().backward()
    expected = (scaled.grad.mean(0) * x[0]).sum(1)
    np.testing.assert_allclose(one.scores, expected, rtol=0, atol=2e-3)
    assert one.base == pytest.approx(float(log_odds(model, torch.zeros_like(x), 2).detach()), abs=1e-5)


def test_scores_of_two_labels_are_opposite_where_there_are_two(model: TextClassifier) -> None:
    two = TextClassifier(type(model.config)(["bad", "good"], model.config.vocab_size), model.tokenizer)
    good, bad = (attribute(two, ["a fine film"], label)[0] for label in ("good", "bad"))
    np.testing.assert_allclose(good.scores, [-score for score in bad.scores], atol=1e-6)


def test_points_are_doubled_until_the_gap_is_small(model: TextClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "POINTS", 1)
    for one in attribute(model, TEXTS):
        assert abs(one.gap) <= 0.01 * max(1, abs(sum(one.scores) + one.gap))
    monkeypatch.setattr(attribution, "MOST_POINTS", 1)
    assert max(abs(one.gap) for one in attribute(model, TEXTS)) > 0.01


def test_spans_are_the_tokens(model: TextClassifier) -> None:
    text = "A fine,  unheard-of film"
    one = attribute(model, [text])[0]
    assert [text[start:end] for start, end in one.spans] == ["A", "fine", ",", "unheard", "-", "of", "film"]
    assert attribute(model, [""])[0].spans == [(0, 0)]


def test_attribute_refuses_what_it_cannot_explain(model: TextClassifier) -> None:
    with pytest.raises(ValueError, match="label must be one of bad, good, odd, got 'none'"):
        attribute(model, ["a"], "none")
    with pytest.raises(InputError, match="text 1 is not valid text"):
        attribute(model, ["half an emoji \ud83d"])


def test_page_shows_each_text_whole_and_escaped(tmp_path: Path) -> None:
    text = "<b>fine</b> & dull"
    spans = [(0, 3), (3, 7), (7, 11), (12, 13), (14, 18)]
    one = Attribution(text, "<good>", 0.75, spans, [0.0, 0.5, 0.0, 0.25, -1.0], 1.349, 0.0)
    write_page([one, one], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<article>") == 2
    assert "&lt;good&gt;, probability 0.750" in page
    assert '0.700)" title="-1.000">dull</mark>' in page  # the strongest, against
    assert '0.350)" title="+0.500">fine</mark>' in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "log odds +1.10 = +1.35" in page
    assert not any(word in page for word in ("http", "src=", "<script", "@import"))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
