"""A layer and its gradients as `autograd.Function`s: differentiable twice, with a rule for torch.func.vmap.

Forward-mode differentiation never comes here: no kernel takes it, and backward hands it to the definition.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgru.backends import Kernel
from fastgru.core.layer import FIXED, Layer, layer_of
from fastgru.core.noise import NO_NOISE
from fastgru.core.steps import PLAIN, Steps
from fastgru.core.torch_internals import (
    any_requires_grad,
    are_transforms_active,
    direct_apply,
    is_forward_mode,
    is_functorch_wrapped_tensor,
    is_legacy_batchedtensor,
    is_plain,
    is_traced,
    raw_saved_tensors,
    saved_beside_output,
)
from fastgru.ops import definition, samples
from fastgru.ops.folding import fold, fold_fixed, members, stacked, unfold
from fastgru.ops.library import Traced
from fastgru.ops.memory import RecomputingKernel
from fastgru.ops.second_order import is_plain_layer, plain_second_gradients

Maybe = Tensor | None

# Where a layer's tensors begin among the arguments of each Function: each must be an argument of its own.
_LAYER, _FORWARD, _BACKWARD = 2, 3, 8


class DifferentiableLayer(torch.autograd.Function):
    """y and h_n [D, B, H], outside of torch.func: a forward that takes ctx is bound to no signature at each call."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, given: Layer, *leaves: Maybe) -> tuple[Tensor, Tensor]:
        """Run the kernel's forward pass; `leaves` are the layer's, for torch to see them."""
        y, h_n, saved = kernel.forward(given, save=True)
        ctx.kernel, ctx.variant = kernel, given.variant
        ctx.is_simple = given.steps is PLAIN and given.noise is NO_NOISE
        ctx.set_materialize_grads(False)
        ctx.version = y._version
        kept = None if given.variant.memory == "checkpoint" else y
        if ctx.is_simple:
            ctx.save_for_backward(kept, saved, *leaves)
        else:
            ctx.save_for_backward(kept, saved, *given.steps, *given.noise, *leaves)
        return y, h_n

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh_n: Maybe) -> tuple[Maybe, ...]:
        """The gradients of the leaves."""
        output = raw_saved_tensors(ctx)[0]
        kept = None if output.unpack_hook is not None else output.data
        is_written = kept is not None and kept._version != ctx.version
        y, saved, *tensors = saved_beside_output(ctx, ctx.version) if is_written else ctx.saved_tensors
        if ctx.is_simple:
            x, h0, initial, *weights = tensors
            given = Layer(ctx.variant, PLAIN, NO_NOISE, x, h0, initial, weights)
        else:
            given = layer_of(ctx.variant, tensors)
        if is_written:
            with torch.no_grad():
                y = ctx.kernel.forward(given, save=False)[0]
        wanted = ctx.needs_input_grad[_LAYER:]
        return None, None, *_gradients(ctx.kernel, given, wanted, y, saved, dy, dh_n)


_apply: Any = direct_apply(DifferentiableLayer)


def differentiable_layer(kernel: Kernel, given: Layer) -> tuple[Tensor, Tensor]:
    """y and h_n [D, B, H] of a layer of which a gradient is wanted, where no transform of torch.func is active."""
    found: tuple[Tensor, Tensor] = _apply(kernel, given, given.x, given.h0, given.initial, *given.weights)
    return found


class TransformedLayer(torch.autograd.Function):
    """y, h_n [D, B, H] and, where `save` is true, what backward needs: as torch.func's transforms want it."""

    @staticmethod
    def forward(kernel: Kernel, variant: Any, save: bool, *tensors: Maybe) -> tuple[Tensor, Tensor, Maybe]:
        """Run the kernel's forward pass."""
        return kernel.forward(layer_of(variant, tensors), save=save)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Maybe]) -> None:
        """Keep what backward needs."""
        ctx.kernel, ctx.variant, save, *tensors = inputs
        y, _, saved = output
        if save:
            ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)
        ctx.has_output = ctx.variant.memory != "checkpoint" or isinstance(ctx.kernel, Traced)
        ctx.version = y._version
        ctx.save_for_backward(y if ctx.has_output else None, saved, *tensors)

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Maybe, ...]:
        """The gradients of the leaves."""
        none = (None,) * (_FORWARD + FIXED)
        y, saved, *tensors = saved_beside_output(ctx, ctx.version) if ctx.has_output else ctx.saved_tensors
        if y is None and ctx.has_output:
            with torch.no_grad():
                y, _, _ = TransformedLayer.apply(ctx.kernel, ctx.variant, False, *tensors)  # type: ignore[no-untyped-call]
        wanted = ctx.needs_input_grad[len(none) :]
        return none + _gradients(ctx.kernel, layer_of(ctx.variant, tensors), wanted, y, saved, dy, dh_n)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Maybe, ...], tuple[Any, ...]]:
        """Samples that share the weights are one batch; an ensemble's members are called one after the other."""
        count = info.batch_size
        tensors = _folded(arguments[_FORWARD:], in_dims[_FORWARD:], count)
        if tensors is None:
            each = members(arguments, in_dims, count)
            return stacked([TransformedLayer.apply(*member) for member in each])  # type: ignore[no-untyped-call]
        kernel, variant, save = arguments[:_FORWARD]
        rows = Steps(tensors[0]).rows_dim
        y, h_n, saved = TransformedLayer.apply(kernel, variant, save, *tensors)  # type: ignore[no-untyped-call]
        results = unfold(y, count, rows), unfold(h_n, count, 1), unfold(saved, count, 1) if save else None
        return results, (rows + 1, 2, 2 if save else None)


def _gradients(
    kernel: Kernel, given: Layer, wanted: Sequence[bool], y: Any, saved: Tensor, dy: Maybe, dh_n: Maybe
) -> tuple[Maybe, ...]:
    """Run the kernel's backward pass, or the definition's where no kernel takes the cotangents."""
    if dy is None and dh_n is None:
        return (None,) * len(wanted)
    # Batches of `torch.autograd.grad(is_grads_batched=True)`, which is older than torch.func.
    is_batch = (dy is not None and is_legacy_batchedtensor(dy)) or (dh_n is not None and is_legacy_batchedtensor(dh_n))
    if is_batch or not is_plain():
        if is_batch or is_forward_mode():
            return definition.gradients(given, wanted, dy, dh_n)
        kernel = Traced(kernel) if is_traced() else kernel
    # What torch.func has wrapped only apply unwraps, wrappers of transforms that have ended among it.
    is_wrapped = are_transforms_active() or is_functorch_wrapped_tensor(saved)
    if is_wrapped or torch.is_grad_enabled():
        apply: Any = LayerGradients.apply if is_wrapped else _gradients_apply
        found: tuple[Maybe, ...] = apply(kernel, given.variant, None, wanted, y, saved, dy, dh_n, *given.tensors)
        return found
    return tuple(kernel.backward(given, y, saved, dy, dh_n, wanted))


def _output(kernel: Kernel, given: Layer) -> Tensor:
    """A layer's y, differentiable where it is to be."""
    if are_transforms_active() or any(leaf is not None and is_functorch_wrapped_tensor(leaf) for leaf in given.leaves):
        y, _, _ = TransformedLayer.apply(kernel, given.variant, torch.is_grad_enabled(), *given.tensors)  # type: ignore[no-untyped-call]
    elif torch.is_grad_enabled() and any_requires_grad(*given.leaves):
        y, _ = differentiable_layer(kernel, given)
    else:
        y, _, _ = kernel.forward(given, save=False)
    found: Tensor = y
    return found


def second_gradients(
    kernel: Kernel,
    given: Layer,
    count: int | None,
    wanted: Sequence[bool],
    dy: Maybe,
    dh_n: Maybe,
    cotangents: Sequence[Maybe],
) -> tuple[Maybe, ...]:
    """The gradients of LayerGradients: of dy, dh_n and the leaves. They may be differentiated again.

    In closed form for a plain layer; otherwise the definition's gradients are differentiated.
    """
    is_seen = is_traced() or is_forward_mode() or any(c is not None and is_legacy_batchedtensor(c) for c in cotangents)
    if count is None and is_plain_layer(given) and not is_seen:
        return plain_second_gradients(given, _output(kernel, given), dy, dh_n, cotangents)
    variables = [dy, dh_n, *given.leaves]
    return definition.second_gradients(given.variant, given.tensors[:FIXED], count, wanted, variables, cotangents)


class LayerGradients(torch.autograd.Function):
    """A layer's gradients, which can be differentiated again: a function of dy, dh_n and the layer's leaves.

    count: None, or V where the batch is V samples folded into one; the gradients of initial and of the weights are then
    [V, ...].
    """

    @staticmethod
    def forward(
        kernel: Kernel,
        variant: Any,
        count: int | None,
        wanted: Sequence[bool],
        y: Any,  # None where the kernel saved what stands for it
        saved: Tensor,
        dy: Maybe,
        dh_n: Maybe,
        *tensors: Maybe,
    ) -> tuple[Maybe, ...]:
        """Run the kernel's backward pass."""
        given = layer_of(variant, tensors)
        if count is None or not any(wanted[2:]):
            return tuple(kernel.backward(given, y, saved, dy, dh_n, wanted))
        is_plain = given.initial is None and variant.keep == 1 and variant.reset_after and not variant.layer_norm
        if any(tensor is not None for tensor in tensors[2:FIXED]) or not is_plain:
            return definition.sample_gradients(given, wanted, dy, dh_n, count)
        if isinstance(kernel, RecomputingKernel):
            each = partial(samples.gradients, kernel.kernel, count)
            return tuple(kernel.backward(given, y, saved, dy, dh_n, wanted, each))
        if not kernel.keeps_gates or (isinstance(kernel, Traced) and variant.memory != "gates"):  # none to go by
            return definition.sample_gradients(given, wanted, dy, dh_n, count)
        return samples.gradients(kernel, count, given, y, saved, dy, dh_n, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Maybe, ...]) -> None:
        """Keep what the gradients depend on."""
        ctx.kernel, ctx.variant, ctx.count, ctx.wanted, _, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        """The gradients of dy, dh_n and the leaves."""
        dy, dh_n, *tensors = ctx.saved_tensors
        given = layer_of(ctx.variant, tensors)
        found = second_gradients(ctx.kernel, given, ctx.count, ctx.wanted, dy, dh_n, cotangents)
        return *(None,) * (_BACKWARD - 2), *found[:2], *(None,) * FIXED, *found[2:]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Maybe, ...], tuple[Any, ...]]:
        """As TransformedLayer's; the gradients of what the samples share come out one for each sample."""
        size = info.batch_size
        tensors = _folded(arguments[_BACKWARD:], in_dims[_BACKWARD:], size)
        if tensors is None:
            each = members(arguments, in_dims, size)
            return stacked([LayerGradients.apply(*member) for member in each])  # type: ignore[no-untyped-call]
        kernel, variant, count, wanted, y, saved, dy, dh_n = arguments[:_BACKWARD]
        rows = Steps(tensors[0]).rows_dim
        dx, dh0, *shared = LayerGradients.apply(  # type: ignore[no-untyped-call]
            kernel,
            variant,
            size if count is None else count * size,
            wanted,
            fold(y, in_dims[4], size, rows),
            fold(saved, in_dims[5], size, 1),
            fold(dy, in_dims[6], size, rows),
            fold(dh_n, in_dims[7], size, 1),
            *tensors,
        )
        sample = 0 if count is None else 1
        if count is not None:
            shared = [unfold(gradient, size, 0) for gradient in shared]
        results = (unfold(dx, size, rows), unfold(dh0, size, 1), *shared)
        dims = (rows + 1, 2, *(sample for _ in shared))
        return results, tuple(None if r is None else dim for r, dim in zip(results, dims, strict=True))


class _DirectGradients(torch.autograd.Function):
    """LayerGradients outside of torch.func, without what binds its arguments to a signature at each call."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Maybe, ...]:
        """As there."""
        found = LayerGradients.forward(*arguments)
        LayerGradients.setup_context(ctx, arguments, found)
        return found

    backward = staticmethod(LayerGradients.backward)


_gradients_apply: Any = direct_apply(_DirectGradients)


def _folded(tensors: Sequence[Maybe], dims: Sequence[int | None], count: int) -> list[Maybe] | None:
    """A layer's tensors with the samples folded into the batch; None where the samples do not share the weights."""
    fixed = fold_fixed(tensors[:FIXED], dims[:FIXED], count)
    if fixed is None or any(dim is not None for dim in dims[FIXED + 2 :]):
        return None
    x, h0, *shared = tensors[FIXED:]
    rows = Steps(fixed[0]).rows_dim
    return [*fixed, fold(x, dims[FIXED], count, rows), fold(h0, dims[FIXED + 1], count, 1), *shared]
