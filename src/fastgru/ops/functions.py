"""A layer and its gradients as `autograd.Function`s: differentiable twice, with a rule for torch.func.vmap.

Forward-mode differentiation never comes here: no kernel takes it, and backward hands it to the definition.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastgru.backends import Kernel
from fastgru.ops import definition, samples
from fastgru.ops.folding import fold, fold_steps, members, stacked, unfold
from fastgru.ops.library import Traced, is_traced
from fastgru.steps import Steps

Maybe = Tensor | None

_functorch = torch._C._functorch

_NONE = (None,) * 7  # the gradients of all arguments before x
# Where the tensors of Steps lie among the arguments of both Functions: their tensors must be arguments of their own.
_STEPS = slice(3, 7)


class Layer(torch.autograd.Function):
    """y, h_n [D, B, H] and, where `save` is true, what backward needs."""

    @staticmethod
    def forward(
        kernel: Kernel,
        directions: int,
        save: bool,
        batch_sizes: Maybe,
        offsets: Maybe,
        lengths: Maybe,
        resets: Maybe,
        x: Tensor,
        h0: Maybe,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Maybe]:
        """Run the kernel's forward pass."""
        return kernel.forward(x, h0, weights, directions, Steps(batch_sizes, offsets, lengths, resets), save=save)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Maybe]) -> None:
        """Keep what backward needs."""
        ctx.kernel, ctx.directions, save, *tensors = inputs
        y, _, saved = output
        if save:
            ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y, saved, *tensors)

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Maybe, ...]:
        """Run the kernel's backward pass, or the definition's where no kernel takes the cotangents."""
        y, saved, batch_sizes, offsets, lengths, resets, x, h0, *weights = ctx.saved_tensors
        steps = Steps(batch_sizes, offsets, lengths, resets)
        wanted = ctx.needs_input_grad[7:]
        if dy is None and dh_n is None:
            return (None,) * (7 + len(wanted))
        if forward_ad._current_level >= 0 or _is_legacy_batch(dy) or _is_legacy_batch(dh_n):
            defined = definition.gradients(ctx.directions, steps, wanted, dy, dh_n, [x, h0, *weights])
            return (*_NONE, *defined)
        kernel = Traced(ctx.kernel) if is_traced() else ctx.kernel
        # What torch.func has wrapped only apply unwraps, wrappers of transforms that have ended among it.
        transformed = torch._C._are_functorch_transforms_active() or _functorch.is_functorch_wrapped_tensor(y)
        if transformed or torch.is_grad_enabled():
            arguments = (kernel, ctx.directions, None, *steps, wanted, y, saved, dy, dh_n, x, h0, *weights)
            return (*_NONE, *LayerBackward.apply(*arguments))  # type: ignore[no-untyped-call]
        return (*_NONE, *kernel.backward(x, h0, weights, ctx.directions, steps, y, saved, dy, dh_n, wanted))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Maybe, ...], tuple[Any, ...]]:
        """Samples that share the weights are one batch; an ensemble's members are called one after the other."""
        count = info.batch_size
        steps = fold_steps(Steps(*arguments[_STEPS]), in_dims[_STEPS], count)
        if steps is None or any(dim is not None for dim in in_dims[9:]):
            return stacked([Layer.apply(*member) for member in members(arguments, in_dims, count)])  # type: ignore[no-untyped-call]
        kernel, directions, save, *_, x, h0 = arguments[:9]
        rows = steps.rows_dim
        y, h_n, saved = Layer.apply(  # type: ignore[no-untyped-call]
            kernel,
            directions,
            save,
            *steps,
            fold(x, in_dims[7], count, rows),
            fold(h0, in_dims[8], count, 1),
            *arguments[9:],
        )
        results = unfold(y, count, rows), unfold(h_n, count, 1), unfold(saved, count, 1) if save else None
        return results, (rows + 1, 2, 2 if save else None)


class LayerBackward(torch.autograd.Function):
    """A layer's gradients, which can be differentiated again: a function of dy, dh_n, x, h0 and the weights.

    count: None, or V where the batch is V samples folded into one; the weights' gradients are then [V, ...].
    """

    @staticmethod
    def forward(
        kernel: Kernel,
        directions: int,
        count: int | None,
        batch_sizes: Maybe,
        offsets: Maybe,
        lengths: Maybe,
        resets: Maybe,
        wanted: Sequence[bool],
        y: Tensor,
        saved: Tensor,
        dy: Maybe,
        dh_n: Maybe,
        x: Tensor,
        h0: Maybe,
        *weights: Tensor,
    ) -> tuple[Maybe, ...]:
        """Run the kernel's backward pass."""
        steps = Steps(batch_sizes, offsets, lengths, resets)
        if count is None or not any(wanted[2:]):
            return tuple(kernel.backward(x, h0, weights, directions, steps, y, saved, dy, dh_n, wanted))
        if lengths is not None or resets is not None:
            return definition.sample_gradients(directions, steps, wanted, dy, dh_n, [x, h0, *weights], count)
        return samples.gradients(kernel, count, x, h0, weights, directions, steps, y, saved, dy, dh_n, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Maybe, ...]) -> None:
        """Keep what the gradients depend on."""
        _, ctx.directions, ctx.count, *steps, ctx.wanted, _, _ = inputs[:10]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*steps, *inputs[10:])

    @staticmethod
    def backward(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        """Differentiate the definition's gradients."""
        batch_sizes, offsets, lengths, resets, *variables = ctx.saved_tensors
        steps = Steps(batch_sizes, offsets, lengths, resets)
        second = definition.second_gradients(ctx.directions, steps, ctx.count, ctx.wanted, variables, cotangents)
        return (None,) * 10 + second

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Maybe, ...], tuple[Any, ...]]:
        """As Layer's; the gradients of weights that the samples share come out one for each sample."""
        size = info.batch_size
        steps = fold_steps(Steps(*arguments[_STEPS]), in_dims[_STEPS], size)
        if steps is None or any(dim is not None for dim in in_dims[14:]):
            return stacked([LayerBackward.apply(*member) for member in members(arguments, in_dims, size)])  # type: ignore[no-untyped-call]
        kernel, directions, count, *_, wanted, y, saved, dy, dh_n, x, h0 = arguments[:14]
        rows = steps.rows_dim
        dx, dh0, *dweights = LayerBackward.apply(  # type: ignore[no-untyped-call]
            kernel,
            directions,
            size if count is None else count * size,
            *steps,
            wanted,
            fold(y, in_dims[8], size, rows),
            fold(saved, in_dims[9], size, 1),
            fold(dy, in_dims[10], size, rows),
            fold(dh_n, in_dims[11], size, 1),
            fold(x, in_dims[12], size, rows),
            fold(h0, in_dims[13], size, 1),
            *arguments[14:],
        )
        sample = 0 if count is None else 1
        if count is not None:
            dweights = [unfold(dweight, size, 0) for dweight in dweights]
        results = (unfold(dx, size, rows), unfold(dh0, size, 1), *dweights)
        dims = (rows + 1, 2, *(sample for _ in dweights))
        return results, tuple(None if r is None else dim for r, dim in zip(results, dims, strict=True))


def _is_legacy_batch(cotangent: Maybe) -> bool:
    """Whether it is a batch of cotangents of `torch.autograd.grad(is_grads_batched=True)`, older than torch.func."""
    return cotangent is not None and _functorch.is_legacy_batchedtensor(cotangent)
