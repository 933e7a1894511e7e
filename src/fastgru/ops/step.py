"""One step without gradients, in one native call: at I = H = 128 the kernel takes 3 us, the way through `ops.gru` 12.

Nothing is kept from step to step: the native module looks at the address, shape and dtype of every weight again, so one
that was written to, replaced or moved is never stale. What a step cannot serve, it leaves to `ops.gru`.
"""

from collections.abc import Sequence

from torch import Tensor, is_grad_enabled
from torch._C import _are_functorch_transforms_active, _is_any_autocast_enabled
from torch.autograd import forward_ad

from fastgru.backends.cpu import CELL_STEP, STEP
from fastgru.ops.library import is_traced


def step(
    layers: int, keep: float, x: Tensor, state: Tensor | None, weights: list[Tensor]
) -> tuple[Tensor, Tensor] | None:
    """y and the next state of a stack's forward direction; None, with nothing done, where another way must be taken.

    x [I], [B, I] or [1, B, I]; state [L, H] beside [I], otherwise [L, B, H], or None: zeros; y in the form of x; keep
    as in `Variant`. It serves B up to 2, beyond which packed weights are faster, and float32 and float64 on a CPU.
    """
    if STEP is None or not _is_plain_mode() or (is_grad_enabled() and _wants_gradient(x, state, weights)):
        return None
    found: tuple[Tensor, Tensor] | None = STEP(x, state, weights, layers, keep)
    return found


def cell_step(x: Tensor, h: Tensor | None, weights: list[Tensor]) -> Tensor | None:
    """As `step`: the next h [B, H] or [H] of a cell."""
    if CELL_STEP is None or not _is_plain_mode() or (is_grad_enabled() and _wants_gradient(x, h, weights)):
        return None
    found: Tensor | None = CELL_STEP(x, h, weights)
    return found


def _is_plain_mode() -> bool:
    """Whether nobody traces, transforms, casts or differentiates forwards."""
    return not (
        is_traced()
        or _are_functorch_transforms_active()
        or _is_any_autocast_enabled()
        or forward_ad._current_level >= 0
    )


def _wants_gradient(x: Tensor, state: Tensor | None, weights: Sequence[Tensor]) -> bool:
    if x.requires_grad or (state is not None and state.requires_grad):
        return True
    return any(weight.requires_grad for weight in weights)
