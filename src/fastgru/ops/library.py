"""The operators `fastgru::layer` and `fastgru::layer_backward`: a kernel's two passes for who writes down what runs.

They are one step each, of any length, for torch.compile, torch.export, tracers, profilers and FlopCounterMode.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.utils.flop_counter import register_flop_formula

from fastgru.backends import BACKENDS, Kernel
from fastgru.core.layer import FIXED, Layer, layer_of
from fastgru.core.spec import Variant
from fastgru.core.steps import batch_of
from fastgru.core.torch_internals import (
    after_autograd,
    any_requires_grad,
    below_autograd,
    saved_beside_output,
)
from fastgru.ops import definition, onnx
from fastgru.ops.memory import with_memory

Maybe = Tensor | None


class Traced:
    """A kernel called through its operators."""

    composed: Literal[False] = False

    def __init__(self, kernel: Kernel) -> None:
        self.name = kernel.name
        self.takes_half, self.keeps_gates = kernel.takes_half, kernel.keeps_gates
        self.why_not, self.why_not_auto = kernel.why_not, kernel.why_not_auto
        self.check = kernel.check

    def forward(self, given: Layer, save: bool) -> tuple[Tensor, Tensor, Tensor]:
        """As `Kernel.forward`, differentiable; the last result is empty where neither `save` nor a gradient wants it.

        Whether a gradient does is seen when the operator runs: who writes down this call may run it in another mode.
        """
        batch = batch_of(given.steps, given.x) if given.h0 is None else given.h0.size(1)
        if given.variant.memory == "checkpoint":  # how many states there are only values tell
            given = given._replace(variant=given.variant._replace(memory="recompute"))
        results: tuple[Tensor, Tensor, Tensor] = torch.ops.fastgru.layer(self.name, *as_arguments(given), batch, save)
        return results

    def backward(
        self, given: Layer, y: Maybe, saved: Tensor, dy: Maybe, dh_n: Maybe, wanted: Sequence[bool]
    ) -> list[Maybe]:
        """As `Kernel.backward`, differentiable."""
        found = iter(torch.ops.fastgru.layer_backward(self.name, *as_arguments(given), y, saved, dy, dh_n, wanted))
        return [next(found) if want else None for want in wanted]


# A layer as the operators take it, in torch's words.
LAYER = (
    "Tensor x, Tensor? h0, Tensor? initial, Tensor[] weights, Tensor? batch_sizes, Tensor? offsets, Tensor? lengths, "
    "Tensor? resets, Tensor? recurrent, Tensor? zoneout, bool bias, bool bidirectional, bool reset_after, float keep, "
    "int tbptt, bool layer_norm, bool reverse, str memory, bool bf16"
)
_COUNT = 4 + FIXED + len(Variant._fields)  # the arguments that are a layer

_library = torch.library.Library("fastgru", "DEF")
_library.define(f"layer(str kernel, {LAYER}, SymInt batch, bool save) -> (Tensor y, Tensor h_n, Tensor saved)")
_library.define(
    f"layer_backward(str kernel, {LAYER}, Tensor? y, Tensor saved, Tensor? dy, Tensor? dh_n, bool[] wanted) -> Tensor[]"
)


def as_arguments(given: Layer) -> tuple[Any, ...]:
    """A layer as the operators take it."""
    return given.x, given.h0, given.initial, given.weights, *given.steps, *given.noise, *given.variant


def layer_of_arguments(arguments: Sequence[Any]) -> Layer:
    """The layer whose `as_arguments` these are."""
    x, h0, initial, weights, *others = arguments
    return layer_of(Variant(*others[FIXED:]), [*others[:FIXED], x, h0, initial, *weights])


def _kernel(name: str) -> Kernel:
    for backend in BACKENDS:
        if backend.name == name and not backend.composed:
            return backend
    names = [backend.name for backend in BACKENDS if not backend.composed]
    raise ValueError(f"kernel must be one of {', '.join(map(repr, names))}, got {name!r}")


def _layer_op(kernel: str, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *flat, batch, save = arguments
    given = layer_of_arguments(flat)
    if given.steps.batch_sizes is not None:  # a tracer could not look at their values, and took the state's size
        there = batch_of(given.steps, given.x)
        if there != batch:
            raise RuntimeError(f"the initial state is of {batch} sequences, and the packed ones are {there}")
    y, h_n, saved = with_memory(_kernel(kernel), given.variant).forward(given, save)
    return y, h_n, given.x.new_empty(0) if saved is None else saved


def _check_devices(x: Tensor, others: Sequence[Maybe]) -> None:
    """Raise RuntimeError where a tensor is on another device than x: without data nothing else would."""
    for tensor in others:
        if tensor is not None and tensor.device != x.device:
            raise RuntimeError(f"x is on {x.device}, and a tensor of {[*tensor.shape]} on {tensor.device}")


def _layer_fake(kernel: str, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *flat, batch, save = arguments
    given = layer_of_arguments(flat)
    _check_devices(given.x, given.leaves)
    x, hidden, directions = given.x, given.hidden_size, given.variant.directions
    y, h_n = x.new_empty(*x.shape[:-1], directions * hidden), x.new_empty(directions, batch, hidden)
    if not save:
        return y, h_n, x.new_empty(0)
    rows = x.size(0) * x.size(1) if x.dim() == 3 else x.size(0)
    if not _kernel(kernel).keeps_gates:
        return y, h_n, x.new_empty(directions, rows, 0)
    if given.variant.memory != "gates":
        return y, h_n, x.new_empty(directions, batch, 0, hidden)
    return y, h_n, x.new_empty(directions, rows, given.saved_size)


def _layer_backward_op(kernel: str, *arguments: Any) -> list[Tensor]:
    """The gradients that are wanted, in order, and no others: an operator's list of tensors has no holes."""
    given = layer_of_arguments(arguments[:_COUNT])
    gradients = with_memory(_kernel(kernel), given.variant).backward(given, *arguments[_COUNT:])
    return [gradient for gradient in gradients if gradient is not None]


def _layer_backward_fake(kernel: str, *arguments: Any) -> list[Tensor]:
    given, (*gradients, wanted) = layer_of_arguments(arguments[:_COUNT]), arguments[_COUNT:]
    _check_devices(given.x, (*given.leaves, *gradients))
    pairs = zip(given.leaves, wanted, strict=True)
    return [given.x.new_empty(leaf.shape) for leaf, want in pairs if want and leaf is not None]


class _DifferentiableOperator(torch.autograd.Function):
    """`fastgru::layer` where a gradient is wanted: it then saves what backward needs, whatever its `save` says."""

    @staticmethod
    def forward(ctx: Any, keyset: Any, kernel: str, given: Layer, batch: Any, *leaves: Maybe) -> Any:
        """Run the operator; `leaves` are the layer's, for torch to see them."""
        y, h_n, saved = _below(keyset, kernel, given, batch, save=True)
        ctx.kernel, ctx.variant = Traced(_kernel(kernel)), given.variant
        ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)
        ctx.version = y._version
        ctx.save_for_backward(y, saved, *given.steps, *given.noise, *leaves)
        return y, h_n, saved

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Maybe, ...]:
        """The gradients of the leaves."""
        y, saved, *tensors = saved_beside_output(ctx, ctx.version)
        wanted, given = ctx.needs_input_grad[4:], layer_of(ctx.variant, tensors)
        if dy is None and dh_n is None:
            return (None,) * (4 + len(wanted))
        if y is None:
            with torch.no_grad():
                y = ctx.kernel.forward(given, save=False)[0]
        return (None,) * 4 + tuple(ctx.kernel.backward(given, y, saved, dy, dh_n, wanted))


def _layer_autograd(keyset: Any, kernel: str, *arguments: Any) -> Any:
    """What torch calls first: the operator is differentiated, or passed on to who traces it or runs it.

    torch.onnx.export(dynamo=True) comes here when it decomposes what it traced, and finds ONNX's operator. It may run
    the kernels too, to verify the file: then nothing is compiled.
    """
    *flat, batch, save = arguments
    given = layer_of_arguments(flat)
    if is_compiling() and torch.onnx.is_in_onnx_export():
        return onnx.layer(given, batch)
    if torch.is_grad_enabled() and any_requires_grad(*given.leaves):
        return _DifferentiableOperator.apply(keyset, kernel, given, batch, *given.leaves)  # type: ignore[no-untyped-call]
    return _below(keyset, kernel, given, batch, save)


def _below(keyset: Any, kernel: str, given: Layer, batch: Any, save: bool) -> Any:
    with below_autograd():
        return torch.ops.fastgru.layer.default.redispatch(
            keyset & after_autograd, kernel, *as_arguments(given), batch, save
        )


def _layer_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    given = layer_of_arguments(inputs[1 : 1 + _COUNT])
    _, _, dy, dh_n, ctx.wanted = inputs[1 + _COUNT :]
    ctx.variant = given.variant
    ctx.save_for_backward(dy, dh_n, *given.tensors)


def _layer_second_gradients(ctx: Any, cotangents: list[Maybe]) -> tuple[Any, ...]:
    dy, dh_n, *tensors = ctx.saved_tensors
    given = iter(cotangents)
    each = [next(given) if want else None for want in ctx.wanted]
    variables = [dy, dh_n, *tensors[FIXED:]]
    ddy, ddh_n, x, h0, initial, *weights = definition.second_gradients(
        ctx.variant, tensors[:FIXED], None, ctx.wanted, variables, each
    )
    return None, x, h0, initial, weights, *(None,) * (_COUNT - 4 + 2), ddy, ddh_n, None


_library.impl("layer", _layer_op, "CompositeExplicitAutograd")
_library.impl("layer_backward", _layer_backward_op, "CompositeExplicitAutograd")
torch.library.register_fake("fastgru::layer", _layer_fake, lib=_library)
torch.library.register_fake("fastgru::layer_backward", _layer_backward_fake, lib=_library)
_library.impl("layer", _layer_autograd, "Autograd", with_keyset=True)
torch.library.register_autograd(
    "fastgru::layer_backward", _layer_second_gradients, setup_context=_layer_backward_setup, lib=_library
)


@register_flop_formula(torch.ops.fastgru.layer)
def _layer_flops(kernel: str, *shapes: Any, **kwargs: Any) -> int:
    """Two for each multiplication of the matrices, as torch counts them: gx = x W_ih^T and gh = h W_hh^T."""
    given = layer_of_arguments(shapes[:_COUNT])
    return sum(_products(given)) * given.variant.directions


@register_flop_formula(torch.ops.fastgru.layer_backward)
def _layer_backward_flops(kernel: str, *shapes: Any, **kwargs: Any) -> int:
    """As `_layer_flops`: dh = dgh W_hh always, the others where wanted."""
    given, wanted = layer_of_arguments(shapes[:_COUNT]), shapes[_COUNT + 4]
    each = given.variant.weights_per_direction
    input_product, recurrent_product = _products(given)
    of_weights = sum(wanted[3::each]) * input_product + sum(wanted[4::each]) * recurrent_product
    found: int = given.variant.directions * (recurrent_product + wanted[0] * input_product) + of_weights
    return found


def _products(given: Any) -> tuple[int, int]:
    """What x W_ih^T and h W_hh^T take in one direction, over all steps; the layer's tensors are their shapes here."""
    rows = math.prod(given.x[:-1])
    w_ih, w_hh = given.weights[:2]
    return 2 * rows * math.prod(w_ih), 2 * rows * math.prod(w_hh)
