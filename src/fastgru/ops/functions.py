"""A layer and its gradients as `autograd.Function`s: differentiable twice, with a rule for torch.func.vmap.

Forward-mode differentiation never comes here: no kernel takes it, and backward hands it to the definition.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastgru.backends import Kernel
from fastgru.core.layer import FIXED, layer_of
from fastgru.core.spec import Variant
from fastgru.core.steps import Steps
from fastgru.ops import definition, samples
from fastgru.ops.folding import fold, fold_fixed, members, stacked, unfold
from fastgru.ops.library import Traced, is_traced
from fastgru.ops.memory import Thrifty

Maybe = Tensor | None

_functorch = torch._C._functorch

# Where a layer's tensors begin among the arguments of each Function: each must be an argument of its own.
_FORWARD, _BACKWARD = 3, 8


class LayerForward(torch.autograd.Function):
    """y, h_n [D, B, H] and, where `save` is true, what backward needs."""

    @staticmethod
    def forward(kernel: Kernel, variant: Variant, save: bool, *tensors: Maybe) -> tuple[Tensor, Tensor, Maybe]:
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
        needless = ctx.variant.memory == "checkpoint" and not isinstance(ctx.kernel, Traced)
        ctx.save_for_backward(None if needless else y, saved, *tensors)

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Maybe, ...]:
        """Run the kernel's backward pass, or the definition's where no kernel takes the cotangents."""
        y, saved, *tensors = ctx.saved_tensors
        none = (None,) * (_FORWARD + FIXED)
        wanted = ctx.needs_input_grad[len(none) :]
        if dy is None and dh_n is None:
            return none + (None,) * len(wanted)
        given = layer_of(ctx.variant, tensors)
        if forward_ad._current_level >= 0 or _is_legacy_batch(dy) or _is_legacy_batch(dh_n):
            return none + definition.gradients(given, wanted, dy, dh_n)
        kernel = Traced(ctx.kernel) if is_traced() else ctx.kernel
        # What torch.func has wrapped only apply unwraps, wrappers of transforms that have ended among it.
        transformed = torch._C._are_functorch_transforms_active() or _functorch.is_functorch_wrapped_tensor(saved)
        if transformed or torch.is_grad_enabled():
            arguments = (kernel, ctx.variant, None, wanted, y, saved, dy, dh_n, *tensors)
            return (*none, *LayerBackward.apply(*arguments))  # type: ignore[no-untyped-call]
        return (*none, *kernel.backward(given, y, saved, dy, dh_n, wanted))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Maybe, ...], tuple[Any, ...]]:
        """Samples that share the weights are one batch; an ensemble's members are called one after the other."""
        count = info.batch_size
        tensors = _folded(arguments[_FORWARD:], in_dims[_FORWARD:], count)
        if tensors is None:
            each = members(arguments, in_dims, count)
            return stacked([LayerForward.apply(*member) for member in each])  # type: ignore[no-untyped-call]
        kernel, variant, save = arguments[:_FORWARD]
        rows = Steps(tensors[0]).rows_dim
        y, h_n, saved = LayerForward.apply(kernel, variant, save, *tensors)  # type: ignore[no-untyped-call]
        results = unfold(y, count, rows), unfold(h_n, count, 1), unfold(saved, count, 1) if save else None
        return results, (rows + 1, 2, 2 if save else None)


class LayerBackward(torch.autograd.Function):
    """A layer's gradients, which can be differentiated again: a function of dy, dh_n and the layer's leaves.

    count: None, or V where the batch is V samples folded into one; the gradients of initial and of the weights are then
    [V, ...].
    """

    @staticmethod
    def forward(
        kernel: Kernel,
        variant: Variant,
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
        if isinstance(kernel, Traced) and variant.memory != "gates":  # an operator saves no gates to go by
            return definition.sample_gradients(given, wanted, dy, dh_n, count)
        if isinstance(kernel, Thrifty):
            each = partial(samples.gradients, kernel.kernel, count)
            return tuple(kernel.backward(given, y, saved, dy, dh_n, wanted, each))
        return samples.gradients(kernel, count, given, y, saved, dy, dh_n, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Maybe, ...]) -> None:
        """Keep what the gradients depend on."""
        _, ctx.variant, ctx.count, ctx.wanted, _, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        """Differentiate the definition's gradients."""
        dy, dh_n, *tensors = ctx.saved_tensors
        variables = [dy, dh_n, *tensors[FIXED:]]
        ddy, ddh_n, *leaves = definition.second_gradients(
            ctx.variant, tensors[:FIXED], ctx.count, ctx.wanted, variables, cotangents
        )
        return *(None,) * (_BACKWARD - 2), ddy, ddh_n, *(None,) * FIXED, *leaves

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Maybe, ...], tuple[Any, ...]]:
        """As LayerForward's; the gradients of what the samples share come out one for each sample."""
        size = info.batch_size
        tensors = _folded(arguments[_BACKWARD:], in_dims[_BACKWARD:], size)
        if tensors is None:
            each = members(arguments, in_dims, size)
            return stacked([LayerBackward.apply(*member) for member in each])  # type: ignore[no-untyped-call]
        kernel, variant, count, wanted, y, saved, dy, dh_n = arguments[:_BACKWARD]
        rows = Steps(tensors[0]).rows_dim
        dx, dh0, *shared = LayerBackward.apply(  # type: ignore[no-untyped-call]
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


def _folded(tensors: Sequence[Maybe], dims: Sequence[int | None], count: int) -> list[Maybe] | None:
    """A layer's tensors with the samples folded into the batch; None where the samples do not share the weights."""
    fixed = fold_fixed(tensors[:FIXED], dims[:FIXED], count)
    if fixed is None or any(dim is not None for dim in dims[FIXED + 2 :]):
        return None
    x, h0, *shared = tensors[FIXED:]
    rows = Steps(fixed[0]).rows_dim
    return [*fixed, fold(x, dims[FIXED], count, rows), fold(h0, dims[FIXED + 1], count, 1), *shared]


def _is_legacy_batch(cotangent: Maybe) -> bool:
    """Whether it is a batch of cotangents of `torch.autograd.grad(is_grads_batched=True)`, older than torch.func."""
    return cotangent is not None and _functorch.is_legacy_batchedtensor(cotangent)
