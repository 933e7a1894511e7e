"""N-grams of what a Seq2Seq reads: which are counted, and what their vectors add."""

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastgru.inference.tokens import source_tokenizer, target_tokenizer
from fastgru.models import Seq2Seq, Seq2SeqConfig, ngrams
from fastgru.models.ngrams import LEAST, NGramEmbedding, frequent_ngrams, ngram_codes
from fastgru.models.tokens import pad_ids

DRAW = random.Random(0)
TEXTS = ["".join(DRAW.choices("abc", k=DRAW.randint(1, 9))) for _ in range(400)]


def encode(texts: list[str]) -> list[list[int]]:
    return [["?abc".index(letter) for letter in text] for text in texts]


def windows(row: list[int], n: int) -> list[tuple[int, ...]]:
    """The n-gram around each token, by hand."""
    framed = [0] * (n // 2) + row + [0] * (n // 2)
    return [tuple(framed[t : t + n]) for t in range(len(row))]


def code(window: tuple[int, ...]) -> int:
    return int(ngram_codes(torch.tensor([window]), len(window))[0, len(window) // 2])


def counted(longest: int) -> Counter[tuple[int, ...]]:
    return Counter(w for row in encode(TEXTS) for n in range(3, longest + 1, 2) for w in windows(row, n))


def test_each_ngram_has_a_code_of_its_own() -> None:
    seen: dict[int, tuple[int, ...]] = {}
    for n in (3, 5, 7):
        ids, lengths = pad_ids(encode(TEXTS))
        codes = ngram_codes(ids, n)
        for row, length, given in zip(encode(TEXTS), lengths.tolist(), codes.tolist(), strict=True):
            for window, number in zip(windows(row, n), given[:length], strict=True):
                assert seen.setdefault(number, window) == window
    assert len(seen) == len(counted(7))


@pytest.mark.parametrize("chunk", [7, 1000])
def test_the_frequent_ones_are_counted(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "_CHUNK", chunk)
    often = {code(window): count for window, count in counted(5).items() if count >= LEAST}
    assert 100 < len(often) < len(counted(5))
    assert frequent_ngrams(TEXTS, encode, longest=5, most=10_000).tolist() == sorted(often)
    kept = frequent_ngrams(TEXTS, encode, longest=5, most=20).tolist()
    assert kept == sorted(kept)
    assert sorted(often[number] for number in kept) == sorted(often.values())[-20:]
    assert len(frequent_ngrams(TEXTS, encode, longest=5, most=0)) == 0


def test_the_rarest_are_forgotten_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "_CHUNK", 50)
    monkeypatch.setattr(ngrams, "_MOST_COUNTED", 60)
    kept = frequent_ngrams(TEXTS, encode, longest=5, most=10_000).tolist()
    most = [code(window) for window, _ in counted(5).most_common(10)]
    assert set(most) <= set(kept)
    assert len(kept) <= 60


def embedding(dropout: float = 0.0) -> NGramEmbedding:
    codes = frequent_ngrams(TEXTS, encode, longest=5, most=50)
    layer = NGramEmbedding(4, 6, ngrams=len(codes), features=3, longest=5, dropout=dropout)
    layer.ngram_codes.copy_(codes)
    return layer


def added(layer: NGramEmbedding, window: tuple[int, ...]) -> Tensor:
    place = (layer.ngram_codes == code(window)).nonzero().flatten().tolist()
    return layer.ngram_vectors[place[0]] if place else torch.zeros(3)


def test_the_embedding_is_its_equation() -> None:
    layer = embedding()
    ids, _ = pad_ids(encode(["abcab", "c"]))
    found = layer(ids)
    known = 0
    for b, row in enumerate(encode(["abcab", "c"])):
        for t, around in enumerate(zip(windows(row, 3), windows(row, 5), strict=True)):
            vectors = [added(layer, window) for window in around]
            known += sum(bool(vector.any()) for vector in vectors)
            expected = layer.weight[row[t]] + layer.project.weight @ sum(vectors, torch.zeros(3))
            torch.testing.assert_close(found[b, t], expected, rtol=0, atol=1e-6)
    assert 0 < known < 12  # there are both, n-grams with a vector and without


def test_dropout_takes_whole_ngrams_in_training_alone() -> None:
    layer = embedding(dropout=0.4)
    with torch.no_grad():
        layer.ngram_vectors.fill_(1)
        layer.project.weight.fill_(1)
        layer.weight.zero_()
    ids, _ = pad_ids(encode(["abc"] * 2000))
    assert set(layer.eval()(ids)[:, 1, 0].tolist()) == {3.0}  # "abc" has a vector of three features, "[]abc[]" none
    left = layer.train()(ids)[:, 1, 0]
    assert set(left.tolist()) == {0.0, 3.0}
    assert left.mean().item() / 3 == pytest.approx(0.6, abs=0.044)  # 4 deviations


def build(**options: int) -> Seq2Seq:
    codes = frequent_ngrams(TEXTS, encode, longest=5, most=50)
    sizes = {"embedding_size": 5, "encoder_size": 4, "decoder_size": 6}
    config = Seq2SeqConfig(6, 7, **{**sizes, "ngrams": 50, **options}, dropout=0.0)
    model = Seq2Seq(config, source_tokenizer("characters", "abc", fold=True), target_tokenizer("words", "XYZ"))
    if config.ngrams == len(codes):
        model.set_ngrams(codes)
    return model


def test_a_model_does_not_see_what_stands_beyond_the_end() -> None:
    model = build()
    ids, lengths = pad_ids(model.encode_sources(["abcab", "ca"]))
    target = torch.tensor([[2, 4, 5]] * 2)
    clean = model(ids, lengths, target, torch.tensor([3, 3]))
    ids[1, lengths[1] :] = 3
    assert torch.equal(model(ids, lengths, target, torch.tensor([3, 3])), clean)


def test_a_saved_model_keeps_its_ngrams(tmp_path: Path) -> None:
    model = build().eval()
    model.save_pretrained(tmp_path)
    loaded = Seq2Seq.from_pretrained(tmp_path)
    assert loaded.config.ngrams == 50
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    assert loaded.predict(["abcab"], best=3) == model.predict(["abcab"], best=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngrams": -1}, "ngrams must be a whole number of at least 0, got -1"),
        ({"longest_ngram": 1}, "longest_ngram must be a whole number of at least 3, got 1"),
        ({"longest_ngram": 4}, "longest_ngram must be an odd number, got 4"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_a_clear_error(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_the_codes_are_as_many_as_the_configuration_says() -> None:
    with pytest.raises(ValueError, match=r"expected the codes of 7 n-grams, got \[50\]"):
        build(ngrams=7).set_ngrams(torch.zeros(50, dtype=torch.int64))
