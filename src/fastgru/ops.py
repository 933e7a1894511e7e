"""A GRU on a backend, as torch sees it: what is differentiated by whom, in which mode.

A backend of torch's operators is differentiated by torch. For one of kernels this file stacks the layers and puts
around each layer

- a direct call, where no gradient is wanted;
- an `autograd.Function`, where one is; its backward is a Function too, whose own backward, for derivatives of second
  and higher order, goes through the reference;
- the operators `fastgru::layer` and `fastgru::layer_backward`, while torch compiles, exports or traces.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgru import reference
from fastgru.backends import BACKENDS, Backend, Kernel
from fastgru.spec import GRUSpec

Maybe = Tensor | None


def gru(
    backend: Backend,
    spec: GRUSpec,
    x: Tensor,
    h0: Tensor | None,
    weights: Sequence[Tensor],
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a stack of layers on a backend; the tensors are as `fastgru.backends.Composed` describes them."""
    if backend.composed:
        return backend.gru(spec, x, h0, weights, batch_sizes)
    if spec.num_layers == 1:
        return _layer(backend, x, h0, weights, spec.directions, batch_sizes)
    states = []
    y = x
    for layer in range(spec.num_layers):
        if layer > 0 and spec.training:
            y = F.dropout(y, spec.dropout)
        first = layer * spec.directions
        own = weights[first * spec.weights_per_direction : (first + spec.directions) * spec.weights_per_direction]
        start = None if h0 is None else h0[first : first + spec.directions]
        y, h_n = _layer(backend, y, start, own, spec.directions, batch_sizes)
        states.append(h_n)
    return y, torch.cat(states)


def cell(backend: Backend, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Run one step on a backend: x [B, I], h [B, H] to h' [B, H]."""
    if backend.composed:
        return backend.cell(x, h, weights)
    reference.check_cell(x, h, weights)
    return _layer(backend, x[None], h[None], weights, 1, None)[1][0]


def _layer(
    kernel: Kernel, x: Tensor, h0: Maybe, weights: Sequence[Tensor], directions: int, batch_sizes: Maybe
) -> tuple[Tensor, Tensor]:
    """One layer: y and h_n [D, B, H]."""
    differentiate = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (x, h0, *weights)
    )
    if _traced():
        batch = x.size(1) if batch_sizes is None else batch_sizes[0].item()
        arguments = (kernel.name, x, h0, weights, directions, batch_sizes, batch, differentiate)
        y, h_n, _ = torch.ops.fastgru.layer(*arguments)
    elif differentiate:
        y, h_n, _ = _Layer.apply(kernel, directions, batch_sizes, x, h0, *weights)  # type: ignore[no-untyped-call]
    else:
        y, h_n, _ = kernel.forward(x, h0, weights, directions, batch_sizes, save=False)
    return y, h_n


def _traced() -> bool:
    """Whether somebody writes down what torch runs: a call of a kernel must then be one operator that he can see."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
    )


class _Layer(torch.autograd.Function):
    """A layer that keeps what its backward needs."""

    @staticmethod
    def forward(
        kernel: Kernel, directions: int, batch_sizes: Maybe, x: Tensor, h0: Maybe, *weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return kernel.forward(x, h0, weights, directions, batch_sizes, save=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.kernel, ctx.directions, batch_sizes, x, h0, *weights = inputs
        y, _, saved = output
        ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(batch_sizes, y, saved, x, h0, *weights)

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Maybe, ...]:
        batch_sizes, y, saved, x, h0, *weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        if dy is None and dh_n is None:
            return (None,) * (3 + len(wanted))
        if _is_batched(dy) or _is_batched(dh_n):
            return (None, None, None, *_gradients(ctx.directions, batch_sizes, wanted, dy, dh_n, [x, h0, *weights]))
        arguments = (ctx.kernel, ctx.directions, batch_sizes, y, saved, wanted, dy, dh_n, x, h0, *weights)
        run = _LayerBackward.apply if torch.is_grad_enabled() else _LayerBackward.forward
        return (None, None, None, *run(*arguments))


def _is_batched(cotangent: Maybe) -> bool:
    """Whether it stands for a batch of cotangents, under either of torch's vmaps, which kernels do not take."""
    functorch = torch._C._functorch
    return cotangent is not None and (
        functorch.is_batchedtensor(cotangent) or functorch.is_legacy_batchedtensor(cotangent)
    )


class _LayerBackward(torch.autograd.Function):
    """A layer's gradients, which can be differentiated again: a function of dy, dh_n, x, h0 and the weights."""

    @staticmethod
    def forward(
        kernel: Kernel,
        directions: int,
        batch_sizes: Maybe,
        y: Tensor,
        saved: Tensor,
        wanted: Sequence[bool],
        dy: Maybe,
        dh_n: Maybe,
        x: Tensor,
        h0: Maybe,
        *weights: Tensor,
    ) -> tuple[Maybe, ...]:
        return tuple(kernel.backward(x, h0, weights, directions, batch_sizes, y, saved, dy, dh_n, wanted))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Maybe, ...]) -> None:
        _, ctx.directions, batch_sizes, _, _, ctx.wanted, *variables = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(batch_sizes, *variables)

    @staticmethod
    def backward(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        batch_sizes, *variables = ctx.saved_tensors
        return (None,) * 6 + _second_gradients(ctx.directions, batch_sizes, ctx.wanted, variables, cotangents)


def _second_gradients(
    directions: int, batch_sizes: Maybe, wanted: Sequence[bool], variables: Sequence[Maybe], cotangents: Sequence[Maybe]
) -> tuple[Maybe, ...]:
    """The reference's gradients, differentiated by torch with respect to dy, dh_n and all that they depend on.

    variables: dy, dh_n, x, h0 and the weights; cotangents: one for each gradient, of x, h0 and the weights.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        dy, dh_n, *leaves = (_differentiable(tensor, again) for tensor in variables)
        gradients = _gradients(directions, batch_sizes, wanted, dy, dh_n, leaves, create_graph=True)
        return _grad(gradients, [dy, dh_n, *leaves], cotangents, create_graph=again)


def _gradients(
    directions: int,
    batch_sizes: Maybe,
    wanted: Sequence[bool],
    dy: Maybe,
    dh_n: Maybe,
    leaves: list[Any],
    create_graph: bool = False,
) -> list[Maybe]:
    """The gradients of x, h0 and the weights by the reference, None where not wanted."""
    with torch.enable_grad():
        leaves = [_differentiable(leaf, create_graph) for leaf in leaves] if not create_graph else leaves
        outputs = _reference(directions, batch_sizes, leaves)
        found = _grad(outputs, leaves, [dy, dh_n], create_graph=create_graph)
    return [gradient if want else None for gradient, want in zip(found, wanted, strict=True)]


def _differentiable(tensor: Maybe, connected: bool) -> Maybe:
    """A tensor to differentiate with respect to, connected to the graph that it came from or cut from it."""
    if tensor is None:
        return None
    if connected and tensor.requires_grad:
        return tensor.view_as(tensor)
    return tensor.detach().requires_grad_()


def _reference(directions: int, batch_sizes: Maybe, leaves: list[Any]) -> tuple[Tensor, Tensor]:
    """A layer by the definition; leaves: x, h0 and the weights."""
    x, h0, *weights = leaves
    hidden = weights[1].size(1)
    bias = len(weights) == 4 * directions
    spec = GRUSpec(x.size(-1), hidden, bias=bias, bidirectional=directions == 2)
    backend = next(backend for backend in BACKENDS if backend.name == "reference")
    return gru(backend, spec, x, h0, weights, batch_sizes)


def _grad(
    outputs: Sequence[Maybe], inputs: Sequence[Maybe], cotangents: Sequence[Maybe], create_graph: bool
) -> tuple[Maybe, ...]:
    """torch.autograd.grad where an output, an input or a cotangent may be missing; a missing one is zero."""
    pairs = [
        (output, cotangent)
        for output, cotangent in zip(outputs, cotangents, strict=True)
        if output is not None and cotangent is not None and output.requires_grad
    ]
    present = [tensor for tensor in inputs if tensor is not None]
    if not pairs:
        return (None,) * len(inputs)
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs],
            present,
            [cotangent for _, cotangent in pairs],
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return tuple(None if tensor is None else next(found) for tensor in inputs)


_library = torch.library.Library("fastgru", "DEF")
_library.define(
    "layer(str kernel, Tensor x, Tensor? h0, Tensor[] weights, int directions, Tensor? batch_sizes, SymInt batch, "
    "bool save) -> (Tensor y, Tensor h_n, Tensor saved)"
)
_library.define(
    "layer_backward(str kernel, Tensor x, Tensor? h0, Tensor[] weights, int directions, Tensor? batch_sizes, Tensor y, "
    "Tensor saved, Tensor? dy, Tensor? dh_n, bool[] wanted) -> Tensor[]"
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
    batch: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if batch_sizes is not None:  # a tracer could not look at its values
        problem = reference.why_not_packed(x, batch_sizes)
        if problem is not None:
            raise RuntimeError(problem)
    y, h_n, saved = _kernel(kernel).forward(x, h0, weights, directions, batch_sizes, save)
    return y, h_n, x.new_empty(0) if saved is None else saved


def _layer_fake(
    kernel: str,
    x: Tensor,
    h0: Maybe,
    weights: list[Tensor],
    directions: int,
    batch_sizes: Maybe,
    batch: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = weights[1].size(1)
    rows = x.size(0) if batch_sizes is not None else x.size(0) * x.size(1)
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
    y: Tensor,
    saved: Tensor,
    dy: Maybe,
    dh_n: Maybe,
    wanted: list[bool],
) -> list[Tensor]:
    """The gradients that are wanted, in order, and no others: an operator's list of tensors has no holes."""
    gradients = _kernel(kernel).backward(x, h0, weights, directions, batch_sizes, y, saved, dy, dh_n, wanted)
    return [gradient for gradient in gradients if gradient is not None]


def _layer_backward_fake(
    kernel: str,
    x: Tensor,
    h0: Maybe,
    weights: list[Tensor],
    directions: int,
    batch_sizes: Maybe,
    y: Tensor,
    saved: Tensor,
    dy: Maybe,
    dh_n: Maybe,
    wanted: list[bool],
) -> list[Tensor]:
    leaves = [x, h0, *weights]
    return [x.new_empty(leaf.shape) for leaf, want in zip(leaves, wanted, strict=True) if want and leaf is not None]


def _layer_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.kernel, x, h0, weights, ctx.directions, batch_sizes, _, _ = inputs
    y, _, saved = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(batch_sizes, y, saved, x, h0, *weights)


def _layer_gradients(ctx: Any, dy: Maybe, dh_n: Maybe, _: Maybe) -> tuple[Any, ...]:
    batch_sizes, y, saved, x, h0, *weights = ctx.saved_tensors
    leaves = [x, h0, *weights]
    wanted = [leaf is not None and leaf.requires_grad for leaf in leaves]
    found = iter(
        torch.ops.fastgru.layer_backward(
            ctx.kernel, x, h0, weights, ctx.directions, batch_sizes, y, saved, dy, dh_n, wanted
        )
    )
    dx, dh0, *dweights = (next(found) if want else None for want in wanted)
    return None, dx, dh0, dweights, None, None, None, None


def _layer_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    _, x, h0, weights, ctx.directions, batch_sizes, _, _, dy, dh_n, ctx.wanted = inputs
    ctx.save_for_backward(batch_sizes, dy, dh_n, x, h0, *weights)


def _layer_second_gradients(ctx: Any, cotangents: list[Maybe]) -> tuple[Any, ...]:
    batch_sizes, *variables = ctx.saved_tensors
    given = iter(cotangents)
    each = [next(given) if want else None for want in ctx.wanted]
    dy, dh_n, x, h0, *weights = _second_gradients(ctx.directions, batch_sizes, ctx.wanted, variables, each)
    return None, x, h0, weights, None, None, None, None, dy, dh_n, None


_library.impl("layer", _layer_op, "CompositeExplicitAutograd")
_library.impl("layer_backward", _layer_backward_op, "CompositeExplicitAutograd")
torch.library.register_fake("fastgru::layer", _layer_fake, lib=_library)
torch.library.register_fake("fastgru::layer_backward", _layer_backward_fake, lib=_library)
torch.library.register_autograd("fastgru::layer", _layer_gradients, setup_context=_layer_setup, lib=_library)
torch.library.register_autograd(
    "fastgru::layer_backward", _layer_second_gradients, setup_context=_layer_backward_setup, lib=_library
)
