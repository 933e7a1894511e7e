"""Where the steps of each sequence lie among the rows of a layer's x: one form for padded, packed and concatenated."""

from typing import NamedTuple

import torch
from torch import Tensor

from fastgru.core import reference
from fastgru.core.layer import Layer


class Rows(NamedTuple):
    """Step t of sequence b is row first[b] + t * step, or first[b] + starts[t].

    order, first, lengths [B] int64, by falling length: the sequences' numbers, their first rows, their steps.
    starts [T] int64 or None; total: N, the rows; real [N] bool: which of them are steps, None where all are.
    """

    order: Tensor
    first: Tensor
    lengths: Tensor
    starts: Tensor | None
    step: int
    total: int
    real: Tensor | None


def rows_of(given: Layer) -> Rows:
    """The rows of a layer, all on its device and without waiting for it.

    Raises ValueError for lengths or offsets that cannot be, on a GPU as an assertion of the device; RuntimeError in
    torch's words where there is no step.
    """
    x, steps = given.x, given.steps
    if steps.batch_sizes is not None:
        return _packed(x, steps.batch_sizes)
    if steps.offsets is not None:
        offsets = steps.offsets.to(x.device, torch.int64)
        _check_offsets(offsets, x.size(0))
        lengths, order = offsets.diff().sort(descending=True, stable=True)
        return Rows(order, offsets[order], lengths, None, 1, x.size(0), None)
    length, batch = x.shape[:2]
    if length == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    order = torch.arange(batch, device=x.device)
    if steps.lengths is None:
        return Rows(order, order, torch.full_like(order, length), None, batch, length * batch, None)
    lengths = steps.lengths.to(x.device, torch.int64)
    _check_lengths(lengths, length)
    real = (torch.arange(length, device=x.device)[:, None] < lengths).flatten()
    lengths, order = lengths.sort(descending=True, stable=True)
    return Rows(order, order, lengths, None, batch, length * batch, real)


def _packed(x: Tensor, batch_sizes: Tensor) -> Rows:
    """batch_sizes are on the CPU: one copy goes over."""
    batch = int(batch_sizes[0])
    if x.is_cuda:
        batch_sizes = batch_sizes.pin_memory().to(x.device, non_blocking=True)
    order = torch.arange(batch, device=x.device)
    shorter = torch.searchsorted(batch_sizes.flip(0), order, right=True)
    starts = batch_sizes.cumsum(0) - batch_sizes
    return Rows(order, order, batch_sizes.size(0) - shorter, starts, 0, x.size(0), None)


def _check_lengths(lengths: Tensor, most: int) -> None:
    if lengths.is_cuda:
        torch._assert_async(((lengths >= 0) & (lengths <= most)).all(), f"lengths must be from 0 to T={most}")
    else:
        reference.check_lengths(lengths, most)


def _check_offsets(offsets: Tensor, rows: int) -> None:
    if offsets.is_cuda:
        fits = (offsets.diff() >= 0).all() & (offsets[0] == 0) & (offsets[-1] == rows)
        torch._assert_async(fits, f"offsets must go from 0 to the {rows} rows of the input and never fall")
    else:
        reference.check_offsets(offsets, rows)
