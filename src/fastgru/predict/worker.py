"""Worker: predicts one row range after the other and writes each as one shard."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from fastgru.common.errors import InputError
from fastgru.common.files import atomic_write
from fastgru.data.parquet import RowRange, read
from fastgru.training.run_folder import task_of_run

BATCH_ROWS = 2048  # of one batch: what is in memory at a time, and enough inputs to sort by length


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; it travels to other machines as it is.

    `models`: folders or names of the models, which answer together where there are several. `column`: of the inputs.
    `options`: the task's own for `predict`.
    `prefix`: of the columns that are added. `folder`: where the shards are written, on a disk that all workers share.
    `runtime`: without torch.
    """

    models: tuple[str, ...]
    column: str
    options: Any
    prefix: str
    folder: str
    runtime: bool = False


@dataclass(frozen=True)
class Shard:
    """The rows of `row_range`, which become the output's shard number `index`."""

    index: int
    row_range: RowRange

    @property
    def name(self) -> str:
        """The file's name; the order of names is the order of rows."""
        return f"part-{self.index:06d}.parquet"


class Worker:
    """A loaded model that writes shards; on the GPU where there is one.

    A shard is written under a name of its own and then renamed. So a worker that is killed leaves nothing that counts,
    and where two have written the same shard one of them stays: its rows are there once.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.task = task_of_run(job.models[0])
        self.model = self.task.load_models(job.models, runtime=job.runtime)
        if not job.runtime:
            import torch

            self.model = self.model.to("cuda" if torch.cuda.is_available() else "cpu")

    def write(self, shard: Shard, schema: pa.Schema) -> None:
        """Predict the rows of `shard` and write them by `schema`; InputError, naming the row, for a bad input."""
        target = Path(self.job.folder) / shard.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, attempt=uuid4().hex) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            first = shard.row_range.start
            for batch in read(shard.row_range, BATCH_ROWS):
                writer.write_batch(self._extended(batch, schema, f"{shard.row_range.path}, row", first))
                first += len(batch)

    def schema(self, given: pa.Schema, row_range: RowRange) -> pa.Schema:
        """Give the output's schema: the input's columns, then one for each field of an answer but its first.

        The first row of `row_range` is predicted to see them. InputError where one of these columns is there already.
        """
        (batch,) = read(RowRange(row_range.path, row_range.start, row_range.start + 1), 1)
        (answer,) = self._answers(batch, f"{row_range.path}, row", row_range.start)
        # Hugging Face's notes list the columns, and its library refuses a file that has others.
        notes = {key: value for key, value in (given.metadata or {}).items() if key != b"huggingface"}
        schema = given.with_metadata(notes)
        for name, value in self._fields(answer).items():
            if name in given.names:
                raise InputError(f"{row_range.path} has a column {name!r} already: choose another --prefix")
            hint = get_type_hints(type(answer))[name.removeprefix(self.job.prefix)]
            schema = schema.append(pa.field(name, _arrow_type(hint, value)))
        return schema

    def _extended(self, batch: pa.RecordBatch, schema: pa.Schema, where: str, first: int) -> pa.RecordBatch:
        rows = [self._fields(answer) for answer in self._answers(batch, where, first)]
        added = [
            pa.array([row[field.name] for row in rows], field.type) for field in list(schema)[len(batch.columns) :]
        ]
        return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema)

    def _answers(self, batch: pa.RecordBatch, where: str, first: int) -> list[Any]:
        inputs = batch.column(self.job.column)
        if inputs.null_count:
            row = first + inputs.is_null().index(True).as_py() + 1
            raise InputError(f"{where} {row}: column {self.job.column!r} is empty (null)")
        try:
            return list(self.task.predict(self.model, inputs.to_pylist(), self.job.options))
        except InputError as error:
            raise InputError(f"{where}s {first + 1} to {first + len(batch)}: {error}") from error

    def _fields(self, answer: Any) -> dict[str, Any]:
        """Give an answer's columns and values: its first field is the input, which the row has already."""
        return {self.job.prefix + name: value for name, value in list(asdict(answer).items())[1:]}


def _arrow_type(hint: Any, value: Any) -> pa.DataType:
    if get_origin(hint) is dict:
        return pa.struct([(name, _arrow_type(get_args(hint)[1], None)) for name in value])
    if get_origin(hint) in (list, tuple):
        return pa.list_(_arrow_type(get_args(hint)[0], None))
    return {str: pa.string(), float: pa.float32(), int: pa.int64(), bool: pa.bool_()}[hint]
