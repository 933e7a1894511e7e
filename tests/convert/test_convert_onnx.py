"""fastgru.convert's ONNX nodes against onnxruntime, and against torch's own export."""

import io

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from grid import B, H, I, T
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastgru
from fastgru.common.errors import InputError
from fastgru.convert import from_onnx, to_onnx_weights


def model_of(weights: dict[str, np.ndarray], inputs: str = "X W R B", **attributes: object) -> onnx.ModelProto:
    """One GRU node; what of its inputs has no weights is an input of the graph."""
    names = [name if (name.isupper() and name in ("X", *weights)) or name.islower() else "" for name in inputs.split()]
    node = helper.make_node("GRU", names, ["Y", "Y_h"], name="gru", **{"linear_before_reset": 1, **attributes})
    types = {"X": TensorProto.FLOAT, "initial_h": TensorProto.FLOAT, "sequence_lens": TensorProto.INT32}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, types[name], None) for name in names if name in types],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("Y", "Y_h")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime computes."""
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)


def node_options(gru: nn.RNNBase) -> dict[str, object]:
    return {"hidden_size": gru.hidden_size, "direction": "bidirectional" if gru.bidirectional else "forward"}


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_onnx_both_ways_give_the_same_numbers(bias: bool, bidirectional: bool, reset_after: bool) -> None:
    gru = fastgru.GRU(I, H, bias=bias, bidirectional=bidirectional, reset_after=reset_after)
    options = {**node_options(gru), "linear_before_reset": int(reset_after)}
    model = model_of(to_onnx_weights(gru)[0], "X W R B sequence_lens initial_h", **options)
    x, lengths = torch.randn(T, B, I), torch.tensor([3, T, 1], dtype=torch.int32)
    h0 = torch.randn(2 if bidirectional else 1, B, H)
    y, y_h = run(model, X=x.numpy(), sequence_lens=lengths.numpy(), initial_h=h0.numpy())
    back = from_onnx(model)
    for layer in (gru, back):
        output, h_n = layer(pack_padded_sequence(x, lengths, enforce_sorted=False), h0)
        expected = nn.utils.rnn.pad_packed_sequence(output)[0].detach()
        np.testing.assert_allclose(y.transpose(0, 2, 1, 3).reshape(T, B, -1), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(y_h, h_n.detach(), rtol=0, atol=1e-6)
    for name, weight in gru.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight), name


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("bias", [False, True])
def test_a_stack_that_torch_exported_comes_back(bias: bool) -> None:
    theirs, x = nn.GRU(I, H, 2, bias=bias, bidirectional=True), torch.randn(T, B, I)
    file = io.BytesIO()
    torch.onnx.export(theirs, (x,), file, dynamo=False)
    model = onnx.load_from_string(file.getvalue())
    names = [node.name for node in model.graph.node if node.op_type == "GRU"]
    assert len(names) == 2
    back = from_onnx(model, *names)
    torch.testing.assert_close(back(x), theirs(x), rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=f"expected the name of one of the model's GRU nodes .'{names[0]}'.* got "):
        from_onnx(model)


def test_onnx_layout_one_is_batch_first() -> None:
    gru = fastgru.GRU(I, H, batch_first=True)
    assert from_onnx(model_of(to_onnx_weights(gru)[0], layout=1)).batch_first
    assert not from_onnx(model_of(to_onnx_weights(gru)[0])).batch_first


def test_onnx_weights_may_be_constant_nodes() -> None:
    gru = fastgru.GRU(I, H)
    weights = to_onnx_weights(gru)[0]
    model = model_of({name: weights.pop(name) for name in ("W", "B")}, "X W R B")
    model.graph.node[0].input[2] = "R"
    model.graph.node.insert(0, helper.make_node("Constant", [], ["R"], value=numpy_helper.from_array(weights["R"])))
    assert torch.equal(from_onnx(model).weight_hh_l0, gru.weight_hh_l0)


WEIGHTS = to_onnx_weights(nn.GRU(3, 4))[0]
BOTH = to_onnx_weights(nn.GRU(3, 4, bidirectional=True))[0]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (model_of(WEIGHTS, direction="reverse"), "must be forward or bidirectional, got direction='reverse'"),
        (model_of(WEIGHTS, activations=["Sigmoid", "Relu"]), r"Sigmoid and Tanh, got \['Sigmoid', 'Relu'\]"),
        (
            model_of(BOTH, direction="bidirectional", activations=["Sigmoid", "Tanh", "Sigmoid", "Affine"]),
            "Sigmoid and Tanh, got .*'Affine'",
        ),
        (model_of(WEIGHTS, clip=3.0), "must not clip, got clip=3.0"),
        (model_of(WEIGHTS, hidden_size=5), r"promises hidden_size=5, its R is \(1, 12, 4\)"),
        (model_of(WEIGHTS, direction="bidirectional"), r"R must have the shape \(2, any, any\), got \(1, 12, 4\)"),
        (model_of({**WEIGHTS, "W": BOTH["W"]}), r"W must have the shape \(1, 12, any\), got \(2, 12, 3\)"),
        (model_of({**WEIGHTS, "B": WEIGHTS["B"][:, :12]}), r"B must have the shape \(1, 24\), got \(1, 12\)"),
        (model_of({**WEIGHTS, "R": WEIGHTS["R"].astype("i")}), "R must be float16, float32 or float64, got int32"),
        (
            model_of({**WEIGHTS, "sequence_lens": np.ones(2, "i")}, "X W R B sequence_lens"),
            "has constant sequence_lens; make them an input, or remove them",
        ),
        (
            model_of({**WEIGHTS, "initial_h": np.ones((1, 2, 4), "f")}, "X W R B sequence_lens initial_h"),
            "has a constant initial_h that is not 0; make it an input, to give it as hx",
        ),
    ],
)
def test_onnx_nodes_that_compute_something_else_are_refused(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(InputError, match=f"ONNX node 'gru'.*{words}"):
        from_onnx(model)


def test_onnx_nodes_that_are_not_there_are_refused() -> None:
    model = model_of(WEIGHTS)
    with pytest.raises(InputError, match=r"GRU nodes \('gru'\) for each layer, got \['lstm'\]"):
        from_onnx(model, "lstm")
    model.graph.node[0].input[1] = "computed"
    with pytest.raises(InputError, match="W must be a constant of the model; fold what computes it first"):
        from_onnx(model)
    model.graph.node[0].op_type = "LSTM"
    with pytest.raises(InputError, match=r"GRU nodes \(it has none\)"):
        from_onnx(model)


def test_onnx_nodes_of_different_kinds_make_no_stack() -> None:
    model = model_of(WEIGHTS)
    model.graph.node.append(model_of(WEIGHTS, layout=1).graph.node[0])
    model.graph.node[1].name = "second"
    with pytest.raises(InputError, match=r"expected nodes of one layout, got \[0, 1\]; convert them one by one"):
        from_onnx(model, "gru", "second")
