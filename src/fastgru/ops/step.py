"""One step without gradients, in one native call: at I = H = 128 the kernel takes 3 us, the way through `ops.gru` 12.

Nothing is kept from step to step, but of frozen layers: the native module looks at the address, shape and dtype of
every weight again, so one that was written to, replaced or moved is never stale. What a step cannot serve, it leaves to
`ops.gru`.
"""

from typing import Any

import torch
from torch import Tensor

from fastgru.backends.cpu import CELL_STEP, STEP
from fastgru.core.torch_internals import any_requires_grad, is_plain


def step(
    layers: int, keep: float, x: Tensor, state: Tensor | None, weights: list[Tensor], frozen: list[Any] | None
) -> tuple[Tensor, Tensor] | None:
    """y and the next state of a stack's forward direction; None, with nothing done, where another way must be taken.

    x [I], [B, I] or [1, B, I]; state [L, H] beside [I], otherwise [L, B, H], or None: zeros; y in the form of x; keep
    as in `Variant`; frozen: each layer's PackedWeights, where they trust the weights. It serves float32 and float64 on
    a CPU and B up to 2, beyond which packed weights are faster; of frozen ones it has them, and serves B up to 64.
    Raises RuntimeError where the memory of one of the tensors was freed, or weights changed that are frozen.
    """
    if STEP is None or not is_plain() or (torch.is_grad_enabled() and any_requires_grad(x, state, *weights)):
        return None
    found: tuple[Tensor, Tensor] | None = STEP(x, state, weights, layers, keep, frozen)
    return found


def cell_step(
    keep: float, x: Tensor, h: Tensor | None, weights: list[Tensor], frozen: list[Any] | None
) -> Tensor | None:
    """As `step`: the next h [B, H] or [H] of a cell."""
    if CELL_STEP is None or not is_plain() or (torch.is_grad_enabled() and any_requires_grad(x, h, *weights)):
        return None
    found: Tensor | None = CELL_STEP(x, h, weights, keep, frozen)
    return found
