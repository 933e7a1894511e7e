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

from fastgru import reference
from fastgru.backends import BACKENDS, Kernel
from fastgru.ops import definition
from fastgru.steps import Steps, batch_of

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

    def forward(
        self,
        x: Tensor,
        h0: Maybe,
        weights: Sequence[Tensor],
        directions: int,
        steps: Steps,
        save: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Kernel.forward`, differentiable; without `save` the last result is empty."""
        batch = batch_of(steps, x) if h0 is None else h0.size(1)
        results: tuple[Tensor, Tensor, Tensor] = torch.ops.fastgru.layer(
            self.name, x, h0, weights, directions, *steps, batch, save
        )
        return results

    def backward(
        self,
        x: Tensor,
        h0: Maybe,
        weights: Sequence[Tensor],
        directions: int,
        steps: Steps,
        y: Tensor,
        saved: Tensor,
        dy: Maybe,
        dh_n: Maybe,
        wanted: Sequence[bool],
    ) -> list[Maybe]:
        """As `Kernel.backward`, differentiable."""
        found = iter(
            torch.ops.fastgru.layer_backward(self.name, x, h0, weights, directions, *steps, y, saved, dy, dh_n, wanted)
        )
        return [next(found) if want else None for want in wanted]


_library = torch.library.Library("fastgru", "DEF")
_library.define(
    "layer(str kernel, Tensor x, Tensor? h0, Tensor[] weights, int directions, Tensor? batch_sizes, Tensor? offsets, "
    "Tensor? lengths, Tensor? resets, SymInt batch, bool save) -> (Tensor y, Tensor h_n, Tensor saved)"
)
_library.define(
    "layer_backward(str kernel, Tensor x, Tensor? h0, Tensor[] weights, int directions, Tensor? batch_sizes, "
    "Tensor? offsets, Tensor? lengths, Tensor? resets, Tensor y, Tensor saved, Tensor? dy, Tensor? dh_n, "
    "bool[] wanted) -> Tensor[]"
)


def _kernel(name: str) -> Kernel:
    return next(backend for backend in BACKENDS if backend.name == name and not backend.composed)


def _layer_op(
    kernel: str,
    x: Tensor,
    h0: Maybe,
    weights: list[Tensor],
    directions: int,
    batch_sizes: Maybe,
    offsets: Maybe,
    lengths: Maybe,
    resets: Maybe,
    batch: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if batch_sizes is not None:  # a tracer could not look at its values
        problem = reference.why_not_packed(x, batch_sizes)
        if problem is None and int(batch_sizes[0]) != batch:
            problem = f"the initial state is of {batch} sequences, and the packed ones are {int(batch_sizes[0])}"
        if problem is not None:
            raise RuntimeError(problem)
    steps = Steps(batch_sizes, offsets, lengths, resets)
    y, h_n, saved = _kernel(kernel).forward(x, h0, weights, directions, steps, save)
    return y, h_n, x.new_empty(0) if saved is None else saved


def _layer_fake(
    kernel: str,
    x: Tensor,
    h0: Maybe,
    weights: list[Tensor],
    directions: int,
    batch_sizes: Maybe,
    offsets: Maybe,
    lengths: Maybe,
    resets: Maybe,
    batch: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = weights[1].size(1)
    rows = x.size(0) * x.size(1) if x.dim() == 3 else x.size(0)
    return (
        x.new_empty(*x.shape[:-1], directions * hidden),
        x.new_empty(directions, batch, hidden),
        x.new_empty(directions, rows, 4, hidden) if save else x.new_empty(0),
    )


def _layer_backward_op(
    kernel: str,
    x: Tensor,
    h0: Maybe,
    weights: list[Tensor],
    directions: int,
    batch_sizes: Maybe,
    offsets: Maybe,
    lengths: Maybe,
    resets: Maybe,
    y: Tensor,
    saved: Tensor,
    dy: Maybe,
    dh_n: Maybe,
    wanted: list[bool],
) -> list[Tensor]:
    """The gradients that are wanted, in order, and no others: an operator's list of tensors has no holes."""
    steps = Steps(batch_sizes, offsets, lengths, resets)
    gradients = _kernel(kernel).backward(x, h0, weights, directions, steps, y, saved, dy, dh_n, wanted)
    return [gradient for gradient in gradients if gradient is not None]


def _layer_backward_fake(
    kernel: str,
    x: Tensor,
    h0: Maybe,
    weights: list[Tensor],
    directions: int,
    batch_sizes: Maybe,
    offsets: Maybe,
    lengths: Maybe,
    resets: Maybe,
    y: Tensor,
    saved: Tensor,
    dy: Maybe,
    dh_n: Maybe,
    wanted: list[bool],
) -> list[Tensor]:
    leaves = [x, h0, *weights]
    return [x.new_empty(leaf.shape) for leaf, want in zip(leaves, wanted, strict=True) if want and leaf is not None]


def _layer_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    name, x, h0, weights, ctx.directions, *steps, _, _ = inputs
    ctx.kernel = Traced(_kernel(name))
    y, _, saved = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(y, saved, *steps, x, h0, *weights)


def _layer_gradients(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Any, ...]:
    y, saved, batch_sizes, offsets, lengths, resets, x, h0, *weights = ctx.saved_tensors
    steps = Steps(batch_sizes, offsets, lengths, resets)
    leaves = [x, h0, *weights]
    wanted = [leaf is not None and leaf.requires_grad for leaf in leaves]
    dx, dh0, *dweights = ctx.kernel.backward(x, h0, weights, ctx.directions, steps, y, saved, dy, dh_n, wanted)
    return None, dx, dh0, dweights, *(None,) * 7


def _layer_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    _, x, h0, weights, ctx.directions, *steps, _, _, dy, dh_n, ctx.wanted = inputs
    ctx.save_for_backward(*steps, dy, dh_n, x, h0, *weights)


def _layer_second_gradients(ctx: Any, cotangents: list[Maybe]) -> tuple[Any, ...]:
    batch_sizes, offsets, lengths, resets, *variables = ctx.saved_tensors
    steps = Steps(batch_sizes, offsets, lengths, resets)
    given = iter(cotangents)
    each = [next(given) if want else None for want in ctx.wanted]
    dy, dh_n, x, h0, *weights = definition.second_gradients(ctx.directions, steps, None, ctx.wanted, variables, each)
    return None, x, h0, weights, *(None,) * 7, dy, dh_n, None


_library.impl("layer", _layer_op, "CompositeExplicitAutograd")
_library.impl("layer_backward", _layer_backward_op, "CompositeExplicitAutograd")
torch.library.register_fake("fastgru::layer", _layer_fake, lib=_library)
torch.library.register_fake("fastgru::layer_backward", _layer_backward_fake, lib=_library)
torch.library.register_autograd("fastgru::layer", _layer_gradients, setup_context=_layer_setup, lib=_library)
torch.library.register_autograd(
    "fastgru::layer_backward", _layer_second_gradients, setup_context=_layer_backward_setup, lib=_library
)


@register_flop_formula(torch.ops.fastgru.layer)
def _layer_flops(
    kernel: str,
    x: torch.Size,
    h0: torch.Size | None,
    weights: list[torch.Size],
    directions: int,
    *args: Any,
    **kwargs: Any,
) -> int:
    """Two for each multiplication of the matrices, as torch counts them: gx = x W_ih^T and gh = h W_hh^T."""
    return sum(_products(x, weights[:2])) * directions


@register_flop_formula(torch.ops.fastgru.layer_backward)
def _layer_backward_flops(
    kernel: str,
    x: torch.Size,
    h0: torch.Size | None,
    weights: list[torch.Size],
    directions: int,
    batch_sizes: torch.Size | None,
    offsets: torch.Size | None,
    lengths: torch.Size | None,
    resets: torch.Size | None,
    y: torch.Size,
    saved: torch.Size,
    dy: torch.Size | None,
    dh_n: torch.Size | None,
    wanted: list[bool],
    *args: Any,
    **kwargs: Any,
) -> int:
    """As `_layer_flops`: dh = dgh W_hh always, the others where wanted."""
    each = len(weights) // directions
    input_product, recurrent_product = _products(x, weights[:2])
    of_weights = sum(wanted[2::each]) * input_product + sum(wanted[3::each]) * recurrent_product
    return directions * (recurrent_product + wanted[0] * input_product) + of_weights


def _products(x: torch.Size, weights: list[torch.Size]) -> tuple[int, int]:
    """What x W_ih^T and h W_hh^T take in one direction, over all steps."""
    rows = math.prod(x[:-1])
    w_ih, w_hh = weights
    return 2 * rows * math.prod(w_ih), 2 * rows * math.prod(w_hh)
