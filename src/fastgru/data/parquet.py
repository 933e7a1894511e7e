"""Parquet shards that need not fit into memory: which files, one schema, and row ranges that are read alone."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fastgru.common.errors import InputError, reason_of


@dataclass(frozen=True)
class RowRange:
    """The rows from `start` to before `stop` of the Parquet file at `path`."""

    path: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def find_parquet(source: str) -> list[str]:
    """Give the files of `source`, sorted: a Parquet file, a folder (with those below it), or a pattern with * or ?.

    InputError where there is none. Hidden files, and those whose name starts with _, are left out, as others do.
    """
    path = Path(source)
    if path.is_dir():
        found = [str(file) for file in path.rglob("*.parquet") if not _hidden(file.relative_to(path))]
    elif path.is_file():
        found = [source]
    else:
        found = [file for file in glob.glob(source, recursive=True) if Path(file).is_file()]
    if not found:
        raise InputError(f"{source}: expected a Parquet file, a folder or a pattern of them, and there is none")
    return sorted(found)


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def read_schema(files: Sequence[str], columns: Sequence[str] = ()) -> pa.Schema:
    """Give the schema that all `files` have.

    InputError for a file that is no Parquet, for one whose columns differ from the first one's, and where one of
    `columns` is not there.
    """
    schema: pa.Schema | None = None
    for file in files:
        found = _open(file).schema_arrow
        schema = schema or found
        if not found.equals(schema):
            raise InputError(f"{file}: its columns differ from those of {files[0]}: all shards must have the same")
    assert schema is not None
    for column in columns:
        if column not in schema.names:
            there = ", ".join(map(repr, schema.names))
            raise InputError(f"{files[0]}: there is no column {column!r}; the columns are: {there}")
    return schema


def cut(files: Sequence[str], rows: int) -> list[RowRange]:
    """Cut `files` into row ranges of at most `rows` rows, in order; a file without a row gives none."""
    found = []
    for file in files:
        total = _open(file).metadata.num_rows
        bounds = [*range(0, total, rows), total]
        found += [RowRange(file, start, stop) for start, stop in pairwise(bounds)]
    return found


def whole(files: Sequence[str]) -> list[RowRange]:
    """Give each of `files` as one range."""
    return [RowRange(file, 0, _open(file).metadata.num_rows) for file in files]


def cut_groups(files: Sequence[str], parts: int, least: int) -> list[RowRange]:
    """Cut each row group of `files` into at most `parts` row ranges of at least `least` rows, as far as it has them."""
    found = []
    for file in files:
        metadata = _open(file).metadata
        first = 0
        for group in range(metadata.num_row_groups):
            end = first + metadata.row_group(group).num_rows
            bounds = [*range(first, end, max(least, -(-(end - first) // parts))), end]
            found += [RowRange(file, start, stop) for start, stop in pairwise(bounds)]
            first = end
    return found


def read(row_range: RowRange, batch_rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Read the rows of `row_range` in order, at most `batch_rows` at a time; all columns, or those named.

    Only row groups with rows of the range are read, and those page by page: memory holds a batch, not a group.
    """
    file = _open(row_range.path)
    groups, skipped = _groups(file.metadata, row_range)
    left = len(row_range)
    try:
        for batch in file.iter_batches(batch_rows, row_groups=groups, columns=columns):
            taken = batch.slice(min(skipped, len(batch)), left)
            skipped = max(0, skipped - len(batch))
            left -= len(taken)
            if len(taken):
                yield taken
            if not left:
                return
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{row_range.path} cannot be read: {reason_of(error)}") from error


def _groups(metadata: pq.FileMetaData, row_range: RowRange) -> tuple[list[int], int]:
    """Give the row groups with rows of `row_range`, and how many rows lie before it in the first of them."""
    groups: list[int] = []
    first = skipped = 0
    for group in range(metadata.num_row_groups):
        end = first + metadata.row_group(group).num_rows
        if first < row_range.stop and end > row_range.start:
            if not groups:
                skipped = row_range.start - first
            groups.append(group)
        first = end
    return groups, skipped


def _open(path: str) -> pq.ParquetFile:
    try:
        # A buffer of its own for each column: without it a whole column of a row group is read at once.
        return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {reason_of(error)}") from error
