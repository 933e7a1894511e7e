"""Layers of few bits: the native kernels where they can, else the definition; and the operator for programs.

`fastgru::low_layer` is one step, of any length, for torch.compile, torch.export and tracers. Nothing here is
differentiable.
"""

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.utils.weak import WeakIdKeyDictionary

from fastgru.backends.cpu import LOW_FORWARD, LowWeights
from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.stack import Stack, run_layers
from fastgru.core.steps import Steps, batch_of
from fastgru.core.torch_internals import after_autograd, are_transforms_active, below_autograd, is_traced
from fastgru.ops import onnx
from fastgru.ops.library import LAYER, as_arguments, layer_of_arguments

# A program's layers have no module: what the kernels pack of their weights goes with the first of them.
_packed: MutableMapping[Tensor, Any] = WeakIdKeyDictionary()

_library = torch.library.Library("fastgru", "FRAGMENT")
_library.define(f"low_layer({LAYER}, SymInt batch) -> (Tensor y, Tensor h_n)")


def low_gru(
    name: str,
    stack: Stack,
    x: Tensor,
    h0: Tensor | None,
    weights: Sequence[Tensor],
    steps: Steps,
    initial: Tensor | None,
) -> tuple[list[Tensor], Tensor]:
    """Run a stack of layers of few bits on the backend of this name: the output of every layer, h_n in the form of h0.

    The tensors are as `fastgru.core.stack.run_layers` has them, float32 but for the matrices; weights:
    `fastgru.core.low_precision.matrices_of` says in which order. Where gradients are wanted there are none.
    Raises RuntimeError where that backend cannot serve them.
    """
    reason = None if name == "auto" else why_not(name, x)
    if reason is not None:
        raise RuntimeError(f"backend {name!r} cannot serve this layer: {reason}")
    with torch.no_grad():
        return run_layers(reference.layer if name == "reference" else _layer, stack, x, h0, initial, weights, steps)


def why_not(name: str, x: Tensor) -> str | None:
    """Why a backend cannot serve layers of few bits with an input like x, in words; None where it can."""
    if name == "reference":
        return None
    if name != "cpu":
        return "it has nothing for weights of few bits"
    if LOW_FORWARD is None:
        return "the native module is not built; install fastgru with a C++17 compiler"
    return None if x.is_cpu else f"its kernels run on the CPU, not on {x.device}"


def _layer(given: Layer) -> tuple[Tensor, Tensor]:
    if is_traced() and not are_transforms_active():
        batch = batch_of(given.steps, given.x) if given.h0 is None else given.h0.size(1)
        found: tuple[Tensor, Tensor] = torch.ops.fastgru.low_layer(*as_arguments(given), batch)
        return found
    return _compute(given)


def _compute(given: Layer) -> tuple[Tensor, Tensor]:
    x = given.x
    if why_not("cpu", x) is not None or are_transforms_active() or type(x) is not Tensor:
        return reference.layer(given)
    owner = given.packed
    if owner is None:
        owner = _packed.setdefault(given.weights[0], LowWeights())
    found: tuple[Tensor, Tensor] = LOW_FORWARD(given, owner, torch.get_num_threads())
    return found


def _layer_op(*arguments: Any) -> tuple[Tensor, Tensor]:
    return _compute(layer_of_arguments(arguments[:-1]))


def _layer_fake(*arguments: Any) -> tuple[Tensor, Tensor]:
    given, batch = layer_of_arguments(arguments[:-1]), arguments[-1]
    x, hidden, directions = given.x, given.hidden_size, given.variant.directions
    return x.new_empty(*x.shape[:-1], directions * hidden), x.new_empty(directions, batch, hidden)


def _layer_autograd(keyset: Any, *arguments: Any) -> Any:
    """Passed on; torch.onnx.export(dynamo=True), decomposing what it traced, finds ONNX's operator here."""
    if is_compiling() and torch.onnx.is_in_onnx_export():
        return onnx.layer(layer_of_arguments(arguments[:-1]), arguments[-1])[:2]
    with below_autograd():
        return torch.ops.fastgru.low_layer.default.redispatch(keyset & after_autograd, *arguments)


_library.impl("low_layer", _layer_autograd, "Autograd", with_keyset=True)
_library.impl("low_layer", _layer_op, "CompositeExplicitAutograd")
torch.library.register_fake("fastgru::low_layer", _layer_fake, lib=_library)
