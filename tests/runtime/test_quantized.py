"""Quantized weights without torch: layers, streams, files and ready models give torch's numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fastgru
from fastgru import _native, runtime
from fastgru.common.errors import InputError
from fastgru.inference.tokens import source_tokenizer, target_tokenizer
from fastgru.models import Seq2Seq, Seq2SeqConfig, SequenceClassifier, SequenceClassifierConfig
from fastgru.runtime import fallback
from fastgru.runtime import gru as runtime_gru

BITS = ["int8", "bf16"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "bias": False},
    {"layer_norm": True, "learn_initial_state": True},
    {"reset_after": False, "zoneout": 0.2},
]


def saved(gru: torch.nn.Module, path: Path, **options: Any) -> runtime.GRU:
    fastgru.save(gru, path)
    found = runtime.load(path, **options)
    assert isinstance(found, runtime.GRU)
    return found


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_loaded_layer_has_the_bits_of_torch_and_numpy_is_near(
    bits: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gru = fastgru.quantize(fastgru.GRU(7, 20, **options), bits)
    x, lengths = torch.randn(6, 3, 7), torch.tensor([6, 0, 4])
    resets = torch.rand(6, 3) < 0.3
    expected = gru(x, lengths=lengths, resets=resets)
    arguments = x.numpy(), None, lengths.numpy(), resets.numpy()
    native = saved(gru, tmp_path / "gru.safetensors")
    assert native.quantization == bits
    assert native.dtype == np.float32
    for found, wanted in zip(native(*arguments), expected, strict=True):
        assert np.array_equal(found, wanted.numpy())
    monkeypatch.setattr(runtime_gru, "_engine", lambda: fallback)
    _native.force_low_precision_set("generic")  # others may round x to bfloat16, which NumPy does not
    expected = gru(x, lengths=lengths, resets=resets)
    _native.force_low_precision_set("")
    for found, wanted in zip(saved(gru, tmp_path / "gru.safetensors")(*arguments), expected, strict=True):
        assert np.abs(found - wanted.numpy()).max() < (2e-3 if bits == "int8" else 2e-6)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_stream_is_the_whole_sequence(bits: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "numpy":
        monkeypatch.setattr(runtime_gru, "_engine", lambda: fallback)
    gru = saved(fastgru.quantize(fastgru.GRU(7, 20, 2), bits), tmp_path / "gru.safetensors")
    x = np.random.default_rng(0).standard_normal((9, 3, 7)).astype(np.float32)
    stream = gru.stream(batch=3)
    outputs = np.stack([stream.step(x_t) for x_t in x])
    assert np.array_equal(outputs, gru(x)[0])


def test_part_of_a_model_is_found_by_its_prefix(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict({"a": torch.nn.GRU(3, 4), "b": torch.nn.Linear(2, 2), "c": torch.nn.GRUCell(3, 4)})
    small = fastgru.quantize(model)
    gru = saved(small, tmp_path / "model.safetensors", prefix="a.")
    assert repr(gru) == "GRU(3, 4, num_layers=1, quantization='int8', dtype=float32)"
    cell, x = runtime.load(tmp_path / "model.safetensors", prefix="c."), torch.randn(2, 3)
    assert np.array_equal(cell(x[None].numpy())[1][0], small["c"](x).numpy())  # type: ignore[operator]


def saved_classifier(folder: Path, bits: str) -> tuple[Any, Any]:
    model = SequenceClassifier(SequenceClassifierConfig(["no", "yes"], input_size=5)).eval()
    small = fastgru.quantize(model, bits)
    small.save_pretrained(folder)
    return model, small


@pytest.mark.parametrize("bits", BITS)
def test_classifier_comes_back_with_the_same_answers(bits: str, tmp_path: Path) -> None:
    model, small = saved_classifier(tmp_path, bits)
    sequences = [np.random.default_rng(n).standard_normal((4 + n, 5)).astype(np.float32) for n in range(8)]
    expected = small.predict(sequences)
    again = SequenceClassifier.from_pretrained(tmp_path)
    assert again.quantization == bits
    assert again.predict(sequences) == expected
    for found, wanted in zip(runtime.load(tmp_path).predict(sequences), expected, strict=True):
        assert found.label == wanted.label
        assert abs(found.probabilities["yes"] - wanted.probabilities["yes"]) < 1e-6
    assert (tmp_path / "model.safetensors").stat().st_size < 0.6 * sum(p.nbytes for p in model.parameters())
    back = fastgru.to_float(again)
    back.save_pretrained(tmp_path / "float")
    assert "quantization" not in json.loads((tmp_path / "float" / "config.json").read_text())
    assert SequenceClassifier.from_pretrained(tmp_path / "float").quantization == ""


@pytest.mark.parametrize("attention", ["luong", "gnmt", "bahdanau"])
def test_seq2seq_writes_the_same_words(attention: str, tmp_path: Path) -> None:
    source = source_tokenizer("characters", "abc", fold=True)
    target = target_tokenizer("words", ["X", "Y", "Z"])
    sizes = {"encoder_size": 16, "decoder_size": 24, "decoder_layers": 2 if attention == "gnmt" else 1}
    config = Seq2SeqConfig(source.get_vocab_size(), target.get_vocab_size(), attention=attention, **sizes)
    model = Seq2Seq(config, source, target).eval()
    words = ["abc", "a", "cab", "bbca"]
    reports: list[Any] = []
    small = fastgru.quantize(model, check=[words], report=reports.append)
    assert reports[0].examples == 4
    assert reports[0].alike >= 3
    small.save_pretrained(tmp_path)
    expected = small.predict(words)
    assert Seq2Seq.from_pretrained(tmp_path).predict(words) == expected
    found = runtime.load(tmp_path).predict(words)
    assert [[one.text for one in all_of] for all_of in found] == [[one.text for one in all_of] for all_of in expected]


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    saved_classifier(tmp_path, "int8")
    config = json.loads((tmp_path / "config.json").read_text())
    for given, words in (
        ("int4", "quantization='int4'; there are: int8, bf16"),
        ("bf16", "expected bfloat16, and there is I8"),
        ("", "expected float64 or float32"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, "quantization": given}))
        with pytest.raises(InputError, match=words):
            runtime.load(tmp_path)
        with pytest.raises(InputError, match=words):
            SequenceClassifier.from_pretrained(tmp_path)


def test_arrays_that_do_not_fit_are_refused() -> None:
    state = fastgru.quantize(fastgru.GRU(3, 4)).state_dict()
    weights = {name: value.numpy() for name, value in state.items()}
    runtime.GRU(weights)
    wrong = {
        "weight_hh_l0": weights["weight_hh_l0"].astype(np.int16),
        "weight_ih_l0_scale": weights["weight_ih_l0_scale"][:5],
        "weight_hh_l0_scale": weights["weight_hh_l0_scale"] * np.float32(np.nan),
        "bias_ih_l0": weights["bias_ih_l0"].astype(np.float64),
    }
    for name, array in wrong.items():
        with pytest.raises(InputError, match=name):
            runtime.GRU({**weights, name: array})
    without = {name: array for name, array in weights.items() if not name.endswith("_scale")}
    with pytest.raises(InputError, match="weight_ih_l0 is int8, and there is no weight_ih_l0_scale"):
        runtime.GRU(without)
    bits = {
        name: np.full(array.shape, 0x7F80, np.uint16) if array.ndim == 2 else array for name, array in without.items()
    }
    with pytest.raises(InputError, match="weight_ih_l0 holds numbers that are not finite"):
        runtime.GRU(bits)


def spelling_model(**options: Any) -> Seq2Seq:
    source, target = source_tokenizer("characters", "abc", fold=True), target_tokenizer("words", ["X", "Y", "Z"])
    sizes = {"encoder_size": 16, "decoder_size": 24, "attention": "gnmt", "decoder_layers": 2}
    return Seq2Seq(Seq2SeqConfig(6, 7, **{**sizes, **options}), source, target).eval()


@pytest.mark.parametrize("options", [{}, {"ngrams": 4}, {"attention": "bahdanau", "decoder_layers": 1}])
def test_other_matrices_are_rounded_and_stored_in_int8(options: dict[str, Any], tmp_path: Path) -> None:
    model, words = spelling_model(**options), ["abc", "a", "cab", "bbca"]
    small = fastgru.quantize(model, matrices="int8")
    bound = model.output.weight.abs().amax(1, keepdim=True) / 254 * (1 + 1e-6)
    change = (small.output.weight - model.output.weight).abs()
    assert (change <= bound).all()
    assert change.max() > 0
    small.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["matrices"] == "int8"
    stored = load_file(tmp_path / "model.safetensors")
    narrow = {name for name, value in stored.items() if value.dtype is torch.int8}
    assert narrow == {name for name, value in stored.items() if value.dim() == 2}
    again, found = Seq2Seq.from_pretrained(tmp_path), runtime.load(tmp_path)
    assert again.matrices == "int8"
    torch.testing.assert_close(again.output.weight, small.output.weight, rtol=1e-6, atol=0)
    expected = [several[0] for several in small.predict(words)]
    for other in (again, found):
        assert [several[0].text for several in other.predict(words)] == [one.text for one in expected]
        scores = [several[0].score for several in other.predict(words)]
        assert scores == pytest.approx([one.score for one in expected], abs=1e-5)
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    fastgru.to_float(again).save_pretrained(tmp_path / "float")
    assert not {"matrices", "quantization"} & json.loads((tmp_path / "float" / "config.json").read_text()).keys()


def test_other_matrices_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    model = spelling_model()
    for matrices in ("bf16", ""):
        with pytest.raises(InputError, match=r"matrices is 'int8', for a model of fastgru\.models, got '"):
            fastgru.quantize(model, matrices=matrices)
    with pytest.raises(InputError, match="got 'int8' and a GRU"):
        fastgru.quantize(torch.nn.GRU(3, 4), matrices="int8")
    with torch.no_grad():
        model.output.weight[0, 0] = float("inf")
    with pytest.raises(InputError, match=r"output\.weight holds numbers that are not finite"):
        fastgru.quantize(model, matrices="int8")


def test_a_file_of_other_matrices_than_its_configuration_says_is_refused(tmp_path: Path) -> None:
    fastgru.quantize(spelling_model(), matrices="int8").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for given, words in (("int4", "matrices='int4'; there are: int8"), ("", "expected float64 or float32")):
        (tmp_path / "config.json").write_text(json.dumps({**config, "matrices": given}))
        with pytest.raises(InputError, match=words):
            runtime.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "model.safetensors")
    weights["output.weight_scale"][0] = 0
    save_file(weights, tmp_path / "model.safetensors")
    for load in (runtime.load, Seq2Seq.from_pretrained):
        with pytest.raises(InputError, match=r"output\.weight_scale must be above 0"):
            load(tmp_path)
