"""Tensors that end where memory begins which nobody may touch: who reads or writes past one dies at once."""

import ctypes
import mmap
from random import Random

import torch
from torch import Tensor

_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def guarded(rng: Random, tensor: Tensor) -> Tensor:
    """A copy with the same strides, whose memory ends (one time in four: begins) at a page that must not be touched.

    What has no memory of its own that could be copied comes back as it is.
    """
    extent = _extent(tensor)
    if extent == 0:
        return tensor
    own = torch.as_strided(_plain(tensor), (extent,), (1,))
    copied = _pages(extent * tensor.element_size(), tensor.dtype, at_end=rng.random() < 0.75)
    copied.copy_(own)
    copied = torch.as_strided(copied, tensor.shape, tensor.stride())
    return torch._neg_view(copied) if tensor.is_neg() else copied


def has_memory(tensor: Tensor) -> bool:
    """Whether it is a dense tensor on the CPU, all of whose elements lie in its storage."""
    if tensor.layout is not torch.strided or not tensor.is_cpu or tensor._is_zerotensor():
        return False
    end = (tensor.storage_offset() + _elements(tensor)) * tensor.element_size()
    return tensor.untyped_storage().nbytes() >= end


def _extent(tensor: Tensor) -> int:
    """How many elements lie from its first to its last; 0 where they cannot be copied."""
    return _elements(tensor) if has_memory(tensor) and not tensor.is_conj() else 0


def _elements(tensor: Tensor) -> int:
    if tensor.numel() == 0:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _plain(tensor: Tensor) -> Tensor:
    """The numbers in memory: without a pending negation."""
    return torch._neg_view(tensor.detach()) if tensor.is_neg() else tensor.detach()


def _pages(size: int, dtype: torch.dtype, at_end: bool) -> Tensor:
    """`size` bytes between two pages that must not be touched, next to the second or to the first."""
    length = -(-size // _PAGE) * _PAGE
    memory = mmap.mmap(-1, length + 2 * _PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (address, address + _PAGE + length):
        if _libc.mprotect(page, _PAGE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect failed")
    offset = _PAGE + (length - size if at_end else 0)
    return torch.frombuffer(memory, dtype=dtype, count=size // dtype.itemsize, offset=offset)
