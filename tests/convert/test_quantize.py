"""fastgru.quantize: copies of models with GRUs of few bits, everything that a module is asked for, and the report."""

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastgru
from fastgru.common.errors import InputError
from fastgru.convert.quantize import QuantizationReport
from fastgru.data.tokenizer import train_tokenizer
from fastgru.models import TextClassifier, TextClassifierConfig

BITS = ["int8", "bf16"]
TEXTS = ["a fine film", "a dull film", "what a great story", "this was bad and long"] * 3


class Tagger(torch.nn.Module):
    """Parts of both libraries, around them others."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(6, 8)
        self.rnn = torch.nn.GRU(8, 16, 2, bidirectional=True, batch_first=True, dropout=0.5)
        self.cell = fastgru.GRUCell(32, 12)
        self.out = torch.nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.embed(x))
        h = None
        for t in range(y.size(1)):
            h = self.cell(y[:, t], h)
        return self.out(h)


def report_of(model: torch.nn.Module, *args: Any, **options: Any) -> tuple[Any, QuantizationReport]:
    reports: list[QuantizationReport] = []
    small = fastgru.quantize(model, *args, report=reports.append, **options)
    return small, reports[0]


@pytest.mark.parametrize("bits", BITS)
def test_model_is_copied_and_its_answers_stay_near(bits: str) -> None:
    model = Tagger()
    before = copy.deepcopy(model.state_dict())
    small = fastgru.quantize(model, bits)
    assert model.training
    assert isinstance(model.rnn, torch.nn.GRU)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert isinstance(small.rnn, fastgru.QuantizedGRU)
    assert isinstance(small.cell, fastgru.QuantizedGRUCell)
    assert not small.training
    assert not [*small.rnn.parameters()]
    x = torch.randn(5, 7, 6)
    assert (small(x) - model.eval()(x)).abs().max() < 0.02
    small.train()
    assert not small.rnn.training
    assert small.out.training


@pytest.mark.parametrize("bits", BITS)
def test_quantized_layer_is_copied_pickled_and_loaded(bits: str) -> None:
    gru, x = fastgru.quantize(fastgru.GRU(8, 16, layer_norm=True, learn_initial_state=True), bits), torch.randn(5, 3, 8)
    expected = gru(x)[0]
    buffer = io.BytesIO()
    torch.save(gru.state_dict(), buffer)
    buffer.seek(0)
    other = fastgru.quantize(fastgru.GRU(8, 16, layer_norm=True, learn_initial_state=True), bits)
    assert not torch.equal(other(x)[0], expected)
    other.load_state_dict(torch.load(buffer))
    for copied in (copy.deepcopy(gru), pickle.loads(pickle.dumps(gru)), other, gru.to("cpu").double().half()):
        assert torch.equal(copied(x)[0], expected)
    assert {str(buffer.dtype) for buffer in gru.buffers()} == {"torch.float32", str(gru.weight_ih_l0.dtype)}


def test_weights_changed_in_place_are_seen_at_the_next_call() -> None:
    gru, x = fastgru.quantize(fastgru.GRU(8, 16)), torch.randn(5, 3, 8)
    gru(x)
    gru.weight_hh_l0.zero_()
    gru.bias_ih_l0 += 1
    assert torch.equal(gru(x)[0], copy.deepcopy(gru)(x)[0])
    with torch.inference_mode():
        made = fastgru.quantize(fastgru.GRU(8, 16))
        first = made(x)[0]
        made.weight_ih_l0.zero_()
        assert not torch.equal(made(x)[0], first)


@pytest.mark.parametrize("bits", BITS)
def test_every_form_of_input_is_that_of_the_padded_one(bits: str) -> None:
    gru = fastgru.quantize(fastgru.GRU(8, 16, 2, bidirectional=True), bits)
    x, lengths = torch.randn(6, 4, 8), torch.tensor([6, 4, 3, 1])
    expected, h_n = gru(x, lengths=lengths)
    packed, packed_h_n = gru(pack_padded_sequence(x, lengths))
    assert torch.equal(pad_packed_sequence(packed)[0], expected)
    assert torch.equal(packed_h_n, h_n)
    rows = torch.cat([x[:n, b] for b, n in enumerate(lengths.tolist())])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    found, found_h_n = gru(rows, cu_seqlens=offsets)
    assert torch.equal(found, torch.cat([expected[:n, b] for b, n in enumerate(lengths.tolist())]))
    assert torch.equal(found_h_n, h_n)
    mask = torch.arange(6) < lengths[:, None]
    assert torch.equal(gru(x, mask=mask)[0], expected)
    one, one_h_n = gru(x[:, 0])
    assert torch.equal(one, gru(x[:, :1])[0][:, 0])
    assert one_h_n.shape == (4, 16)


@pytest.mark.parametrize("bits", BITS)
def test_steps_are_the_whole_sequence(bits: str) -> None:
    gru = fastgru.quantize(fastgru.GRU(8, 16, 2), bits)
    x, state, outputs = torch.randn(5, 3, 8), None, []
    for x_t in x:
        y, state = gru.step(x_t, state)
        outputs.append(y)
    expected, h_n = gru(x)
    assert torch.equal(torch.stack(outputs), expected)
    assert torch.equal(state, h_n)


@pytest.mark.parametrize("bits", BITS)
def test_compiled_and_exported_programs_give_its_numbers(bits: str) -> None:
    model = torch.nn.Sequential(fastgru.quantize(fastgru.GRU(8, 16), bits))
    x = torch.randn(5, 3, 8)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x)[0], model(x)[0])
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: steps, 1: batch},))
    other = torch.randn(7, 4, 8)
    assert torch.equal(program.module()(other)[0], model(other)[0])
    by_vmap = torch.func.vmap(lambda one: model(one)[0])(torch.stack([x, -x]))
    assert (by_vmap[1] - model(-x)[0]).abs().max() < 2e-3


def test_half_inputs_and_autocast_are_computed_in_float32() -> None:
    gru, x = fastgru.quantize(fastgru.GRU(8, 16)), torch.randn(5, 3, 8).bfloat16()
    expected = gru(x.float())[0]
    y, h_n = gru(x)
    assert y.dtype is h_n.dtype is torch.bfloat16
    assert torch.equal(y, expected.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = gru(x.float())
    assert torch.equal(y, expected.bfloat16())
    with pytest.raises(ValueError, match=r"float32 and half precision, got torch\.float64"):
        gru(x.double())


@pytest.mark.parametrize("bits", BITS)
def test_to_float_gives_a_layer_of_the_weights_as_they_are(bits: str) -> None:
    model = Tagger()
    small = fastgru.quantize(model, bits)
    back = fastgru.to_float(small)
    assert type(back.rnn) is fastgru.GRU
    assert type(back.cell) is fastgru.GRUCell
    off = (back.rnn.weight_hh_l1_reverse - model.rnn.weight_hh_l1_reverse).abs().max()
    assert 0 < off < 2e-3
    x = torch.randn(5, 7, 6)
    back.train()(x).sum().backward()
    assert back.rnn.weight_ih_l0.grad is not None
    assert isinstance(small.rnn, fastgru.QuantizedGRU)
    again = fastgru.quantize(back, bits)
    assert torch.equal(again(x), small(x))


def test_report_tells_sizes_errors_and_answers() -> None:
    model = Tagger()
    batches = [torch.randn(5, 7, 6), (torch.randn(3, 4, 6),)]
    _, report = report_of(model, check=batches, at_least=0.5)
    assert report.megabytes[1] < 0.5 * report.megabytes[0]
    assert [*report.layers] == ["rnn", "cell"]
    assert report.weakest in report.layers
    rnn = report.layers["rnn"]
    assert len(rnn.weights) == 8
    assert 1e-3 < max(rnn.weights.values()) < 1e-2
    assert rnn.output_rms is not None
    assert rnn.output_max is not None
    assert rnn.drift is not None
    assert 0 < rnn.output_rms < 6e-3
    assert rnn.output_rms <= rnn.output_max < 0.03
    assert 0 < rnn.drift < 6e-3
    assert report.examples == 8
    assert report.alike is not None
    assert report.alike >= 7
    assert f"answers alike: {report.alike} of 8" in str(report)
    exact = report_of(model, "bf16", check=batches)[1].layers["rnn"].output_rms
    assert exact is not None
    assert exact < rnn.output_rms


def test_report_of_a_ready_model_compares_labels() -> None:
    tokenizer = train_tokenizer(TEXTS, min_count=1)
    model = TextClassifier(TextClassifierConfig(["bad", "good"], tokenizer.get_vocab_size()), tokenizer)
    _, report = report_of(model, check=[TEXTS[:4], TEXTS[4:]])
    assert report.examples == len(TEXTS)
    with torch.no_grad():
        model.gru.weight_hh_l0 *= 1e4  # what few bits cannot hold
        model.classify.weight *= 1e4
    with pytest.raises(InputError, match=r"\d+ of 12 answers alike, and at_least=1; weakest: gru"):
        fastgru.quantize(model, check=[[f"{a} {b}" for a in TEXTS[:3] for b in TEXTS[:4]]], at_least=1)


def test_layers_that_cannot_be_quantized_are_told() -> None:
    class Own(torch.nn.GRU):
        def forward(self, *args: Any) -> Any:
            return super().forward(*args)

    model = torch.nn.ModuleDict({"own": Own(3, 4), "rnn": torch.nn.GRU(3, 4)})
    _, report = report_of(model)
    assert [*report.layers] == ["rnn"]
    assert "extends" in report.left["own"]
    assert "left own: " in str(report)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (torch.nn.LSTM(3, 4), {}, "LSTM has no GRU or GRUCell"),
        (fastgru.GRU(3, 4), {"weights": "int4"}, "weights must be one of 'int8', 'bf16', got 'int4'"),
        (fastgru.GRU(3, 4), {"at_least": 0.9}, "at_least is a share of the answers to check"),
        (fastgru.GRU(3, 4), {"check": [["a text"]]}, "check must hold what GRU is called with"),
        (torch.nn.utils.parametrizations.weight_norm(fastgru.GRU(3, 4), "weight_hh_l0"), {}, "computed of others"),
    ],
)
def test_what_cannot_be_quantized_is_refused(model: torch.nn.Module, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fastgru.quantize(model, **options)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = torch.nn.Sequential(torch.nn.GRU(3, 4))
    with torch.no_grad():
        model[0].bias_hh_l0[2] = float("inf")
    with pytest.raises(InputError, match="0: bias_hh_l0 holds numbers that are not finite"):
        fastgru.quantize(model)
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module, got int"):
        fastgru.quantize(3)  # type: ignore[type-var]
    with pytest.raises(InputError, match="Linear has no quantized layer"):
        fastgru.to_float(torch.nn.Linear(2, 3))


def test_other_modules_of_ours_know_a_quantized_layer() -> None:
    model = fastgru.quantize(torch.nn.Sequential(fastgru.GRU(3, 4)))
    with pytest.raises(RuntimeError, match="quantized to int8; to_float"):
        torch.jit.script(model)
    assert fastgru.accelerate(model).swapped == ()
    assert "0" in fastgru.to_torch(model).left
    with pytest.raises(InputError, match="no GRU or GRUCell"):
        fastgru.freeze(model)
    with pytest.raises(RuntimeError, match=r"weight_ih_l0 must be torch\.int8, got torch\.float32"):
        model[0].load_state_dict(fastgru.GRU(3, 4).state_dict(), strict=False)
    with pytest.raises(TypeError, match="make a QuantizedGRU of a trained GRU"):
        fastgru.QuantizedGRU(3, 4)


def test_backend_that_was_asked_for_serves_a_quantized_layer_or_says_why_not() -> None:
    gru, x = fastgru.quantize(fastgru.GRU(3, 4)), torch.randn(5, 2, 3)
    info = fastgru.info(gru)
    assert info.backend == "cpu"
    assert info.verdict("aten") == "cannot: it has nothing for weights of few bits"
    gru.backend = "reference"
    assert fastgru.info(gru).backend == "reference"
    assert (gru(x)[0] - fastgru.quantize(fastgru.to_float(gru))(x)[0]).abs().max() < 2e-3
    gru.backend = "aten"
    with pytest.raises(RuntimeError, match="backend 'aten' cannot serve this layer: it has nothing for weights"):
        gru(x)


def test_wrong_calls_are_refused_in_words() -> None:
    gru, cell = fastgru.quantize(fastgru.GRU(3, 4)), fastgru.quantize(fastgru.GRUCell(3, 4))
    with pytest.raises(RuntimeError, match="Expected 3, got 5"):
        gru(torch.zeros(2, 1, 5))
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        gru(torch.zeros(2, 1, 3), torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match=r"input must be \[B, 3\] or \[3\], got \[2, 4\]"):
        cell(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="hx must be of the 2 rows of the input, got 3"):
        cell(torch.zeros(2, 3), torch.zeros(3, 4))


@pytest.mark.parametrize("bits", BITS)
def test_onnx_file_has_the_float_model_of_the_same_weights(bits: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = fastgru.quantize(fastgru.GRU(64, 128, bidirectional=True), bits)
    path = tmp_path / "gru.onnx"
    fastgru.export_onnx(model, path, torch.randn(4, 2, 64))
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("DequantizeLinear") == (2 if bits == "int8" else 0)
    assert kinds.count("GRU") == 1
    assert path.stat().st_size < {"int8": 0.4, "bf16": 0.6}[bits] * 4 * 2 * 3 * 128 * (64 + 128)
