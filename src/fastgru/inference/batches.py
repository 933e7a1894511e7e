"""Rows of many lengths in batches: grouped by length, padded, and answered in the order in which they came."""

from collections.abc import Callable, Sequence, Sized
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastgru.common.errors import InputError, reason_of
from fastgru.inference.tokens import PAD_ID

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Row = TypeVar("Row", bound=Sized)
Found = TypeVar("Found")


def in_batches(rows: list[Row], batch_size: int, answer: Callable[[list[Row]], Sequence[Found]]) -> list[Found]:
    """Answer `rows`, `batch_size` at a time, those of like length together; ValueError for a size below 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    found: dict[int, Found] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found |= dict(zip(batch, answer([rows[row] for row in batch]), strict=True))
    return [found[row] for row in range(len(rows))]


def pad_ids(rows: list[list[int]]) -> tuple[Ids, Ids]:
    """Pad token ids to `ids [B, T] int64` and give their `lengths [B] int64`."""
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), lengths.max()), PAD_ID, np.int64)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row
    return ids, lengths


def pad_vectors(rows: list[Vectors]) -> tuple[Vectors, Ids]:
    """Pad sequences `[T, I]` to `x [B, T, I]` and give their `lengths [B] int64`."""
    lengths = np.array([len(row) for row in rows], np.int64)
    x = np.zeros((len(rows), lengths.max(), rows[0].shape[1]), np.float32)
    for padded, row in zip(x, rows, strict=True):
        padded[: len(row)] = row
    return x, lengths


def as_vectors(sequence: Any, number: int, input_size: int) -> Vectors:
    """Give `sequence`, the `number`-th, as an array `[T, I]` of its own; InputError where it is no such sequence."""
    try:
        row = np.asarray(sequence)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"sequence {number} is no array of numbers: {reason_of(error)}") from error
    if row.dtype.kind not in "biuf":
        raise InputError(f"sequence {number} is no array of numbers: it holds {row.dtype}")
    if row.ndim != 2 or not len(row) or row.shape[1] != input_size:
        raise InputError(f"sequence {number} must be [steps, {input_size}], one step or more, got {[*row.shape]}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and told so
        values: Vectors = np.array(row, np.float32, order="C")
    if not np.isfinite(values).all():
        raise InputError(f"sequence {number} holds numbers that are not finite")
    return values
