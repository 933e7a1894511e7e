"""Single steps of which gradients are wanted: a loop over a cell, `gru.step`, or a GRU over one step.

A step is one native call forward and one back, and the gradients of the weights are no part of it. All steps of a
graph use their weights through one token, made by one node (`_WeightsNode`). A step's backward leaves what the weights'
gradients are made of with the backward pass that runs, and gives the token no gradient; when torch's engine comes to
the node, all steps are done, and the gradients are one product: a step would read and write all of them, which takes
longer than the rest of it.

What keeps that right:

- What steps leave belongs to (weights in this graph, backward pass) and is copied: nothing that is written to a saved
  tensor afterwards is seen. `_Guard` ends with the pass, and drops what a failed one has left.
- The engine is asked whether the pass will come to the node at all: the gradients of inputs alone leave nothing.
- A `StepGraph` serves while all weights are the same tensors, want gradients as they did, and the matrices were not
  written to; each step's backward looks at that again, and raises what torch would.
- Only the nodes of its steps hold it: it goes with the graph, and nothing holds the graph.
- `fully_shard` gives away a module's gradients as soon as those of its inputs are there: under it each step takes the
  weights themselves.
- The first step of a graph takes the weights themselves: a single step a backward pass pays for none of this.
- Where backward is differentiated, traced, batched or called by hand, the definition's gradients go through the token.
"""

from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from fastgru.backends.cpu import StepRecords, StepWeights
from fastgru.core import noise
from fastgru.core.noise import NO_NOISE, Noise
from fastgru.core.stack import Stack
from fastgru.core.steps import PLAIN
from fastgru.core.torch_internals import (
    any_requires_grad,
    are_last_inputs_wanted,
    at_end_of_backward,
    backward_pass,
    direct_apply,
    is_fully_sharded,
    is_plain,
    will_execute,
)
from fastgru.ops import definition
from fastgru.ops.step_gradients import is_seen, step_gradients

Maybe = Tensor | None

_lock = Lock()


class StepGraph:
    """What the steps of one graph share: their weights, the token, and what backward passes have left.

    used: the weights as all of these steps found them; is_new: whether no step has had them yet; variant, weights:
    what a compiled backward can reach of it.
    """

    __slots__ = ("__weakref__", "is_new", "node", "passes", "token", "used", "variant", "weights")

    def __init__(self, stack: Stack, weights: list[Tensor], is_cell: bool) -> None:
        self.used = StepWeights(stack.variant, stack.spec.num_layers, weights, is_cell)
        self.variant, self.weights = stack.variant, list(weights)
        self.is_new: bool = self.used.wants_any
        self.passes: dict[int, Any] = {}  # StepRecords, or None where the pass does not come to the node
        self.token: Maybe = None
        self.node: Any = None

    def for_next_step(self) -> Maybe:
        """The token; None where no weight wants a gradient."""
        if self.token is None and self.used.wants_any:
            with _lock:  # of two threads, one makes it
                if self.token is None:
                    token: Tensor = _WeightsNode.apply(self.passes, *self.weights)  # type: ignore[no-untyped-call]
                    self.node = token.grad_fn
                    self.token = token
        return self.token

    def records(self) -> Any:
        """Where the backward pass that runs now collects what its steps leave; None where nothing is wanted of it."""
        number = backward_pass()
        if number in self.passes:
            return self.passes[number]
        wanted = self.node is not None and will_execute(self.node)
        found = self.passes[number] = StepRecords(self.used) if wanted else None
        at_end_of_backward(_Guard(self.passes, number))
        return found


_graphs: WeakValueDictionary[int, StepGraph] = WeakValueDictionary()  # by the first W_hh


def _graph_of(stack: Stack, weights: list[Tensor], is_cell: bool) -> StepGraph:
    """The living graph whose steps use these weights, or a new one."""
    key = id(weights[1])
    found = _graphs.get(key)
    if found is None or not found.used.fits(stack.variant, weights, is_cell):
        found = _graphs[key] = StepGraph(stack, weights, is_cell)
    return found


class _Guard:
    """Belongs to a backward pass and ends with it, however it ends: what was left for it is dropped."""

    __slots__ = ("number", "passes")

    def __init__(self, passes: dict[int, Any], number: int) -> None:
        self.passes, self.number = passes, number

    def __call__(self) -> None:
        """Do nothing at the end of a pass that succeeds."""

    def __del__(self) -> None:
        self.passes.pop(self.number, None)


class _WeightsNode(Function):
    """From a stack's weights to a token of as many numbers, without memory of its own."""

    @staticmethod
    def forward(ctx: Any, passes: dict[int, Any], *weights: Tensor) -> Tensor:
        """Make the token."""
        ctx.passes, ctx.shapes, ctx.sizes = passes, [w.shape for w in weights], [w.numel() for w in weights]
        ctx.set_materialize_grads(False)
        return weights[0].new_empty_strided((sum(ctx.sizes),), (0,))

    @staticmethod
    def backward(ctx: Any, whole: Maybe) -> tuple[Maybe, ...]:
        """The gradients of what the steps of this pass left, and of the token: of steps that others differentiated."""
        records = ctx.passes.get(backward_pass())
        found: list[Maybe] = [None] * len(ctx.shapes) if records is None else records.finish()
        if whole is not None:
            parts = [part.view(shape) for part, shape in zip(whole.split(ctx.sizes), ctx.shapes, strict=True)]
            found = [part if own is None else own + part for own, part in zip(found, parts, strict=True)]
        wanted = ctx.needs_input_grad[1:]
        return None, *(own if want else None for own, want in zip(found, wanted, strict=True))


class _Step(Function):
    """y and the next state of a step that was computed before; `own`: the weights, of the first step of a graph."""

    @staticmethod
    def forward(
        ctx: Any, graph: StepGraph, results: tuple[Any, ...], token: Maybe, x: Tensor, h: Maybe, *own: Tensor
    ) -> Any:
        """Keep what backward needs."""
        y, h_n, saved, masks = results
        ctx.graph, ctx.is_cell = graph, y is None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h, saved, *(masks or NO_NOISE))
        return h_n if y is None else (y, h_n)

    @staticmethod
    def backward(ctx: Any, *cotangents: Maybe) -> tuple[Maybe, ...]:
        """The gradients of x and the state; those of the weights where this step was the first."""
        dy, dh_n = (None, *cotangents) if ctx.is_cell else cotangents
        needs = ctx.needs_input_grad
        if dy is None and dh_n is None:
            return (None,) * len(needs)
        if _is_elsewhere(dy, dh_n):
            return _defined(ctx, dy, dh_n)
        x, h, saved, *masks = ctx.saved_tensors
        graph, wanted = ctx.graph, needs[_X:]
        records = None if len(needs) > _FIXED else graph.records()
        threads = torch.get_num_threads()
        return None, None, None, *graph.used.backward(x, h, *masks, saved, dy, dh_n, wanted, records, threads)


def _defined(ctx: Any, dy: Maybe, dh_n: Maybe) -> tuple[Maybe, ...]:
    """The gradients of `_Step`, to be differentiated again; the weights' are the token's."""
    graph, needs = ctx.graph, ctx.needs_input_grad
    x, h, saved, *masks = ctx.saved_tensors
    if not is_compiling():  # a compiled backward cannot call the native module
        graph.used.check()
    leaves, has_own = [x, h, *graph.weights], len(needs) > _FIXED
    is_one = len(graph.weights) == graph.variant.directions * graph.variant.weights_per_direction
    if is_one and not is_seen(dy, dh_n):
        wanted = [*needs[_X:_FIXED], *_are_weights_wanted(ctx)]
        dx, dh, *dw = step_gradients(graph.used, graph.variant, Noise(*masks), saved, leaves, wanted, (dy, dh_n))
    else:
        wanted = [*needs[_X:_FIXED], *(weight.requires_grad for weight in graph.weights)]
        dx, dh, *dw = definition.step_gradients(graph.variant, ctx.is_cell, Noise(*masks), leaves, wanted, (dy, dh_n))
    if has_own or graph.token is None or not any(wanted[2:]):
        return None, None, None, dx, dh, *dw[: len(needs) - _FIXED]
    parts = [
        weight.new_zeros(weight.numel()) if d is None else d.reshape(-1)
        for weight, d in zip(graph.weights, dw, strict=True)
    ]
    return None, None, torch.cat(parts), dx, dh


def _are_weights_wanted(ctx: Any) -> Sequence[bool]:
    """For each of the graph's weights, whether the backward pass that runs has a use for its gradient."""
    graph = ctx.graph
    if len(ctx.needs_input_grad) > _FIXED:
        return are_last_inputs_wanted(ctx, len(graph.weights))
    is_wanted = graph.node is not None and (backward_pass() < 0 or will_execute(graph.node))
    return [is_wanted and weight.requires_grad for weight in graph.weights]


_X, _FIXED = 3, 5  # x and h among the arguments of _Step.forward; the weights come after them
_apply: Any = direct_apply(_Step)


def _is_elsewhere(dy: Maybe, dh_n: Maybe) -> bool:
    """Whether a backward pass is differentiated, transformed, written down or no pass at all."""
    return torch.is_grad_enabled() or backward_pass() < 0 or is_seen(dy, dh_n)  # below 0 the node was called by hand


def trained_step(stack: Stack, x: Tensor, state: Maybe, weights: list[Tensor], is_cell: bool = False) -> Any:
    """y and the next state of a stack, for a cell the next state, where a gradient of it is wanted.

    x [I], [B, I] or [1, B, I]; state [L*D, B, H], [L*D, H] beside [I], for a cell [B, H] or [H], or None: zeros.
    None, with nothing done, where another way must be taken: where no gradient is wanted, for more than 512 sequences,
    for tensors that are not plain ones of one dtype (float32 or float64) on the CPU, and for what
    `Stack.trains_steps` says no of. Raises RuntimeError where the memory of one of the tensors was freed.
    """
    if StepWeights is None or not (stack.trains_steps and torch.is_grad_enabled() and is_plain()):
        return None
    if not any_requires_grad(x, state, *weights):
        return None
    graph = _graph_of(stack, weights, is_cell)
    results = graph.used.forward(
        x, state, partial(_draw, stack, x, is_cell) if stack.is_noisy else None, torch.get_num_threads()
    )
    if results is None:
        return None
    if graph.is_new or is_fully_sharded():
        graph.is_new = False
        return _apply(graph, results, None, x, state, *weights)
    return _apply(graph, results, graph.for_next_step(), x, state)


def _draw(stack: Stack, x: Tensor, is_cell: bool) -> Noise:
    """The masks of a single layer's step, in the forms of its state and of its output."""
    hidden = stack.shapes[1][1]
    recurrent, zoneout = noise.draw(stack.spec, hidden, x.detach().reshape(1, -1, x.size(-1)), PLAIN)
    rows = x.shape[:-1] if is_cell else (stack.variant.directions, *x.shape[-2:-1])
    return Noise(
        None if recurrent is None else recurrent.reshape(*rows, hidden),
        None if zoneout is None else zoneout.reshape(*x.shape[:-1], -1),
    )
