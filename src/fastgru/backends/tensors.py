"""Which tensors kernels take: plain dense ones of one dtype, on one kind of device, of the stack's shapes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.compiler import is_compiling

from fastgru.core.stack import Stack
from fastgru.core.torch_internals import FakeTensor, are_transforms_active, count_dispatch_modes

_PLAIN = frozenset((Tensor, torch.nn.Parameter))
_TRACED = _PLAIN | {FakeTensor}  # what torch.export and make_fx trace with


def is_written_down() -> bool:
    """Whether a compiler or a dispatch mode looks on."""
    return is_compiling() or count_dispatch_modes() > 0


def is_plain_on_cpu(tensor: Tensor) -> bool:
    """Whether it is torch's own tensor in this machine's memory."""
    return type(tensor) in _PLAIN and tensor.is_cpu


def why_not_tensors(
    stack: Stack,
    x: Tensor,
    h0: Tensor | None,
    weights: Sequence[Tensor],
    dtypes: dict[torch.dtype, str],
    is_at_home: Callable[[Tensor], bool],
    home: str,
) -> str | None:
    """Why kernels do not take these tensors, in words; None where they do, once traced or transformed.

    dtypes: those that they take, and how they are called; home: where they run, in words.
    """
    dtype = x.dtype
    if dtype not in dtypes:
        *names, last = dict.fromkeys(dtypes.values())
        return f"its kernels take {', '.join(names)} and {last}, not {dtype}".replace("torch.", "")
    plain = _TRACED if is_written_down() else _PLAIN
    for tensor in (x, *weights) if h0 is None else (x, h0, *weights):
        if type(tensor) not in plain:  # which need not know any of torch's functions, `layout` among them
            return f"its kernels take plain dense tensors, not {type(tensor).__name__}"
        if tensor.layout is not torch.strided:
            return f"its kernels take plain dense tensors, not {type(tensor).__name__} ({tensor.layout})"
        if not is_at_home(tensor):
            return f"its kernels run on {home}, not on {tensor.device}"
        if tensor.dtype is not dtype:
            return f"its kernels take one dtype, not {dtype} and {tensor.dtype}".replace("torch.", "")
    if [*map(_shape, weights)] != [*stack.shapes]:
        return f"its kernels take weights of {[*stack.shapes]}, not {[*map(_shape, weights)]}"
    if is_compiling() and are_transforms_active():
        return "a torch.func transform is being compiled"
    return None


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
