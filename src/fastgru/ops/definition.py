"""Gradients by the definition: the reference differentiated by torch, in every mode that torch has.

Slow, and right everywhere: these are what the kernels' own gradients go to where they are differentiated again, or
where a mode of torch gives them tensors that kernels do not take.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgru import reference
from fastgru.layer import Layer
from fastgru.noise import SILENCE
from fastgru.ops.folding import fold, unfold, unfold_steps
from fastgru.spec import Variant
from fastgru.steps import Steps

Maybe = Tensor | None


def gradients(
    directions: int,
    steps: Steps,
    wanted: Sequence[bool],
    dy: Maybe,
    dh_n: Maybe,
    leaves: Sequence[Maybe],
) -> tuple[Maybe, ...]:
    """The gradients of one layer's leaves (x, h0 and the weights), None where not wanted.

    dy, dh_n [D, B, H]: the cotangents of its outputs, None for zeros. All results can be differentiated again, with
    respect to every tensor given.
    """
    return _pullback(lambda *leaves: _layer(directions, steps, leaves), leaves, wanted, (dy, dh_n))


def sample_gradients(
    directions: int,
    steps: Steps,
    wanted: Sequence[bool],
    dy: Maybe,
    dh_n: Maybe,
    leaves: Sequence[Maybe],
    samples: int,
) -> tuple[Maybe, ...]:
    """The same on a batch of V = `samples` folded samples, and the gradients of the weights [V, ...] for each."""
    x, h0, *weights = leaves
    rows = steps.rows_dim
    own_steps, own_dims = unfold_steps(steps, samples)
    varying = [unfold(dy, samples, rows), unfold(dh_n, samples, 1), unfold(x, samples, rows), unfold(h0, samples, 1)]
    dims = [None if tensor is None else dim + 1 for tensor, dim in zip(varying, (rows, 1, rows, 1), strict=True)]

    def one(dy: Maybe, dh_n: Maybe, x: Maybe, h0: Maybe, lengths: Maybe, resets: Maybe) -> tuple[Tensor, ...]:
        own = own_steps._replace(lengths=lengths, resets=resets)
        found = gradients(directions, own, wanted, dy, dh_n, [x, h0, *weights])
        return tuple(gradient for gradient in found if gradient is not None)

    varying += [own_steps.lengths, own_steps.resets]
    given = iter(torch.func.vmap(one, in_dims=(*dims, *own_dims))(*varying))
    there = [want and leaf is not None for want, leaf in zip(wanted, leaves, strict=True)]
    dx, dh0, *dweights = (next(given) if is_there else None for is_there in there)
    return fold(dx, 0, samples, rows), fold(dh0, 0, samples, 1), *dweights


def second_gradients(
    directions: int,
    steps: Steps,
    samples: int | None,
    wanted: Sequence[bool],
    variables: Sequence[Maybe],
    cotangents: Sequence[Maybe],
) -> tuple[Maybe, ...]:
    """The gradients of `gradients` (of `sample_gradients` where `samples` is given) with respect to its variables.

    variables: dy, dh_n, x, h0 and the weights; cotangents: one for each of the gradients, None for zeros.
    """

    def first(dy: Maybe, dh_n: Maybe, *leaves: Maybe) -> tuple[Maybe, ...]:
        if samples is None:
            return gradients(directions, steps, wanted, dy, dh_n, leaves)
        return sample_gradients(directions, steps, wanted, dy, dh_n, leaves, samples)

    return _pullback(first, variables, [True] * len(variables), cotangents)


def _layer(directions: int, steps: Steps, leaves: Sequence[Any]) -> tuple[Tensor, Tensor]:
    x, h0, *weights = leaves
    variant = Variant(bias=len(weights) == 4 * directions, bidirectional=directions == 2)
    with torch.autocast(x.device.type, enabled=False):  # what it differentiates ran outside of it
        return reference.layer(Layer(variant, steps, SILENCE, x, h0, None, weights))


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
