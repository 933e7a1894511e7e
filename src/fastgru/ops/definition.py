"""Gradients by the definition: the reference differentiated by torch, in every mode that torch has.

Slow, and right everywhere: these are what the kernels' own gradients go to where they are differentiated again, or
where a mode of torch gives them tensors that kernels do not take.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgru.core import reference
from fastgru.core.layer import FIXED, Layer, layer_of
from fastgru.core.noise import Noise
from fastgru.core.spec import Variant
from fastgru.core.steps import PLAIN
from fastgru.ops.folding import fold, unfold, unfold_fixed

Maybe = Tensor | None


def gradients(given: Layer, wanted: Sequence[bool], dy: Maybe, dh_n: Maybe) -> tuple[Maybe, ...]:
    """The gradients of one layer's leaves, None where not wanted.

    dy, dh_n [D, B, H]: the cotangents of its outputs, None for zeros. All results can be differentiated again, with
    respect to every tensor given.
    """
    return _pullback(lambda *leaves: _layer(given, leaves), given.leaves, wanted, (dy, dh_n))


def sample_gradients(given: Layer, wanted: Sequence[bool], dy: Maybe, dh_n: Maybe, samples: int) -> tuple[Maybe, ...]:
    """The same for V = `samples` samples folded into the batch; those of initial and the weights [V, ...] for each."""
    rows = given.steps.rows_dim
    fixed, fixed_dims = unfold_fixed(given.tensors[:FIXED], samples)
    own = [(dy, rows), (dh_n, 1), (given.x, rows), (given.h0, 1)]
    varying = [unfold(tensor, samples, batch) for tensor, batch in own]
    dims = [None if tensor is None else batch + 1 for tensor, batch in own]

    def one(dy: Maybe, dh_n: Maybe, x: Maybe, h0: Maybe, *fixed: Maybe) -> tuple[Tensor, ...]:
        sample = layer_of(given.variant, [*fixed, x, h0, given.initial, *given.weights])
        return tuple(gradient for gradient in gradients(sample, wanted, dy, dh_n) if gradient is not None)

    found = iter(torch.func.vmap(one, in_dims=(*dims, *fixed_dims))(*varying, *fixed))
    there = [want and leaf is not None for want, leaf in zip(wanted, given.leaves, strict=True)]
    dx, dh0, *shared = (next(found) if is_there else None for is_there in there)
    return fold(dx, 0, samples, rows), fold(dh0, 0, samples, 1), *shared


def step_gradients(
    variant: Variant,
    is_cell: bool,
    noise: Noise,
    leaves: Sequence[Maybe],
    wanted: Sequence[bool],
    cotangents: tuple[Maybe, Maybe],
) -> tuple[Maybe, ...]:
    """The gradients of one step of a stack, whose layers are of one size: of x, the state and the weights.

    leaves: these; cotangents: those of y (None for a cell) and of the next state; noise: of a single layer. The forms
    are those of `fastgru.ops.step_training.trained_step`.
    """

    def step(x: Tensor, state: Maybe, *weights: Tensor) -> tuple[Tensor, Tensor]:
        hidden, count = weights[1].size(1), variant.directions * variant.weights_per_direction
        y, firsts = x.reshape(1, -1, x.size(-1)), range(0, len(weights), count)
        form = (variant.directions, y.size(1), hidden)
        states: Sequence[Maybe] = [None] * len(firsts) if state is None else state.reshape(-1, *form).unbind()
        recurrent = None if noise.recurrent is None else noise.recurrent.reshape(form)
        zoneout = None if noise.zoneout is None else noise.zoneout.reshape(1, y.size(1), -1)
        found = []
        for h0, first in zip(states, firsts, strict=True):
            given = Layer(variant, PLAIN, Noise(recurrent, zoneout), y, h0, None, weights[first : first + count])
            y, h_n = _layer(given, given.leaves)
            found.append(h_n)
        batch = x.shape[-2:-1]
        rows = batch if is_cell else (len(found) * variant.directions, *batch)
        return y.reshape(*x.shape[:-1], -1), torch.cat(found).reshape(*rows, hidden)

    return _pullback(step, leaves, wanted, cotangents)


def second_gradients(
    variant: Variant,
    fixed: Sequence[Maybe],
    samples: int | None,
    wanted: Sequence[bool],
    variables: Sequence[Maybe],
    cotangents: Sequence[Maybe],
) -> tuple[Maybe, ...]:
    """The gradients of `gradients` (of `sample_gradients` where `samples` is given) with respect to its variables.

    variables: dy, dh_n and the leaves; cotangents: one for each of the gradients, None for zeros.
    """

    def first(dy: Maybe, dh_n: Maybe, *leaves: Maybe) -> tuple[Maybe, ...]:
        given = layer_of(variant, [*fixed, *leaves])
        if samples is None:
            return gradients(given, wanted, dy, dh_n)
        return sample_gradients(given, wanted, dy, dh_n, samples)

    return _pullback(first, variables, [True] * len(variables), cotangents)


def _layer(given: Layer, leaves: Sequence[Any]) -> tuple[Tensor, Tensor]:
    with torch.autocast(given.x.device.type, enabled=False):  # what it differentiates ran outside of it
        return reference.layer(layer_of(given.variant, [*given.tensors[:FIXED], *leaves]))


def _pullback(
    function: Callable[..., tuple[Maybe, ...]],
    inputs: Sequence[Maybe],
    wanted: Sequence[bool],
    cotangents: Sequence[Maybe],
) -> tuple[Maybe, ...]:
    """The cotangents of a function's outputs pulled back to the inputs that are there and wanted, None for others."""
    chosen = [i for i, (tensor, want) in enumerate(zip(inputs, wanted, strict=True)) if want and tensor is not None]
    kept: list[int] = []

    def reduced(*values: Tensor) -> tuple[Tensor, ...]:
        """Of the tensors that are there alone: torch.func.vjp knows no None."""
        whole = list(inputs)
        for i, value in zip(chosen, values, strict=True):
            whole[i] = value
        outputs = function(*whole)
        kept[:] = [i for i, output in enumerate(outputs) if output is not None]
        return tuple(output for output in outputs if output is not None)

    outputs, pull = torch.func.vjp(  # type: ignore[misc]
        reduced, *(inputs[i] for i in chosen)
    )
    given = [cotangents[i] for i in kept]
    found = pull(tuple(torch.zeros_like(o) if c is None else c for o, c in zip(outputs, given, strict=True)))
    results: list[Maybe] = [None] * len(inputs)
    for i, gradient in zip(chosen, found, strict=True):
        results[i] = gradient
    return tuple(results)
