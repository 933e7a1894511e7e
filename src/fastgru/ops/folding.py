"""A dimension of torch.func.vmap folded into the batch, so that V samples of B sequences are one batch of B * V.

The samples lie inside: sequence b of sample v is number b * V + v. The rows of y, of x and of what a kernel saves then
come out as views, and packed steps stay packed: their batch sizes are V times as large.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgru.core.steps import Steps


def fold_fixed(fixed: Sequence[Tensor | None], dims: Sequence[int | None], samples: int) -> list[Tensor | None] | None:
    """The tensors of a layer's steps and noise of V samples as those of one batch, None where there are no such.

    dims: where V lies in each.
    """
    batch_sizes, offsets, lengths, resets, recurrent, zoneout = fixed
    if offsets is not None or dims[0] is not None:
        return None
    rows = Steps(batch_sizes).rows_dim
    return [
        None if batch_sizes is None else batch_sizes * samples,
        None,
        fold(lengths, dims[2], samples, 0),
        fold(resets, dims[3], samples, rows),
        fold(recurrent, dims[4], samples, 1),
        fold(zoneout, dims[5], samples, rows),
    ]


def unfold_fixed(fixed: Sequence[Tensor | None], samples: int) -> tuple[list[Tensor | None], tuple[int | None, ...]]:
    """The tensors of a sample of V folded ones, and where V lies in each."""
    batch_sizes, _, lengths, resets, recurrent, zoneout = fixed
    rows = Steps(batch_sizes).rows_dim
    unfolded = [
        None if batch_sizes is None else batch_sizes // samples,
        None,
        unfold(lengths, samples, 0),
        unfold(resets, samples, rows),
        unfold(recurrent, samples, 1),
        unfold(zoneout, samples, rows),
    ]
    places = (None, None, 1, rows + 1, 2, rows + 1)
    return unfolded, tuple(None if t is None else dim for t, dim in zip(unfolded, places, strict=True))


def fold(tensor: Tensor | None, dim: int | None, samples: int, batch: int) -> Tensor | None:
    """One sample's tensor [.., B, ..], V of them along `dim` (one for all where it is None), as [.., B * V, ..].

    batch: the place of B in one sample's tensor.
    """
    if tensor is None:
        return None
    if dim is None:
        sizes = [-1] * tensor.dim()
        sizes.insert(batch + 1, samples)
        return tensor.unsqueeze(batch + 1).expand(sizes).flatten(batch, batch + 1)
    return tensor.movedim(dim, batch + 1).flatten(batch, batch + 1)


def unfold(tensor: Tensor | None, samples: int, batch: int) -> Tensor | None:
    """[.., B * V, ..] as [.., B, V, ..]: the samples come out along dimension `batch + 1`."""
    if tensor is None:
        return None
    unfolded: Tensor = tensor.unflatten(batch, (tensor.size(batch) // samples, samples))
    return unfolded


def members(arguments: Sequence[Any], dims: Sequence[Any], count: int) -> list[list[Any]]:
    """The arguments of each of `count` members: a tensor's part where it has a dimension for them, else the same."""
    return [
        [value.select(dim, i) if isinstance(dim, int) else value for value, dim in zip(arguments, dims, strict=True)]
        for i in range(count)
    ]


def stacked(results: Sequence[Sequence[Tensor | None]]) -> tuple[tuple[Tensor | None, ...], tuple[int | None, ...]]:
    """The members' results [V, ...], and where V lies in each, as a vmap rule returns them."""
    columns = [None if column[0] is None else torch.stack(column) for column in zip(*results, strict=True)]
    return tuple(columns), tuple(None if column is None else 0 for column in columns)
