"""Seq2Seq: its equations step by step, its search against all sequences there are, and its folder."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgru.common.errors import InputError
from fastgru.inference.folder import files_of
from fastgru.inference.generation import GeneratedText
from fastgru.inference.search import Ids, Scores, beam_search
from fastgru.inference.tokens import (
    BEGIN_ID,
    END_ID,
    source_tokenizer,
    target_tokenizer,
    train_source_tokenizer,
    train_target_tokenizer,
)
from fastgru.models import Seq2Seq, Seq2SeqConfig, Seq2SeqEnsemble
from fastgru.models.tokens import pad_ids

FILES = files_of(Seq2SeqConfig)

WORDS = ["abba", "c", "cab", "baccab"]
KINDS = ["luong", "gnmt", "bahdanau", "none"]


def build(attention: str = "luong", **options: object) -> Seq2Seq:
    sizes = {"embedding_size": 5, "encoder_size": 4, "decoder_size": 6, "decoder_layers": 2}
    if attention == "bahdanau":
        sizes["decoder_layers"] = 1
    config = Seq2SeqConfig(6, 7, attention=attention, **{**sizes, **options})
    return Seq2Seq(config, source_tokenizer("characters", "abc", fold=True), target_tokenizer("words", ["X", "Y", "Z"]))


def logits_of(model: Seq2Seq, sources: list[str], targets: list[str]) -> Tensor:
    ids, lengths = pad_ids(model.encode_targets(targets))
    return model(*pad_ids(model.encode_sources(sources)), ids[:, :-1], lengths - 1)


TARGETS = ["X Y", "Z", "X", "Z Y X Z Y"]


@pytest.mark.parametrize("attention", KINDS)
def test_forward_does_not_see_the_padding(attention: str) -> None:
    model = build(attention, encoder_layers=2).eval()
    together = logits_of(model, WORDS, TARGETS)
    for row, (word, target) in enumerate(zip(WORDS, TARGETS, strict=True)):
        alone = logits_of(model, [word], [target])[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("attention", KINDS)
def test_forward_is_the_decoder_one_token_after_the_other(attention: str) -> None:
    model = build(attention).eval()
    whole = logits_of(model, ["cab"], ["Z Y X"])[0]
    source, state = model.encode(*pad_ids(model.encode_sources(["cab"])))
    for t, token in enumerate(model.encode_targets(["Z Y X"])[0][:-1]):
        logits, state, _ = model.decode(torch.tensor([[token]]), None, state, source)
        torch.testing.assert_close(logits[0, 0], whole[t], rtol=0, atol=1e-6)


@pytest.mark.parametrize("attention", KINDS)
def test_gradients_reach_every_weight(attention: str) -> None:
    model = build(attention)
    logits_of(model, WORDS, TARGETS).square().sum().backward()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert missing == []


def test_luongs_attention_is_its_equations() -> None:
    model = build("luong", decoder_layers=1).eval()
    source, state = model.encode(*pad_ids(model.encode_sources(["cab"])))
    h, _ = model.decoder.gru(model.target_embedding(torch.tensor([[BEGIN_ID]])), state)
    memory, h = source.memory[0], h[0, 0]
    attention = model.decoder.attention
    a = torch.stack([h @ attention.score.weight @ m for m in memory]).softmax(0)
    combined = torch.cat([a @ memory, h])
    logits = model.output((attention.combine.weight @ combined + attention.combine.bias).tanh())
    found, _, weights = model.decode(torch.tensor([[BEGIN_ID]]), None, state, source)
    torch.testing.assert_close(weights[0, 0], a, rtol=0, atol=1e-6)
    torch.testing.assert_close(found[0, 0], logits, rtol=0, atol=1e-6)


def test_bahdanaus_attention_is_its_equations() -> None:
    model = build("bahdanau").eval()
    source, state = model.encode(*pad_ids(model.encode_sources(["cab"])))
    memory, h, x = source.memory[0], state[0, 0], model.target_embedding.weight[BEGIN_ID]
    attention = model.decoder.attention
    query = attention.query.weight @ h + attention.query.bias
    a = torch.stack([attention.sum.weight[0] @ (query + attention.score.weight @ m).tanh() for m in memory]).softmax(0)
    context = a @ memory
    h = model.decoder.cell(torch.cat([x, context]), h)
    logits = model.output(model.decoder.combine(torch.cat([h, x, context])).tanh())
    found, after, weights = model.decode(torch.tensor([[BEGIN_ID]]), None, state, source)
    torch.testing.assert_close(weights[0, 0], a, rtol=0, atol=1e-6)
    torch.testing.assert_close(after[0, 0], h, rtol=0, atol=1e-6)
    torch.testing.assert_close(found[0, 0], logits, rtol=0, atol=1e-6)


def test_without_a_bridge_the_decoder_starts_from_the_encoders_state() -> None:
    model = build("none", bridge=False, bidirectional=False, encoder_size=6, decoder_layers=1, encoder_layers=1).eval()
    ids, lengths = pad_ids(model.encode_sources(WORDS))
    _, state = model.encode(ids, lengths)
    _, h_n = model.encoder(model.source_embedding(ids), lengths=lengths)
    assert torch.equal(state, h_n)


@pytest.mark.parametrize("attention", ["luong", "gnmt", "bahdanau"])
def test_align_gives_a_weight_for_each_pair_of_tokens(attention: str) -> None:
    model = build(attention).train()
    found = model.align("Cab", "Z Y")
    assert model.training
    assert found.source == ["c", "a", "b", "[EOS]"]
    assert found.target == ["Z", "Y", "[EOS]"]
    assert [len(row) for row in found.weights] == [4, 4, 4]
    assert [sum(row) for row in found.weights] == pytest.approx([1, 1, 1], abs=1e-6)


@torch.no_grad()
def chances_of(model: Seq2Seq, source: str, written: tuple[int, ...]) -> Tensor:
    """The probabilities `[T, V]` of every token at each step of what was written, by teacher forcing."""
    read = torch.tensor([[BEGIN_ID, *written[:-1]]])
    logits = model(*pad_ids(model.encode_sources([source])), read, torch.tensor([len(written)]))
    return logits[0].softmax(1)


def probability_of(model: Seq2Seq, source: str, written: tuple[int, ...]) -> float:
    """The log-probability of what was written."""
    chances = chances_of(model, source, written).log()
    return sum(float(chances[t, token]) for t, token in enumerate(written))


@pytest.mark.parametrize("attention", KINDS)
def test_a_beam_that_holds_everything_finds_the_likeliest_of_all_sequences(attention: str) -> None:
    model = build(attention).eval()
    tokens = [1, 4, 5, 6]  # what can be written: the unknown one, X, Y, Z
    every = [(*ids, END_ID) for length in range(3) for ids in itertools.product(tokens, repeat=length)]
    every += itertools.product(tokens, repeat=3)  # cut
    with torch.no_grad():
        model.output.weight.mul_(8)
        expected = sorted(((probability_of(model, "cab", written), written) for written in every), reverse=True)[:3]
    found = model.predict(["cab"], beam=150, best=3, max_length=3)[0]
    assert [one.score for one in found] == pytest.approx([score for score, _ in expected], abs=1e-5)
    texts = [model.target_text([token for token in written if token != END_ID]) for _, written in expected]
    assert [one.text for one in found] == texts


@pytest.mark.parametrize("attention", KINDS)
def test_a_beam_of_one_is_greedy_search_and_keeps_the_order(attention: str) -> None:
    model = build(attention).eval()
    found = model.predict(WORDS, beam=1, batch_size=3, max_length=6)
    for word, (one,) in zip(WORDS, found, strict=True):
        source, state = model.encode(*pad_ids(model.encode_sources([word])))
        token, written = BEGIN_ID, []
        while token != END_ID and len(written) < 6:
            logits, state, _ = model.decode(torch.tensor([[token]]), None, state, source)
            logits[..., [0, BEGIN_ID]] = float("-inf")
            token = int(logits.argmax())
            written.append(token)
        assert one.text == model.target_text([token for token in written if token != END_ID])


def test_the_search_gives_no_more_than_there_is() -> None:
    def step(tokens: Ids, came_from: Ids) -> tuple[Scores, Ids]:
        chances = np.full((len(tokens), 2), -np.inf, np.float32)
        chances[:, 0] = -1.0  # nothing but the end can be written
        return chances, np.full((len(tokens), 2), [END_ID, 0])

    found = beam_search(step, 2, BEGIN_ID, END_ID, beam=2, wanted=2, max_length=9)
    assert [[(one.tokens, one.score) for one in several] for several in found] == [[([], -1.0)], [([], -1.0)]]


def test_generate_takes_tensors_where_gradients_are_kept() -> None:
    model = build().eval()
    found = model.generate(*pad_ids(model.encode_sources(["cab", "bac"])), beam=4, best=2)
    assert found == model.predict(["cab", "bac"], beam=4, best=2)


def test_predict_refuses_what_it_cannot_take() -> None:
    model = build()
    assert model.predict([]) == []
    with pytest.raises(TypeError, match="put this one into a list"):
        model.predict("cab")
    for wrong in ({"beam": 0}, {"beam": 2, "best": 3}, {"batch_size": 0}, {"max_length": -1}):
        with pytest.raises(ValueError, match="best at most beam"):
            model.predict(["cab"], **wrong)
    with pytest.raises(InputError, match="text 2 is not valid text"):
        model.predict(["cab", "\ud83d"])


def test_an_ensemble_writes_what_its_models_find_likeliest_on_average() -> None:
    models = [build("gnmt"), build("bahdanau", encoder_size=3), build("none", decoder_size=5)]
    ensemble = Seq2SeqEnsemble(models).train()
    with torch.no_grad():
        for model in models:
            model.output.weight.mul_(8)
    found = ensemble.predict(["cab", "a"], beam=150, best=3, max_length=2)[0]
    assert all(module.training for module in ensemble.modules())
    ensemble.eval()
    tokens = [1, 4, 5, 6, END_ID]
    expected = []
    for written in [(END_ID,), *itertools.product(tokens[:-1], tokens)]:
        steps = [torch.stack([chances_of(model, "cab", written)[t] for model in models]) for t in range(len(written))]
        likely = sum(math.log(step.mean(0)[token]) for step, token in zip(steps, written, strict=True))
        expected.append((likely, models[0].target_text([token for token in written if token != END_ID])))
    expected.sort(reverse=True)
    assert [one.score for one in found] == pytest.approx([score for score, _ in expected[:3]], abs=1e-5)
    assert [one.text for one in found] == [text for _, text in expected[:3]]


def test_an_ensemble_of_one_is_that_one() -> None:
    model = build("luong")
    assert Seq2SeqEnsemble([model]).predict(WORDS, best=2) == [
        [GeneratedText(one.text, pytest.approx(one.score, abs=1e-5)) for one in several]
        for several in model.predict(WORDS, best=2)
    ]


def test_an_ensemble_aligns_as_its_models_do_on_average() -> None:
    models = [build("luong"), build("gnmt"), build("none")]
    found = Seq2SeqEnsemble(models).align("cab", "Z Y")
    weights = torch.tensor([model.align("cab", "Z Y").weights for model in models[:2]])
    torch.testing.assert_close(torch.tensor(found.weights), weights.mean(0))
    assert (found.source, found.target) == (["c", "a", "b", "[EOS]"], ["Z", "Y", "[EOS]"])
    assert not Seq2SeqEnsemble(models[2:]).attends
    assert Seq2SeqEnsemble(models[2:]).align("cab", "Z Y").weights == [[], [], []]


def test_an_ensemble_refuses_models_of_other_tokens() -> None:
    with pytest.raises(ValueError, match="of one model or more, got none"):
        Seq2SeqEnsemble([])
    other = Seq2Seq(build().config, build().source_tokenizer, target_tokenizer("words", ["X", "Y", "W"]))
    with pytest.raises(ValueError, match="model 2 has another target_tokenizer"):
        Seq2SeqEnsemble([build(), other])


@pytest.mark.parametrize("attention", KINDS)
def test_save_and_load_gives_the_same_model(tmp_path: Path, attention: str) -> None:
    model = build(attention).eval()
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["README.md", *FILES])
    loaded = Seq2Seq.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(logits_of(loaded, WORDS, TARGETS), logits_of(model, WORDS, TARGETS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": "none of these"}, "attention must be one of luong, gnmt, bahdanau, none"),
        ({"attention": "bahdanau"}, "Bahdanau's attention has one layer, got 2"),
        ({"bridge": False}, "without a bridge the decoder starts from the encoder's"),
        ({"dropout": 1}, "dropout must be a number from 0 to 1"),
        ({"encoder_size": 0}, "encoder_size must be a whole number of at least 1, got 0"),
        ({"target_size": 6}, "target_tokenizer.json has token ids up to 6"),
        ({"source_size": 9}, "does not fit config.json: source_embedding.weight"),
    ],
    ids=str,
)
def test_load_of_a_changed_configuration_is_a_clear_error(tmp_path: Path, change: dict, message: str) -> None:
    build().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match="cannot be loaded as a Seq2Seq: ") as refused:
        Seq2Seq.from_pretrained(tmp_path)
    assert message in str(refused.value)


@pytest.mark.parametrize("kind", ["characters", "words", "subwords"])
def test_tokenizers_give_back_what_they_were_trained_on(kind: str) -> None:
    texts = ["ein kleines Haus am See", "das Haus", "caf\u00e9 am Meer"]
    tokenizer = train_target_tokenizer(kind, texts, max_tokens=60)
    for text in texts:
        ids = tokenizer.encode(text).ids
        assert (ids[0], ids[-1]) == (BEGIN_ID, END_ID)
        assert tokenizer.decode(ids[1:-1], skip_special_tokens=False) == text


def test_a_source_tokenizer_folds_capitals_only_where_none_were_seen() -> None:
    folding = train_source_tokenizer("characters", ["abc"], max_tokens=60)
    assert folding.encode("CAB").ids == folding.encode("cab").ids
    telling = train_source_tokenizer("characters", ["abC", "c"], max_tokens=60)
    assert telling.encode("C").ids != telling.encode("c").ids
