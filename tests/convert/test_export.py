"""torch.export and ONNX: symbolic T and B, the same numbers, and no file that is wrong."""

import io
import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx_files import LAYERS, B, H, I, T, arguments, check, nodes, operators_listed_once, run  # noqa: F401
from torch import Tensor
from torch.export import Dim

import fastgru
from fastgru.convert import export


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("with_h0", [False, True])
@pytest.mark.parametrize("options", LAYERS)
def test_a_program_with_symbolic_sizes_is_saved_and_loaded(options: str, with_h0: bool, strict: bool) -> None:
    gru = fastgru.GRU(I, H, **LAYERS[options])
    symbols = (Dim("B"), Dim("T")) if gru.batch_first else (Dim("T"), Dim("B"))
    of_x = dict(enumerate(symbols if strict else (Dim.DYNAMIC, Dim.DYNAMIC)))
    of_h0 = {1: Dim("B") if strict else Dim.DYNAMIC}
    shapes = (of_x, of_h0) if with_h0 else (of_x,)
    program = torch.export.export(gru, arguments(gru, T, B, with_h0), dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for steps, batch in ((2 * T, B + 4), (2, 2)):
        given = arguments(gru, steps, batch, with_h0)
        for got, expected in zip(loaded(*given), gru(*given), strict=True):
            assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("kind", "options", "with_h0"),
    [
        (fastgru.GRU, "plain", False),
        (fastgru.GRU, "stacked", True),
        (fastgru.GRU, "bidirectional", True),
        (fastgru.GRU, "stacked without bias", False),
        (fastgru.GRU, "original cell", True),
        (torch.nn.GRU, "bidirectional", False),
        (torch.nn.GRU, "stacked", True),
    ],
)
def test_onnx_has_a_gru_node_and_dynamic_sizes(options: str, kind: type, with_h0: bool, tmp_path: Path) -> None:
    gru, path = kind(I, H, **LAYERS[options]), tmp_path / "gru.onnx"
    shapes = fastgru.export_onnx(gru, path, arguments(gru, T, B, with_h0))
    assert shapes == {"input": ["input_0", "input_1", I]} | (
        {"hx": [gru.num_layers * (2 if gru.bidirectional else 1), f"input_{1 - gru.batch_first}", H]} if with_h0 else {}
    )
    for node in nodes(path):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes["linear_before_reset"] == LAYERS[options].get("reset_after", True)
        assert attributes["direction"] == (b"bidirectional" if gru.bidirectional else b"forward")
        assert (len(node.input) > 5 and node.input[5] != "") == with_h0
    assert len(nodes(path)) == gru.num_layers
    for steps, batch in ((T, B), (2 * T, 1), (1, 4)):
        check(path, gru, *arguments(gru, steps, batch, with_h0))


def test_weights_in_the_file_are_in_onnx_order(tmp_path: Path) -> None:
    gru, path = fastgru.GRU(I, H, bidirectional=True), tmp_path / "gru.onnx"
    fastgru.export_onnx(gru, path, (torch.randn(T, B, I),))
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    (node,) = nodes(path)
    order = torch.cat([torch.arange(H, 2 * H), torch.arange(H), torch.arange(2 * H, 3 * H)])
    for name, place in (("weight_ih", 1), ("weight_hh", 2)):
        expected = [getattr(gru, f"{name}_l0{end}").detach()[order] for end in ("", "_reverse")]
        np.testing.assert_array_equal(stored[node.input[place]], torch.stack(expected))
    bias = [
        torch.cat([getattr(gru, f"bias_{part}_l0{end}").detach()[order] for part in ("ih", "hh")])
        for end in ("", "_reverse")
    ]
    np.testing.assert_array_equal(stored[node.input[3]], torch.stack(bias))


def test_onnx_of_weights_too_large_to_be_folded_at_export(tmp_path: Path) -> None:
    gru, path = fastgru.GRU(300, 400), tmp_path / "gru.onnx"
    fastgru.export_onnx(gru, path, (torch.randn(T, B, 300),))
    check(path, gru, torch.randn(2, 7, 300))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert "Slice" not in {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}


class Tagger(torch.nn.Module):
    """Ids in; one of torch's GRUs, one of ours, one used twice, a cell, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, I)
        self.first = torch.nn.GRU(I, H, batch_first=True, bidirectional=True, dropout=0.5, num_layers=2)
        self.second = fastgru.GRU(2 * H, 2 * H, batch_first=True, backend="reference")
        self.cell = torch.nn.GRUCell(2 * H, H)
        self.dropout = torch.nn.Dropout(0.9)

    def forward(self, ids: Tensor, *, state: Tensor) -> dict[str, Tensor]:
        y, _ = self.first(self.embedding(ids))
        y, _ = self.second(y)
        y, h_n = self.second(self.dropout(y))
        return {"tags": y.argmax(dim=-1), "state": self.cell(h_n[0], state)}


def test_onnx_of_a_whole_model_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model, path = Tagger(), tmp_path / "tagger.onnx"
    model.embedding.eval()
    ids, state = torch.randint(0, 20, (B, T)), torch.randn(B, H)
    shapes = fastgru.export_onnx(model, path, (ids,), {"state": state})
    assert len(nodes(path)) == 2 + 2 + 1
    assert shapes["state"][0] == shapes["ids"][0]
    assert [type(layer) for layer in model.children()] == [type(layer) for layer in Tagger().children()]
    assert (model.second.backend, "backend" in vars(model.first)) == ("reference", False)
    assert (model.training, model.embedding.training, model.first.training) == (True, False, True)
    model.eval()
    ids, state = torch.randint(0, 20, (7, 2)), torch.randn(7, H)
    for got, wanted in zip(run(path, ids, state), model(ids, state=state).values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), wanted)


def test_onnx_keeps_names_that_were_given(tmp_path: Path) -> None:
    gru = fastgru.GRU(I, H, backend="reference")
    x, h0 = torch.randn(T, B, I), torch.randn(1, B, H)
    shapes = fastgru.export_onnx(gru, tmp_path / "x", (x,), dynamic_shapes=({0: Dim("T")},))
    assert shapes == {"input": ["T", B, I]}
    shapes = fastgru.export_onnx(gru, tmp_path / "x", (x, h0), dynamic_shapes=[["T", "B", None], {1: "B"}])
    assert shapes == {"input": ["T", "B", I], "hx": [1, "B", H]}


def test_onnx_of_a_parametrized_layer_and_of_a_subclass(tmp_path: Path) -> None:
    class Plain(torch.nn.GRU):
        """A subclass that computes as its parent."""

    for layer in (torch.nn.GRU(I, H), fastgru.GRU(I, H), Plain(I, H)):
        torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
        kind = type(layer)
        assert fastgru.export_onnx(layer, tmp_path / "x", torch.randn(T, B, I))["input"] == ["input_0", "input_1", I]
        assert type(layer) is kind
        check(tmp_path / "x", layer, torch.randn(2 * T, B + 1, I))


@pytest.mark.parametrize("swap", [False, True])
def test_onnx_of_a_subclass_with_a_forward_of_its_own(swap: bool, tmp_path: Path) -> None:
    class Doubled(torch.nn.GRU):
        """What it calls is an operator in the file, whatever its length."""

        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)[0]

    layer = Doubled(I, H)
    if swap:
        fastgru.accelerate(layer, subclasses=True)
    kind = type(layer)
    fastgru.export_onnx(layer, tmp_path / "x", torch.randn(T, B, I))
    assert type(layer) is kind
    assert "backend" not in vars(layer)
    operators = [node.op_type for node in onnx.load(tmp_path / "x").graph.node]
    assert operators.count("GRU") == 1
    check(tmp_path / "x", layer, torch.randn(2 * T, B + 1, I))


def test_onnx_of_arguments_by_name_in_any_order(tmp_path: Path) -> None:
    gru, x, h0 = fastgru.GRU(I, H), torch.randn(T, B, I), torch.randn(1, B, H)
    shapes = fastgru.export_onnx(
        gru, tmp_path / "x", (), {"hx": h0, "input": x}, dynamic_shapes={"input": {1: "B"}, "hx": {1: "B"}}
    )
    assert shapes == {"input": [T, "B", I], "hx": [1, "B", H]}


class Shifted(torch.nn.Module):
    """In ONNX not what it is in torch: it asks who looks."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = fastgru.GRU(I, H)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return y + 0.01 if torch.compiler.is_exporting() else y


class FixedSteps(Shifted):
    """In ONNX a step shorter."""

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return y[: x.shape[0] - 1 if torch.compiler.is_exporting() else x.shape[0]]


class WrongElsewhere(Shifted):
    """Right for the example, wrong for any other length."""

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return y if torch.compiler.is_exporting() or x.shape[0] == T else y + 0.01


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Shifted, r"for inputs of \[\(5, 3, 4\)\] is up to 0.01 away"),
        (WrongElsewhere, r"for inputs of \[\(6, 5, 4\)\] is up to 0.01 away"),
        (FixedSteps, "the shape"),
    ],
)
def test_onnx_that_is_wrong_is_not_written(model: type, words: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_bytes(b"what was there")
    with pytest.raises(RuntimeError, match=words):
        fastgru.export_onnx(model(), path, (torch.randn(T, B, I),))
    assert path.read_bytes() == b"what was there"
    assert [entry.name for entry in tmp_path.iterdir()] == ["wrong.onnx"]


def test_onnx_of_an_example_without_dynamic_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give an example with B >= 2 and T >= 2"):
        fastgru.export_onnx(fastgru.GRU(I, H), tmp_path / "x", (torch.randn(1, 1, I),))


@pytest.mark.parametrize("kind", [torch.nn.GRU, fastgru.GRU, torch.nn.GRUCell, fastgru.GRUCell])
@pytest.mark.parametrize("to", [torch.float16, torch.float64, "meta"], ids=str)
def test_onnx_of_what_onnxruntime_does_not_take_says_what_to_do(kind: type, to: torch.dtype | str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(I, I), kind(I, H)).to(to)
    words = "float32 on meta" if to == "meta" else f"{to} on cpu".removeprefix("torch.")
    with pytest.raises(RuntimeError, match=rf"the GRU '1' is of {words}, .* export model.float\(\).cpu\(\)"):
        fastgru.export_onnx(model, "never", torch.randn(T, B, I))


def test_onnx_of_too_many_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_LIMIT", 100)
    with pytest.raises(ValueError, match="at most 100 bytes of weights, and this model has 864"):
        fastgru.export_onnx(fastgru.GRU(I, H), tmp_path / "x", (torch.randn(T, B, I),))


def test_without_onnxscript_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = export.find_spec
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(ImportError, match=r"needs onnxscript, not installed here.*fastgru\[onnx\]"):
        fastgru.export_onnx(fastgru.GRU(I, H), tmp_path / "x", (torch.randn(T, B, I),))


def test_onnx_of_one_sequence_and_of_a_cell(tmp_path: Path) -> None:
    gru, cell = fastgru.GRU(I, H, bidirectional=True), fastgru.GRUCell(I, H)
    fastgru.export_onnx(gru, tmp_path / "gru", (torch.randn(T, I),))
    fastgru.export_onnx(cell, tmp_path / "cell", (torch.randn(B, I), torch.randn(B, H)))
    for steps, batch in itertools.product((2, 9), (1, 5)):
        check(tmp_path / "gru", gru, torch.randn(steps, I))
        check(tmp_path / "cell", cell, torch.randn(batch, I), torch.randn(batch, H))


@pytest.mark.parametrize("with_h0", [False, True])
def test_lengths_are_the_files_too(tmp_path: Path, with_h0: bool) -> None:
    gru = fastgru.GRU(I, H, **LAYERS["stacked without bias"], batch_first=True)
    x, *h0 = arguments(gru, T, B, with_h0)
    path = tmp_path / "lengths.onnx"
    fastgru.export_onnx(gru, path, (x, *h0), {"lengths": torch.tensor([2, T, 1])})
    x, *h0 = arguments(gru, T + 3, B + 2, with_h0)
    lengths = torch.tensor([0, T + 3, 4, 1, 0])
    for got, expected in zip(run(path, x, *h0, lengths), gru(x, *h0, lengths=lengths), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), expected)


def test_resets_and_rows_have_no_form_in_onnx(tmp_path: Path) -> None:
    gru = fastgru.GRU(I, H)
    (x,) = arguments(gru, T, B, False)
    for given, steps in ((x, {"resets": torch.ones(T, B) > 0}), (x[0], {"cu_seqlens": torch.tensor([0, 1, B])})):
        with pytest.raises(ValueError, match="have no form in ONNX"):
            fastgru.export_onnx(gru, tmp_path / "none.onnx", (given,), steps)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("option", [{"layer_norm": True}, {"zoneout": 0.1}], ids=str)
def test_onnx_of_what_its_operator_does_not_have_is_refused(option: dict[str, float], tmp_path: Path) -> None:
    model = torch.nn.Sequential(fastgru.GRU(I, H, **option))
    words = f"the GRU '0' has {next(iter(option))}=.*, which ONNX's operator GRU does not have"
    with pytest.raises(RuntimeError, match=words):
        fastgru.export_onnx(model, tmp_path / "gru.onnx", (torch.randn(T, B, I),))
    assert not any(tmp_path.iterdir())
