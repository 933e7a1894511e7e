"""What the tests of ONNX share: layers, their arguments, and files beside the models they were made of."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.onnx._internal._lazy_import import onnxscript_apis

import fastgru

T, B, I, H = 5, 3, 4, 6

LAYERS = {
    "plain": {},
    "stacked": {"num_layers": 2},
    "bidirectional": {"bidirectional": True, "batch_first": True},
    "original cell": {"num_layers": 2, "bidirectional": True, "reset_after": False},
    "stacked without bias": {"num_layers": 2, "bidirectional": True, "bias": False},
}


@pytest.fixture(autouse=True, scope="module")
def operators_listed_once() -> Iterator[None]:
    """torch lists onnxscript's operators anew for each export, which takes most of the time of a small one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxscript_apis, "get_torchlib_ops", cache(onnxscript_apis.get_torchlib_ops))
        yield


def arguments(gru: torch.nn.GRU | fastgru.GRU, steps: int, batch: int, with_h0: bool) -> tuple[Tensor, ...]:
    x = torch.randn(*((batch, steps) if gru.batch_first else (steps, batch)), gru.input_size)
    h0 = torch.randn(gru.num_layers * (2 if gru.bidirectional else 1), batch, gru.hidden_size)
    return (x, h0) if with_h0 else (x,)


def run(path: Path, *given: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]
    return session.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})


def nodes(path: Path) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(path).graph.node if node.op_type == "GRU"]


def check(path: Path, model: torch.nn.Module, *given: Tensor) -> None:
    """The file computes what the model does."""
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(model(*given))
    for got, wanted in zip(run(path, *given), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(got), wanted)
