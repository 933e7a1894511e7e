"""The same numbers in other layouts: strides, offsets, expansions, pending negations."""

from collections.abc import Callable

import torch
from torch import Tensor


def _swapped(t: Tensor) -> Tensor:
    return t.transpose(0, 1).contiguous().transpose(0, 1) if t.dim() > 1 else t


def _imaginary(t: Tensor) -> Tensor:
    if t.dtype not in (torch.float32, torch.float64):
        return torch._neg_view(-t)
    return torch.complex(torch.zeros_like(t), -t).conj().imag


KEEPING: dict[str, Callable[[Tensor], Tensor]] = {
    "dense": lambda t: t,
    "first dimensions swapped": _swapped,
    "last dimension first": lambda t: t.movedim(-1, 0).contiguous().movedim(0, -1),
    "strided": lambda t: t.repeat_interleave(2, dim=-1)[..., ::2],
    "rows of a wider tensor": lambda t: torch.cat([t, t], dim=-1)[..., : t.size(-1)],
    "every other row": lambda t: t.repeat_interleave(2, dim=0)[::2],
    "an offset in storage": lambda t: torch.cat([torch.zeros_like(t[:1]), t])[1:],
    "negated": lambda t: torch._neg_view(-t),
    "imaginary part": _imaginary,
}
CHANGING: dict[str, Callable[[Tensor], Tensor]] = {  # all the same along a dimension
    "expanded first": lambda t: t[:1].expand_as(t),
    "expanded second": lambda t: t[:, :1].expand_as(t) if t.dim() > 1 else t,
    "expanded last": lambda t: t[..., :1].expand_as(t),
}
VIEWS = KEEPING | CHANGING
