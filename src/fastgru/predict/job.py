"""predict_parquet: plans the shards, has an engine write those that are missing, and puts the whole in its place."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastgru.common.errors import InputError
from fastgru.common.files import atomic_write, locked
from fastgru.data.parquet import cut, find_parquet, read_schema
from fastgru.inference.folder import CONFIG, files_of, locate, read_config
from fastgru.predict.engines import ENGINES
from fastgru.predict.worker import Job, Shard, Worker

SHARD_ROWS = 16_384  # of one shard: what a killed worker has to do again, at most
PLAN = "_fastgru.json"  # readers of Parquet folders leave out what starts with _

Progress = Callable[[int, int], None]


def predict_parquet(
    model: str,
    source: str,
    out: Path,
    column: str,
    options: Any,
    *,
    engine: str = "plain",
    workers: int | None = None,
    prefix: str = "predicted_",
    ensemble: Sequence[str] = (),
    runtime: bool = False,
    shard_rows: int = SHARD_ROWS,
    progress: Progress = lambda done, total: None,
) -> int:
    """Predict every row of `source` into the folder `out`; returns how many rows there are.

    `model`: folder or name of a model; `ensemble`: of others, which answer together with it. `source`: a Parquet file,
    a folder of them or a pattern. `column`: of the inputs. `options`: the task's own for `predict`.
    `runtime`: answer by `fastgru.runtime`, without torch. `progress(done, total)` is called with rows.

    `out` gets a file for each `shard_rows` rows at most, in the order of the rows: all columns of `source` and, behind
    `prefix`, the fields of the model's answer. It appears whole, at the end. Until then the shards lie in a hidden
    folder beside it, from which the same call goes on after whatever stopped it.
    InputError for bad input, and then nothing is left.

    >>> import pandas
    >>> from pathlib import Path
    >>> from fastgru.predict import predict_parquet
    >>> from fastgru.sklearn import GRUTextClassifier
    >>> from fastgru.training.classify import ClassifyPredictOptions
    >>> model = GRUTextClassifier(epochs=1).fit(["a fine film", "a dull film"] * 20, ["good", "bad"] * 20)
    >>> _ = model.model_.save_pretrained("model")
    >>> pandas.DataFrame({"text": ["fine", "dull"]}).to_parquet("texts.parquet")
    >>> predict_parquet("model", "texts.parquet", Path("out"), "text", ClassifyPredictOptions())
    2
    """
    if engine not in ENGINES:
        raise InputError(f"--engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} is there already: name another --out, or remove it")
    # A worker on another machine has another current folder.
    files = [os.path.abspath(file) for file in find_parquet(source)]
    models = tuple(os.path.abspath(name) if Path(name).is_dir() else name for name in (model, *ensemble))
    staging = out.absolute().with_name(f".{out.name}.partial")
    given = read_schema(files, [column])
    shards = [Shard(index, row_range) for index, row_range in enumerate(cut(files, shard_rows))]
    if not shards:
        raise InputError(f"{source}: there are no rows in it")
    worker = Worker(Job(models, column, options, prefix, str(staging), runtime))
    schema = worker.schema(given, shards[0].row_range)
    with locked(staging, f"another process is predicting into {out}: wait, or name another --out"):
        _prepare(staging, _plan(worker, files, shard_rows))
        try:
            _write_missing(worker.job, schema, shards, engine, workers, progress)
        except InputError:
            shutil.rmtree(staging)
            raise
        _check(staging, shards)
        staging.rename(out)
    return sum(len(shard.row_range) for shard in shards)


def _write_missing(
    job: Job, schema: pa.Schema, shards: list[Shard], engine: str, workers: int | None, progress: Progress
) -> None:
    total = sum(len(shard.row_range) for shard in shards)
    missing = [shard for shard in shards if not (Path(job.folder) / shard.name).exists()]
    done = total - sum(len(shard.row_range) for shard in missing)
    progress(done, total)
    for shard in ENGINES[engine](job, schema, missing, workers) if missing else ():
        done += len(shard.row_range)
        progress(done, total)


def _plan(worker: Worker, files: list[str], shard_rows: int) -> dict[str, Any]:
    """Give what the shards depend on: two calls with the same plan write the same shards."""
    stats = [Path(file).stat() for file in files]
    return {
        "models": worker.job.models,
        "model_sha256": [_sha256(name) for name in worker.job.models],
        "runtime": worker.job.runtime,
        "column": worker.job.column,
        "options": asdict(worker.job.options),
        "prefix": worker.job.prefix,
        "shard_rows": shard_rows,
        "sources": [[file, stat.st_size, stat.st_mtime_ns] for file, stat in zip(files, stats, strict=True)],
    }


def _sha256(model: str) -> str:
    """Of all files of a model."""
    digest = hashlib.sha256()
    for file in files_of(type(read_config(locate(model, CONFIG)))):
        digest.update(Path(locate(model, file)).read_bytes())
    return digest.hexdigest()


def _prepare(staging: Path, plan: dict[str, Any]) -> None:
    """Leave in `staging` the shards of this very plan alone: those that an earlier call has finished."""
    path, text = staging / PLAN, json.dumps(plan, indent=2) + "\n"
    same = path.is_file() and path.read_text(encoding="utf-8") == text
    for file in staging.iterdir():
        if not same or file.name.startswith("."):  # what a killed worker left
            file.unlink()
    if not same:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _check(staging: Path, shards: list[Shard]) -> None:
    """Hold the folder to the plan: every shard is there with all its rows, and no other file."""
    for file in staging.glob(".part-*"):
        file.unlink()
    for shard in shards:
        rows = pq.ParquetFile(staging / shard.name).metadata.num_rows
        if rows != len(shard.row_range):
            raise RuntimeError(f"{staging / shard.name} has {rows} rows and should have {len(shard.row_range)}")
