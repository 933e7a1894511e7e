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
from fastgru.ops.folding import fold, members, rows_dim, stacked, unfold
from fastgru.ops.library import Traced, is_traced

Maybe = Tensor | None

_functorch = torch._C._functorch


class Layer(torch.autograd.Function):
    """y, h_n [D, B, H] and, where `save` is true, what backward needs."""

    @staticmethod
    def forward(
        kernel: Kernel, directions: int, batch_sizes: Maybe, save: bool, x: Tensor, h0: Maybe, *weights: Tensor
    ) -> tuple[Tensor, Tensor, Maybe]:
        """Run the kernel's forward pass."""
        return kernel.forward(x, h0, weights, directions, batch_sizes, save=save)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Maybe]) -> None:
        """Keep what backward needs."""
        ctx.kernel, ctx.directions, batch_sizes, save, x, h0, *weights = inputs
        y, _, saved = output
        if save:
            ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(batch_sizes, y, saved, x, h0, *weights)

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Maybe, ...]:
        """Run the kernel's backward pass, or the definition's where no kernel takes the cotangents."""
        batch_sizes, y, saved, x, h0, *weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[4:]
        if dy is None and dh_n is None:
            return (None,) * (4 + len(wanted))
        if forward_ad._current_level >= 0 or _is_legacy_batch(dy) or _is_legacy_batch(dh_n):
            defined = definition.gradients(ctx.directions, batch_sizes, wanted, dy, dh_n, [x, h0, *weights])
            return (None, None, None, None, *defined)
        kernel = Traced(ctx.kernel) if is_traced() else ctx.kernel
        # What torch.func has wrapped only apply unwraps, wrappers of transforms that have ended among it.
        transformed = torch._C._are_functorch_transforms_active() or _functorch.is_functorch_wrapped_tensor(y)
        if transformed or torch.is_grad_enabled():
            arguments = (kernel, ctx.directions, batch_sizes, None, y, saved, wanted, dy, dh_n, x, h0, *weights)
            return (None, None, None, None, *LayerBackward.apply(*arguments))  # type: ignore[no-untyped-call]
        found = kernel.backward(x, h0, weights, ctx.directions, batch_sizes, y, saved, dy, dh_n, wanted)
        return (None, None, None, None, *found)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Maybe, ...], tuple[Any, ...]]:
        """Samples that share the weights are one batch; an ensemble's members are called one after the other."""
        count = info.batch_size
        if any(dim is not None for dim in in_dims[6:]):
            return stacked([Layer.apply(*member) for member in members(arguments, in_dims, count)])  # type: ignore[no-untyped-call]
        kernel, directions, batch_sizes, save, x, h0, *weights = arguments
        rows = rows_dim(batch_sizes)
        y, h_n, saved = Layer.apply(  # type: ignore[no-untyped-call]
            kernel,
            directions,
            None if batch_sizes is None else batch_sizes * count,
            save,
            fold(x, in_dims[4], count, rows),
            fold(h0, in_dims[5], count, 1),
            *weights,
        )
        results = unfold(y, count, rows), unfold(h_n, count, 1), unfold(saved, count, 1) if save else None
        return results, (rows + 1, 2, 2 if save else None)


class LayerBackward(torch.autograd.Function):
    """A layer's gradients, which can be differentiated again: a function of dy, dh_n, x, h0 and the weights.

    samples: None, or V where the batch is V samples folded into one; the weights' gradients are then [V, ...].
    """

    @staticmethod
    def forward(
        kernel: Kernel,
        directions: int,
        batch_sizes: Maybe,
        count: int | None,
        y: Tensor,
        saved: Tensor,
        wanted: Sequence[bool],
        dy: Maybe,
        dh_n: Maybe,
        x: Tensor,
        h0: Maybe,
        *weights: Tensor,
    ) -> tuple[Maybe, ...]:
        """Run the kernel's backward pass."""
        arguments = (x, h0, weights, directions, batch_sizes, y, saved, dy, dh_n, wanted)
        if count is not None and any(wanted[2:]):
            return samples.gradients(kernel, count, *arguments)
        return tuple(kernel.backward(*arguments))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Maybe, ...]) -> None:
        """Keep what the gradients depend on."""
        _, ctx.directions, batch_sizes, ctx.count, _, _, ctx.wanted, *variables = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(batch_sizes, *variables)

    @staticmethod
    def backward(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        """Differentiate the definition's gradients."""
        batch_sizes, *variables = ctx.saved_tensors
        second = definition.second_gradients(ctx.directions, batch_sizes, ctx.count, ctx.wanted, variables, cotangents)
        return (None,) * 7 + second

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Maybe, ...], tuple[Any, ...]]:
        """As Layer's; the gradients of weights that the samples share come out one for each sample."""
        size = info.batch_size
        if any(dim is not None for dim in in_dims[11:]):
            return stacked([LayerBackward.apply(*member) for member in members(arguments, in_dims, size)])  # type: ignore[no-untyped-call]
        kernel, directions, batch_sizes, count, y, saved, wanted, dy, dh_n, x, h0, *weights = arguments
        rows = rows_dim(batch_sizes)
        dx, dh0, *dweights = LayerBackward.apply(  # type: ignore[no-untyped-call]
            kernel,
            directions,
            None if batch_sizes is None else batch_sizes * size,
            size if count is None else count * size,
            fold(y, in_dims[4], size, rows),
            fold(saved, in_dims[5], size, 1),
            wanted,
            fold(dy, in_dims[7], size, rows),
            fold(dh_n, in_dims[8], size, 1),
            fold(x, in_dims[9], size, rows),
            fold(h0, in_dims[10], size, 1),
            *weights,
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
