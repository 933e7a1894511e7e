"""Exported programs in torch's own operators."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.export import Dim, ExportedProgram

import fastgru

T, B, I, H = 5, 3, 4, 6
LAYERS: dict[str, tuple[dict[str, Any], bool]] = {  # options; whether torch.nn.GRU has them
    "plain": ({}, True),
    "stacked": ({"num_layers": 2, "bidirectional": True, "bias": False}, True),
    "batch first": ({"batch_first": True, "memory": "recompute"}, True),
    "initial state": ({"learn_initial_state": True}, True),
    "sizes": ({"hidden_size": [H, 3]}, True),
    "zoneout": ({"zoneout": 0.1}, False),
    "layer norm": ({"layer_norm": True, "bidirectional": True}, False),
    "original cell": ({"reset_after": False}, False),
}


def operators(program: ExportedProgram) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize("with_h0", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_program_has_torchs_operators_and_the_same_numbers(name: str, with_h0: bool) -> None:
    options, is_torchs = LAYERS[name]
    gru = fastgru.GRU(I, **{"hidden_size": H, **options}).eval()

    def given(batch: int) -> tuple[torch.Tensor, ...]:
        x = torch.randn((batch, T, I) if gru.batch_first else (T, batch, I))
        return (x, torch.randn(gru.spec.states_shape(batch))) if with_h0 else (x,)

    shapes = ({0 if gru.batch_first else 1: Dim.DYNAMIC}, *([{1: Dim.DYNAMIC}] if with_h0 else []))
    program = torch.export.export(gru, given(B), dynamic_shapes=shapes)
    assert any("fastgru" in operator for operator in operators(program))
    program = program.run_decompositions(fastgru.decompositions())
    assert all(operator.startswith(("aten.", "<built-in function ")) for operator in operators(program))
    assert ("aten.gru.input" in operators(program)) == is_torchs
    for batch in (B, B + 4):
        arguments = given(batch)
        torch.testing.assert_close(program.module()(*arguments), gru(*arguments))


class WithSteps(torch.nn.Module):
    """A layer, what of its steps is given besides, and the last states."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.gru, self.name = fastgru.GRU(I, H), name

    def forward(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        return self.gru(x, **{self.name: steps})[1]


def test_resets_are_the_definitions() -> None:
    model, x, resets = WithSteps("resets").eval(), torch.randn(T, B, I), torch.eye(T, B).bool()
    program = torch.export.export(model, (x, resets)).run_decompositions(fastgru.decompositions())
    assert not any("fastgru" in operator for operator in operators(program))
    for given in (resets, ~resets):
        torch.testing.assert_close(program.module()(x, given), model(x, given))


@pytest.mark.parametrize(
    ("name", "x", "steps"),
    [
        ("lengths", torch.randn(T, B, I), torch.tensor([5, 2, 3])),
        ("cu_seqlens", torch.randn(7, I), torch.tensor([0, 2, 7])),
    ],
)
def test_different_lengths_are_refused_in_words(name: str, x: torch.Tensor, steps: torch.Tensor) -> None:
    program = torch.export.export(WithSteps(name).eval(), (x, steps))
    with pytest.raises(ValueError, match=r"export the model without lengths, or as ONNX by fastgru\.export_onnx"):
        program.run_decompositions(fastgru.decompositions())


@pytest.mark.parametrize("name", ["layer norm", "original cell"])
def test_openvino_takes_a_program_in_torchs_operators(name: str) -> None:
    openvino = pytest.importorskip("openvino")
    gru = fastgru.GRU(I, H, **LAYERS[name][0]).eval().requires_grad_(False)
    program = torch.export.export(gru, (torch.randn(T, B, I),), dynamic_shapes=({1: Dim.DYNAMIC},))
    made = openvino.convert_model(program.run_decompositions(fastgru.decompositions()))
    compiled = openvino.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch in (B, B + 2):
        x = torch.randn(T, batch, I)
        for got, expected in zip(compiled((x.numpy(),)).values(), gru(x), strict=True):
            torch.testing.assert_close(torch.from_numpy(np.array(got)), expected)
