"""The operators `fastgru::layer` and `fastgru::layer_backward`: a kernel's two passes for who writes down what runs.

They are one step each, of any length, for torch.compile, torch.export, tracers, profilers and FlopCounterMode.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch._C import _get_tracing_state, _len_torch_dispatch_stack
from torch._C._autograd import _profiler_enabled
from torch.compiler import is_compiling
from torch.utils.flop_counter import register_flop_formula

from fastgru.backends import BACKENDS, Kernel
from fastgru.core import reference
from fastgru.core.layer import FIXED, Layer, layer_of
from fastgru.core.spec import Variant
from fastgru.core.steps import batch_of
from fastgru.ops import definition
from fastgru.ops.memory import thrifty

Maybe = Tensor | None


def is_traced() -> bool:
    """Whether somebody writes down what torch runs: a call of a kernel must then be one operator that he can see."""
    return is_compiling() or _get_tracing_state() is not None or _len_torch_dispatch_stack() > 0 or _profiler_enabled()


class Traced:
    """A kernel called through its operators."""

    composed: Literal[False] = False

    def __init__(self, kernel: Kernel) -> None:
        self.name = kernel.name
        self.why_not = kernel.why_not

    def forward(self, given: Layer, save: bool) -> tuple[Tensor, Tensor, Tensor]:
        """As `Kernel.forward`, differentiable; without `save` the last result is empty."""
        batch = batch_of(given.steps, given.x) if given.h0 is None else given.h0.size(1)
        if given.variant.memory == "checkpoint":  # how many states there are only values tell
            given = given._replace(variant=given.variant._replace(memory="recompute"))
        results: tuple[Tensor, Tensor, Tensor] = torch.ops.fastgru.layer(self.name, *_flat(given), batch, save)
        return results

    def backward(
        self, given: Layer, y: Maybe, saved: Tensor, dy: Maybe, dh_n: Maybe, wanted: Sequence[bool]
    ) -> list[Maybe]:
        """As `Kernel.backward`, differentiable."""
        found = iter(torch.ops.fastgru.layer_backward(self.name, *_flat(given), y, saved, dy, dh_n, wanted))
        return [next(found) if want else None for want in wanted]


_LAYER = (
    "Tensor x, Tensor? h0, Tensor? initial, Tensor[] weights, Tensor? batch_sizes, Tensor? offsets, Tensor? lengths, "
    "Tensor? resets, Tensor? recurrent, Tensor? zoneout, bool bias, bool bidirectional, bool reset_after, float keep, "
    "int tbptt, bool layer_norm, bool reverse, str memory"
)
_COUNT = 4 + FIXED + len(Variant._fields)  # the arguments that are a layer

_library = torch.library.Library("fastgru", "DEF")
_library.define(f"layer(str kernel, {_LAYER}, SymInt batch, bool save) -> (Tensor y, Tensor h_n, Tensor saved)")
_library.define(
    f"layer_backward(str kernel, {_LAYER}, Tensor? y, Tensor saved, Tensor? dy, Tensor? dh_n, bool[] wanted)"
    " -> Tensor[]"
)


def _flat(given: Layer) -> tuple[Any, ...]:
    """A layer as the operators take it."""
    return given.x, given.h0, given.initial, given.weights, *given.steps, *given.noise, *given.variant


def _layer_of(arguments: Sequence[Any]) -> Layer:
    """The layer that `_flat` gave."""
    x, h0, initial, weights, *others = arguments
    return layer_of(Variant(*others[FIXED:]), [*others[:FIXED], x, h0, initial, *weights])


def _kernel(name: str) -> Kernel:
    return next(backend for backend in BACKENDS if backend.name == name and not backend.composed)


def _layer_op(kernel: str, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *flat, batch, save = arguments
    given = _layer_of(flat)
    batch_sizes = given.steps.batch_sizes
    if batch_sizes is not None:  # a tracer could not look at its values
        problem = reference.why_not_packed(given.x, batch_sizes)
        if problem is None and int(batch_sizes[0]) != batch:
            problem = f"the initial state is of {batch} sequences, and the packed ones are {int(batch_sizes[0])}"
        if problem is not None:
            raise RuntimeError(problem)
    y, h_n, saved = thrifty(_kernel(kernel), given.variant).forward(given, save)
    return y, h_n, given.x.new_empty(0) if saved is None else saved


def _layer_fake(kernel: str, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *flat, batch, save = arguments
    given = _layer_of(flat)
    x, hidden, directions = given.x, given.hidden_size, given.variant.directions
    y, h_n = x.new_empty(*x.shape[:-1], directions * hidden), x.new_empty(directions, batch, hidden)
    if not save:
        return y, h_n, x.new_empty(0)
    if given.variant.memory != "gates":
        return y, h_n, x.new_empty(directions, batch, 0, hidden)
    rows = x.size(0) * x.size(1) if x.dim() == 3 else x.size(0)
    return y, h_n, x.new_empty(directions, rows, given.saved_size)


def _layer_backward_op(kernel: str, *arguments: Any) -> list[Tensor]:
    """The gradients that are wanted, in order, and no others: an operator's list of tensors has no holes."""
    given = _layer_of(arguments[:_COUNT])
    gradients = thrifty(_kernel(kernel), given.variant).backward(given, *arguments[_COUNT:])
    return [gradient for gradient in gradients if gradient is not None]


def _layer_backward_fake(kernel: str, *arguments: Any) -> list[Tensor]:
    given, wanted = _layer_of(arguments[:_COUNT]), arguments[-1]
    pairs = zip(given.leaves, wanted, strict=True)
    return [given.x.new_empty(leaf.shape) for leaf, want in pairs if want and leaf is not None]


def _layer_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    given = _layer_of(inputs[1 : 1 + _COUNT])
    ctx.kernel, ctx.variant = Traced(_kernel(inputs[0])), given.variant
    y, _, saved = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(y, saved, *given.tensors)


def _layer_gradients(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Any, ...]:
    y, saved, *tensors = ctx.saved_tensors
    given = layer_of(ctx.variant, tensors)
    wanted = [leaf is not None and leaf.requires_grad for leaf in given.leaves]
    dx, dh0, dinitial, *dweights = ctx.kernel.backward(given, y, saved, dy, dh_n, wanted)
    return None, dx, dh0, dinitial, dweights, *(None,) * (_COUNT - 4 + 2)


def _layer_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    given = _layer_of(inputs[1 : 1 + _COUNT])
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
torch.library.register_autograd("fastgru::layer", _layer_gradients, setup_context=_layer_setup, lib=_library)
torch.library.register_autograd(
    "fastgru::layer_backward", _layer_second_gradients, setup_context=_layer_backward_setup, lib=_library
)


@register_flop_formula(torch.ops.fastgru.layer)
def _layer_flops(kernel: str, *shapes: Any, **kwargs: Any) -> int:
    """Two for each multiplication of the matrices, as torch counts them: gx = x W_ih^T and gh = h W_hh^T."""
    given = _layer_of(shapes[:_COUNT])
    return sum(_products(given)) * given.variant.directions


@register_flop_formula(torch.ops.fastgru.layer_backward)
def _layer_backward_flops(kernel: str, *shapes: Any, **kwargs: Any) -> int:
    """As `_layer_flops`: dh = dgh W_hh always, the others where wanted."""
    given, wanted = _layer_of(shapes[:_COUNT]), shapes[_COUNT + 4]
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
