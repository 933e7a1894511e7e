"""A dimension of torch.func.vmap folded into the batch, so that V samples of B sequences are one batch of B * V.

The samples lie inside: sequence b of sample v is number b * V + v. The rows of y, of x and of what a kernel saves then
come out as views, and packed steps stay packed: their batch sizes are V times as large.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgru.steps import Steps


def fold_steps(steps: Steps, dims: Sequence[int | None], samples: int) -> Steps | None:
    """The steps of V samples as those of one batch; dims: where V lies in each tensor. None where there are no such."""
    if steps.offsets is not None or dims[0] is not None:
        return None
    return Steps(
        batch_sizes=None if steps.batch_sizes is None else steps.batch_sizes * samples,
        lengths=fold(steps.lengths, dims[2], samples, 0),
        resets=fold(steps.resets, dims[3], samples, steps.rows_dim),
    )


def unfold_steps(steps: Steps, samples: int) -> tuple[Steps, tuple[int | None, int | None]]:
    """The steps of a sample of V folded ones, and where V lies in its lengths and its resets."""
    rows = steps.rows_dim
    unfolded = Steps(
        batch_sizes=None if steps.batch_sizes is None else steps.batch_sizes // samples,
        lengths=unfold(steps.lengths, samples, 0),
        resets=unfold(steps.resets, samples, rows),
    )
    return unfolded, (None if steps.lengths is None else 1, None if steps.resets is None else rows + 1)


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
