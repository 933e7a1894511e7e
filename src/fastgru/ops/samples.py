"""The gradients of weights that V samples share, for each sample: one call of the kernel and products of matrices.

A kernel sums the gradients of the weights over its batch. Those of the pre-activations are had from it as the gradient
of an input: a layer whose W_ih is the identity has gx itself as its input. With them, for each sample v,

    dW_ih[v] = sum dgx^T x     dW_hh[v] = sum dgh^T h     db_ih[v] = sum dgx     db_hh[v] = sum dgh

over the steps and sequences of v, where dgh is dgx but for its rows of n, which have a factor r, and h is the state
before the step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgru.backends import Kernel
from fastgru.core.layer import Layer
from fastgru.ops.windows import is_reverse

Maybe = Tensor | None


def gradients(
    kernel: Kernel,
    count: int,
    given: Layer,
    y: Tensor,
    saved: Tensor,
    dy: Maybe,
    dh_n: Maybe,
    wanted: Sequence[bool],
) -> tuple[Maybe, ...]:
    """As `Kernel.backward`, for a batch of V = `count` folded samples: the gradients of the weights are [V, ...].

    The layer has plain or packed steps, no noise and no layer norm.
    """
    x, h0, weights = given.x, given.h0, given.weights
    dgx, dh0 = _input_gates(kernel, given, y, saved, dy, dh_n, wanted[1])
    each = given.variant.weights_per_direction
    dx: Maybe = None
    found: list[Maybe] = []
    for direction in range(given.variant.directions):
        gates = dgx[..., direction, :]  # [.., 3H]
        own = slice(direction * each, (direction + 1) * each)
        w_ih, w_hh = weights[own][:2]
        if wanted[0]:
            dx = gates @ w_ih if dx is None else dx + gates @ w_ih
        reverse = is_reverse(given.variant, direction)
        side = y.narrow(-1, direction * w_hh.size(1), w_hh.size(1))
        start = None if h0 is None else h0[direction]
        before = _states_before(side, start, reverse, given.steps.batch_sizes)
        recurrent = _recurrent_gates(gates, saved[direction, :, : given.hidden_size])  # r
        pairs = [(gates, x), (recurrent, before), (gates, None), (recurrent, None)][:each]
        found += [
            _per_sample(*pair, count) if want else None for pair, want in zip(pairs, wanted[3:][own], strict=True)
        ]
    return dx, dh0, None, *found


def _input_gates(
    kernel: Kernel, given: Layer, y: Tensor, saved: Tensor, dy: Maybe, dh_n: Maybe, want_dh0: bool
) -> tuple[Tensor, Maybe]:
    """The gradients dgx [.., D, 3H] of the input pre-activations, and of h0."""
    x, directions = given.x, given.variant.directions
    gates = given.weights[1].size(0)
    replaced = list(given.weights)
    replaced[:: given.variant.weights_per_direction] = torch.eye(
        directions * gates, dtype=x.dtype, device=x.device
    ).split(gates)
    unread = x.new_empty(*x.shape[:-1], directions * gates)  # x is needed for the gradient of W_ih alone
    wanted = [True, want_dh0, False, *(False for _ in replaced)]
    dgx: Any
    dgx, dh0, *_ = kernel.backward(given._replace(x=unread, weights=replaced), y, saved, dy, dh_n, wanted)
    return dgx.unflatten(-1, (directions, gates)), dh0


def _recurrent_gates(gates: Tensor, r: Tensor) -> Tensor:
    """The gradients dgh of the recurrent pre-activations: dgx with a factor r in the rows of n."""
    dgx_rz, dgx_n = gates.split([2 * r.size(-1), r.size(-1)], dim=-1)
    return torch.cat([dgx_rz, dgx_n * r.view_as(dgx_n)], dim=-1)


def _states_before(y: Tensor, h0: Maybe, reverse: bool, batch_sizes: Maybe) -> Tensor:
    """The state before each step of one direction, in the form of its y [.., H]; h0 [B, H]."""
    batch = y.size(1) if batch_sizes is None else int(batch_sizes[0])
    start = y.new_zeros(batch, y.size(-1)) if h0 is None else h0
    if batch_sizes is None:
        return torch.cat([y[1:], start[None]] if reverse else [start[None], y[:-1]])
    return torch.cat([y, start])[_rows_before(batch_sizes, reverse)]


def _rows_before(batch_sizes: Tensor, reverse: bool) -> Tensor:
    """For each packed row the row of the step before it; rows past the last one are those of h0."""
    first = batch_sizes.cumsum(0) - batch_sizes
    rows = int(batch_sizes.sum())
    steps = torch.arange(batch_sizes.size(0), device=batch_sizes.device).repeat_interleave(batch_sizes)  # t of each row
    sequences = torch.arange(rows, device=batch_sizes.device) - first[steps]
    before = steps + (1 if reverse else -1)
    # No sequence takes part in the steps -1 and T.
    there = torch.cat([batch_sizes, batch_sizes.new_zeros(1)])[before] > sequences
    return torch.where(there, torch.cat([first, first.new_zeros(1)])[before], rows) + sequences


def _per_sample(gates: Tensor, inputs: Maybe, count: int) -> Tensor:
    """The sum over steps and sequences of gates [.., 3H] times inputs [.., F] (None: 1) for each sample."""
    left = gates.reshape(-1, count, gates.size(-1))  # [N, V, 3H]
    if inputs is None:
        return left.sum(0)
    right = inputs.reshape(-1, count, inputs.size(-1))  # [N, V, F]
    return torch.bmm(left.permute(1, 2, 0), right.transpose(0, 1))
