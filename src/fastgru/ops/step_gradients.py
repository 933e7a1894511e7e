"""The gradients of a single layer's step that may be differentiated again: a native call each time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from fastgru.backends.cpu import CpuBackend
from fastgru.core.layer import Layer
from fastgru.core.noise import Noise
from fastgru.core.spec import Variant
from fastgru.core.steps import PLAIN
from fastgru.core.torch_internals import (
    are_transforms_active,
    count_dispatch_modes,
    direct_apply,
    is_forward_mode,
    is_legacy_batchedtensor,
    tracing_state,
)
from fastgru.ops.functions import second_gradients

Maybe = Tensor | None

_KERNEL = CpuBackend()  # what runs such a step again where its second derivatives are not native


def step_gradients(
    used: Any,
    variant: Variant,
    masks: Noise,
    saved: Tensor,
    leaves: Sequence[Maybe],
    wanted: Sequence[bool],
    cotangents: tuple[Maybe, Maybe],
) -> tuple[Maybe, ...]:
    """`definition.step_gradients` of a single layer on the CPU, by the kernels; it may be differentiated again.

    used: the layer's StepWeights; saved: what their forward pass left of this step.
    """
    found: tuple[Maybe, ...] = _apply(used, variant, wanted, saved, *masks, *cotangents, *leaves)
    return found


def is_seen(*cotangents: Maybe) -> bool:
    """Whether a backward pass with such cotangents is transformed or written down."""
    return (
        is_compiling()
        or tracing_state() is not None
        or count_dispatch_modes() > 0
        or are_transforms_active()
        or is_forward_mode()
        or any(cotangent is not None and is_legacy_batchedtensor(cotangent) for cotangent in cotangents)
    )


class _StepGradients(Function):
    """The gradients of x, the state and the weights, as a function of these and of the cotangents dy and dh_n."""

    @staticmethod
    def forward(
        ctx: Any, used: Any, variant: Variant, wanted: Sequence[bool], saved: Tensor, *tensors: Maybe
    ) -> tuple[Maybe, ...]:
        """Run the kernel's backward pass; tensors: the masks, dy, dh_n, x, the state and the weights."""
        recurrent, zoneout, dy, dh_n, x, state, *_ = tensors
        ctx.used, ctx.variant, ctx.wanted = used, variant, wanted
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(saved, *tensors)
        threads = torch.get_num_threads()
        return tuple(used.backward(x, state, recurrent, zoneout, saved, dy, dh_n, wanted, None, threads))

    @staticmethod
    def backward(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        """The gradients of dy, dh_n, x, the state and the weights."""
        saved, recurrent, zoneout, *tensors = ctx.saved_tensors
        found = None
        if recurrent is None and zoneout is None and not torch.is_grad_enabled() and not is_seen(*cotangents):
            dy, dh_n, x, state, *_ = tensors
            needs, threads = ctx.needs_input_grad[_FIXED:], torch.get_num_threads()
            found = ctx.used.double_backward(x, state, saved, dy, dh_n, cotangents, needs, threads)
        if found is None:
            found = _of_layer(ctx.variant, Noise(recurrent, zoneout), ctx.wanted, tensors, cotangents)
        return *(None,) * _FIXED, *found


_FIXED = 6  # the arguments of _StepGradients.forward before dy
_apply: Any = direct_apply(_StepGradients)


def _of_layer(
    variant: Variant, masks: Noise, wanted: Sequence[bool], tensors: Sequence[Any], cotangents: Sequence[Maybe]
) -> tuple[Maybe, ...]:
    """The second gradients by those of a layer over one step, which may be differentiated again.

    tensors: dy, dh_n, x, the state and the weights; cotangents: of the gradients of x, the state and the weights.
    """
    dy, dh_n, x, state, *weights = tensors
    states = variant.directions, -1, weights[1].size(1)

    def as_series(rows: Any) -> Maybe:
        return None if rows is None else rows.reshape(1, -1, rows.size(-1))

    def as_states(rows: Any) -> Maybe:
        return None if rows is None else rows.reshape(states)

    noise = Noise(as_states(masks.recurrent), as_series(masks.zoneout))
    given = Layer(
        variant._replace(memory="gates"), PLAIN, noise, x.reshape(1, -1, x.size(-1)), as_states(state), None, weights
    )
    chosen = wanted[0], wanted[1] and state is not None, False, *wanted[2:]
    v_x, v_state, *v = cotangents
    whole = as_series(v_x), as_states(v_state), None, *v
    ddy, ddh_n, dx, dh0, _, *dw = second_gradients(_KERNEL, given, None, chosen, as_series(dy), as_states(dh_n), whole)
    found = zip((ddy, ddh_n, dx, dh0), (dy, dh_n, x, state), strict=True)
    return *(None if one is None else one.reshape(like.shape) for one, like in found), *dw
