"""The forms that a GRU's input may have beside `[T, B, I]`: each is brought to steps or rows, and its outputs back.

One function a form. It checks what was given, lets `run` have time-major steps or rows, and shows the results in the
form of the input. `run(x, h0, batch, steps)` gives the outputs of the layers that are wanted, and h_n.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from fastgru.core.steps import PLAIN, Steps, batch_of
from fastgru.core.torch_internals import ragged_dimension

Run = Callable[[Tensor, Tensor | None, int, Steps], tuple[list[Tensor], Tensor]]
Results = tuple[list[Any], Tensor]

_INTEGERS = (torch.int64, torch.int32)


def run_padded(
    run: Run, x: Tensor, hx: Tensor | None, batch_first: bool, lengths: Tensor | None, resets: Tensor | None
) -> Results:
    """Sequences side by side, [T, B, I] or, batch_first, [B, T, I]."""
    if hx is not None and hx.dim() != 3:
        raise RuntimeError(f"For batched 3-D input, hx should also be 3-D but got {hx.dim()}-D tensor")
    steps = PLAIN
    if lengths is not None or resets is not None:
        check_tensor("lengths", lengths, (x.size(0 if batch_first else 1),), _INTEGERS)
        check_tensor("resets", resets, x.shape[:2], (torch.bool,))
        steps = Steps(lengths=lengths, resets=resets if resets is None or not batch_first else resets.mT)
    if not batch_first:
        return run(x, hx, x.shape[1], steps)
    outputs, h_n = run(x.transpose(0, 1), hx, x.shape[0], steps)
    return [y.transpose(0, 1) for y in outputs], h_n


def lengths_of(mask: Tensor, x: Tensor, batch_first: bool) -> Tensor:
    """The lengths [B] that a mask [B, T] of right-padded sequences tells; ValueError where it has holes.

    What a mask holds is not looked at while torch compiles.
    """
    batch, steps = x.shape[:2] if batch_first else (x.size(1), x.size(0))
    check_tensor("mask", mask, (batch, steps), (torch.bool, torch.uint8, torch.int8, torch.int16, *_INTEGERS))
    real = mask != 0
    if not is_compiling() and bool((real[:, 1:] & ~real[:, :-1]).any()):
        raise ValueError(
            "mask must be true for the first steps of each sequence and false for the rest, and here a true step "
            "follows a false one; where a sequence begins anew inside, give resets"
        )
    return real.sum(1)


def run_one(run: Run, x: Tensor, hx: Tensor | None, resets: Tensor | None) -> Results:
    """One sequence [T, I]: a batch of one."""
    if hx is not None:
        if hx.dim() != 2:
            raise RuntimeError(f"For unbatched 2-D input, hx should also be 2-D but got {hx.dim()}-D tensor")
        hx = hx.unsqueeze(1)
    check_tensor("resets", resets, x.shape[:1], (torch.bool,))
    steps = PLAIN if resets is None else Steps(resets=resets.unsqueeze(1))
    outputs, h_n = run(x.unsqueeze(1), hx, 1, steps)
    return [y.squeeze(1) for y in outputs], h_n.squeeze(1)


def run_concatenated(run: Run, x: Tensor, hx: Tensor | None, cu_seqlens: Tensor, resets: Tensor | None) -> Results:
    """Sequences one after the other, [N, I]."""
    if x.dim() != 2:
        raise ValueError(f"with cu_seqlens the input must be [N, I], got {[*x.shape]}")
    _check_kind("cu_seqlens", cu_seqlens)
    if cu_seqlens.dim() != 1 or cu_seqlens.size(0) == 0 or cu_seqlens.dtype not in _INTEGERS:
        raise ValueError(f"cu_seqlens must be [B + 1] int64 or int32, got {_described(cu_seqlens)}")
    check_tensor("resets", resets, x.shape[:1], (torch.bool,))
    return run(x, hx, cu_seqlens.size(0) - 1, Steps(offsets=cu_seqlens, resets=resets))


def run_nested(run: Run, x: Tensor, hx: Tensor | None) -> Results:
    """A jagged nested tensor [B, *, I]: sequences one after the other."""
    if x.layout is not torch.jagged or x.dim() != 3 or ragged_dimension(x) != 1:
        raise ValueError("a nested input must be [B, *, I] in layout torch.jagged, its second dimension ragged")
    if x.lengths() is not None:  # type: ignore[attr-defined]
        raise ValueError("a nested input must have no holes; call contiguous() on it")
    offsets = x.offsets()  # type: ignore[attr-defined]
    outputs, h_n = run(x.values(), hx, offsets.size(0) - 1, Steps(offsets=offsets))
    return [torch.nested.nested_tensor_from_jagged(y, offsets) for y in outputs], h_n


def run_packed(
    run: Run, packed: PackedSequence, hx: Tensor | None, states_shape: Callable[..., Sequence[int]]
) -> Results:
    """torch's PackedSequence. states_shape(B): the shape of hx."""
    x, batch_sizes, order, places = packed
    compiling = is_compiling()  # a compiler knows a batch by a tensor's size, not by its value
    if compiling and hx is None and order is not None:
        hx = x.new_zeros(states_shape(order.size(0)))
    h0 = hx if hx is None or order is None else hx.index_select(1, order)
    steps = Steps(batch_sizes)
    batch = h0.size(1) if compiling and h0 is not None else batch_of(steps, x)
    outputs, h_n = run(x, h0, batch, steps)
    h_n = h_n if places is None else h_n.index_select(1, places)
    return [PackedSequence(y, batch_sizes, order, places) for y in outputs], h_n


def refuse_beside(what: str, **others: Tensor | None) -> None:
    """Raise ValueError where an argument is given that says what the input itself says already."""
    for name, given in others.items():
        if given is not None:
            raise ValueError(f"{name} cannot be given together with {what}; leave one of them out")


def check_tensor(name: str, given: Tensor | None, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    """Raise ValueError where a tensor that is given has not this shape and one of these dtypes."""
    if given is None:
        return
    _check_kind(name, given)
    if given.shape != shape or given.dtype not in dtypes:
        kinds = " or ".join(str(dtype).replace("torch.", "") for dtype in dtypes)
        raise ValueError(f"{name} must be {[*shape]} {kinds} for this input, got {_described(given)}")


def _check_kind(name: str, given: object) -> None:
    if not isinstance(given, Tensor):
        raise TypeError(f"{name} must be a tensor, got a {type(given).__name__}; torch.tensor({name}) makes one of it")


def _described(tensor: Tensor) -> str:
    return f"{[*tensor.shape]} {tensor.dtype}".replace("torch.", "")
