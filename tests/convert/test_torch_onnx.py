"""torch's own exporters to ONNX, given nothing of ours: ONNX's GRU with open sizes, the same numbers, or words."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_files import LAYERS, B, H, I, T, arguments, check, nodes, operators_listed_once  # noqa: F401
from torch import Tensor
from torch.export import Dim

import fastgru


@pytest.mark.parametrize(
    ("options", "with_h0", "as_program"),
    [
        ("plain", False, False),
        ("plain", True, True),
        ("bidirectional", True, False),
        ("original cell", False, True),
        ("stacked without bias", True, False),
    ],
)
def test_torchs_own_exporter_gives_onnxs_gru_with_open_sizes(options: str, with_h0: bool, as_program: bool) -> None:
    gru = fastgru.GRU(I, H, **LAYERS[options]).eval()
    given = arguments(gru, T, B, with_h0)
    sizes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {1: Dim.DYNAMIC})[: len(given)]
    if as_program:
        made = torch.onnx.export(torch.export.export(gru, given, dynamic_shapes=sizes), dynamo=True, verbose=False)
    else:
        made = torch.onnx.export(gru, given, dynamo=True, verbose=False, dynamic_shapes=sizes)
    assert [node.op_type for node in made.model_proto.graph.node].count("GRU") == gru.num_layers
    for steps, batch in ((T, B), (2 * T, 2), (2, B + 4)):
        given = arguments(gru, steps, batch, with_h0)
        for got, expected in zip(made(*given), gru(*given), strict=True):
            torch.testing.assert_close(got, expected)


class Stream(torch.nn.Module):
    """A cell, a step and a layer with lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.gru = fastgru.GRUCell(I, H), fastgru.GRU(H, H)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.gru.step(self.cell(x[0]))
        return self.gru(y.expand(x.shape[0], -1, -1), state, lengths=lengths)


def test_torchs_own_exporter_takes_cells_steps_and_lengths_and_verifies() -> None:
    model = Stream().eval()
    sizes = {"x": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, "lengths": {0: Dim.DYNAMIC}}
    given = (torch.randn(T, B, I), torch.tensor([2, T, 1]))
    made = torch.onnx.export(model, given, dynamo=True, verbose=False, dynamic_shapes=sizes, verify=True)
    given = (torch.randn(T + 3, B + 2, I), torch.tensor([0, T + 3, 4, 1, 0]))
    for got, expected in zip(made(*given), model(*given), strict=True):
        torch.testing.assert_close(got, expected)


def test_layers_compute_while_torchs_own_exporter_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    gru, x = fastgru.GRU(I, H).eval(), torch.randn(T, B, I)
    with torch.profiler.profile(), torch.no_grad():  # a call is an operator, as it is where a program runs
        monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
        y, _ = gru(x)
    assert torch.equal(y, gru(x)[0])


class LastState(torch.nn.Module):
    """The last states of packed sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = fastgru.GRU(I, H)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.gru(torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))[1]


def test_onnx_of_a_packed_sequence_is_refused() -> None:
    program = torch.export.export(LastState().eval(), (torch.randn(T, B, I), torch.tensor([2, T, 1])))
    with pytest.raises(Exception, match="rows of sequences have no form in ONNX; give the layer padded sequences"):
        torch.onnx.export(program, dynamo=True, verbose=False)


@pytest.mark.parametrize("option", [{"layer_norm": True}, {"zoneout": 0.1}], ids=str)
def test_torchs_own_exporter_says_what_onnxs_operator_does_not_have(option: dict[str, float]) -> None:
    program = torch.export.export(fastgru.GRU(I, H, **option).eval(), (torch.randn(T, B, I),))
    with pytest.raises(Exception, match=f"{next(iter(option)).replace('_', ' ')}.* no form in ONNX"):
        torch.onnx.export(program, dynamo=True, verbose=False)


@pytest.mark.parametrize("with_h0", [False, True])
@pytest.mark.parametrize("options", ["plain", "bidirectional", "stacked without bias"])
def test_torchs_older_exporter_gives_onnxs_gru_with_open_sizes(options: str, with_h0: bool, tmp_path: Path) -> None:
    gru, path = fastgru.GRU(I, H, **LAYERS[options]).eval(), tmp_path / "gru.onnx"
    sizes = {"x": {0: "B", 1: "T"} if gru.batch_first else {0: "T", 1: "B"}, "h0": {1: "B"}}
    names = ["x", "h0"] if with_h0 else ["x"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and says that a batch other than 1 needs h0 as an input
        torch.onnx.export(
            gru,
            arguments(gru, T, B, with_h0),
            path,
            input_names=names,
            dynamic_axes={name: sizes[name] for name in names},
            dynamo=False,
        )
    assert len(nodes(path)) == gru.num_layers
    for steps, batch in ((2 * T, B + 2), (1, 1)):
        check(path, gru, *arguments(gru, steps, batch, with_h0))


def test_openvino_takes_the_file_with_open_sizes(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    gru, path = fastgru.GRU(I, H, 2, bidirectional=True), tmp_path / "gru.onnx"
    fastgru.export_onnx(gru, path, torch.randn(T, B, I))
    compiled = openvino.compile_model(openvino.convert_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for steps, batch in ((T, B), (2 * T, B + 1)):
        x = torch.randn(steps, batch, I)
        with torch.no_grad():
            expected = gru(x)
        for got, wanted in zip(compiled((x.numpy(),)).values(), expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(np.array(got)), wanted)
