"""A GRU on a backend, as torch sees it: what is differentiated by whom, in which mode.

A backend of torch's operators is differentiated by torch. For one of kernels this room stacks the layers and runs each

- by a direct call, where no gradient is wanted;
- as an `autograd.Function` (functions.py), where one is, and under torch.func, whose transforms it has rules for
  (folding.py, samples.py); a plain layer's second derivatives are in closed form (second_order.py), those of others
  the reference's (definition.py);
- a single step past all of this (step.py), and where gradients are wanted those of the weights of all steps of a
  backward pass at once (step_training.py);
- as the operators `fastgru::layer` and `fastgru::layer_backward` (library.py), while torch compiles, exports or traces;

a half layer in float32, where the kernel has no half dtype (precision.py).
"""

import warnings
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from fastgru.backends import Kernel, pick
from fastgru.backends.aten import AtenBackend
from fastgru.core import noise, reference
from fastgru.core.layer import Layer
from fastgru.core.noise import NO_NOISE
from fastgru.core.stack import Stack, run_layers
from fastgru.core.steps import PLAIN, Steps
from fastgru.core.torch_internals import (
    any_requires_grad,
    are_transforms_active,
    is_any_autocast_enabled,
    is_traced,
    tracing_state,
)
from fastgru.ops import precision
from fastgru.ops.functions import TransformedLayer, differentiable_layer
from fastgru.ops.library import Traced
from fastgru.ops.memory import checkpointed, with_memory
from fastgru.ops.precision import HALF
from fastgru.ops.step import cell_step, step
from fastgru.ops.step_training import trained_step

__all__ = ["cell", "cell_step", "gru", "step", "trained_step"]


_NEEDS_FASTGRU = (
    "torch's own operator cannot express this GRU, so the traced program holds fastgru's: it loads where fastgru is "
    "imported, and nowhere else (fastgru.info() on the layer says what keeps the backend 'aten' from it)"
)


def gru(
    name: str,
    stack: Stack,
    x: Tensor,
    h0: Tensor | None,
    weights: Sequence[Tensor],
    steps: Steps = PLAIN,
    initial: Tensor | None = None,
    every: bool = False,
) -> tuple[list[Tensor], Tensor]:
    """Run a stack of layers on the backend of this name: the outputs and h_n in the form of h0.

    The last of the outputs is the stack's; with `every` there is one for each layer.

    The tensors are as `fastgru.core.stack.run_layers` has them. Raises RuntimeError where that backend cannot serve
    them.
    """
    if is_any_autocast_enabled() and precision.is_autocast(x):
        with torch.autocast(x.device.type, enabled=False):
            initial = None if initial is None else initial.to(torch.get_autocast_dtype(x.device.type))
            stack = precision.of_copies(stack)
            return gru(name, stack, *precision.lowered(x, h0, weights), steps, initial, every)
    backend = pick(name, stack, x, h0, weights, steps)
    if backend.composed:
        spec, is_written = stack.spec, tracing_state() is not None  # a program has one way to keep what backward needs
        is_whole = isinstance(spec.hidden_size, int) and (spec.memory == "gates" or is_written)
        if isinstance(backend, AtenBackend) and is_whole and not (every or spec.variational or spec.weight_dropout):
            y, h_n = backend.gru(spec, x, h0, weights, steps)
            return [y], h_n
        compute = backend.layer if is_written else partial(checkpointed, backend.layer)
        return run_layers(compute, stack, x, h0, initial, weights, steps)
    if name == "auto" and tracing_state() is not None:
        warnings.warn(_NEEDS_FASTGRU, stacklevel=2)
    return run_layers(partial(_layer, backend), stack, x, h0, initial, weights, steps)


def cell(name: str, stack: Stack, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Run one step on the backend of this name: x [B, I], h [B, H] to h' [B, H]."""
    if is_any_autocast_enabled() and precision.is_autocast(x):
        with torch.autocast(x.device.type, enabled=False):
            x, lowered, weights = precision.lowered(x, h, weights)
            return cell(name, precision.of_copies(stack), x, h if lowered is None else lowered, weights)
    backend = pick(name, stack, x, h, weights)
    spec, series = stack.spec, x[None]
    if backend.composed and not (spec.layer_norm or spec.is_noisy) and spec.reset_after:
        return backend.cell(x, h, weights)
    reference.check_cell(x, h, weights)
    masks = noise.draw(spec, spec.hidden_sizes[0], series, PLAIN) if stack.is_noisy else NO_NOISE
    given = Layer(stack.variant, PLAIN, masks, series, h[None], None, weights, stack.packed[0])
    return (backend.layer(given) if backend.composed else _layer(backend, given))[1][0]


def _layer(kernel: Kernel, given: Layer) -> tuple[Tensor, Tensor]:
    """One layer: y and h_n [D, B, H]."""
    dtype = given.x.dtype
    if dtype in HALF and not kernel.takes_half:
        y, h_n = _layer(kernel, precision.cast_layer(torch.float32, given))
        return y.to(dtype), h_n.to(dtype)
    traced = is_traced()
    if are_transforms_active():
        # Who differentiates may be below the level seen here, where nothing seems to want a gradient.
        run = Traced(kernel) if traced else with_memory(kernel, given.variant)
        y, h_n, _ = TransformedLayer.apply(run, given.variant, torch.is_grad_enabled(), *given.tensors)  # type: ignore[no-untyped-call]
    elif traced:
        y, h_n, _ = Traced(kernel).forward(given, save=False)
    elif torch.is_grad_enabled() and any_requires_grad(given.x, given.h0, given.initial, *given.weights):
        y, h_n = differentiable_layer(with_memory(kernel, given.variant), given)
    else:
        y, h_n, _ = kernel.forward(given, save=False)
    return y, h_n
