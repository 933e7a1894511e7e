"""fastgru's operator in torch's own: for exported programs that go where fastgru is not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgru.backends.aten import AtenBackend
from fastgru.core import reference
from fastgru.core.noise import NO_NOISE
from fastgru.core.steps import PLAIN
from fastgru.ops.library import layer_of_arguments

_ATEN = AtenBackend()


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The table with which `ExportedProgram.run_decompositions` puts torch's own operators in the place of fastgru's.

    A layer that torch.nn.GRU can express becomes `aten.gru`, others the definition's equations. Either way the program
    then takes the example's number of steps T alone, for torch's operators have no form for an open one; B may be open.
    For ONNX with open sizes there is `fastgru.export_onnx`.

    ValueError where sequences have steps of their own (lengths, offsets, packed ones), which only values tell.

    >>> import fastgru, torch
    >>> gru, x = fastgru.GRU(8, 16).eval(), torch.randn(5, 2, 8)
    >>> program = torch.export.export(gru, (x,), dynamic_shapes=({1: torch.export.Dim.DYNAMIC},))
    >>> program = program.run_decompositions(fastgru.decompositions())
    >>> [str(node.target) for node in program.graph.nodes if "gru" in str(node.target)]
    ['aten.gru.input']
    """
    return {torch.ops.fastgru.layer.default: _layer}


def _layer(kernel: str, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    given = layer_of_arguments(arguments[:-2])  # all but the batch and whether to save
    if any(tensor is not None for tensor in (given.steps.batch_sizes, given.steps.offsets, given.steps.lengths)):
        raise ValueError(
            "sequences of different lengths have no form in torch's own operators where a program is written down: "
            "export the model without lengths, or as ONNX by fastgru.export_onnx, which has them"
        )
    variant = given.variant._replace(memory="gates", bf16=False)
    is_torchs = variant == type(variant)(bias=variant.bias, bidirectional=variant.bidirectional)
    if is_torchs and given.steps == PLAIN and given.noise == NO_NOISE:
        y, h_n = _ATEN.layer(given)
    else:
        y, h_n = reference.layer(given._replace(variant=variant))
    return y, h_n, given.x.new_empty(0)  # what a backward pass would need: there is none
