"""Engines: who runs the workers. Each takes a job and its shards, and gives every shard once it is written."""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from fastgru.common.errors import InputError
from fastgru.predict.worker import Job, Shard, Worker

Engine = Callable[[Job, pa.Schema, list[Shard], int | None], Iterator[Shard]]


def run_here(job: Job, schema: pa.Schema, shards: list[Shard], workers: int | None) -> Iterator[Shard]:
    """Predict in this process, one shard after the other."""
    if workers not in (None, 1):
        raise InputError(f"--workers {workers} needs --engine ray: the plain engine is this one process")
    worker = Worker(job)
    for shard in shards:
        worker.write(shard, schema)
        yield shard


def run_on_ray(job: Job, schema: pa.Schema, shards: list[Shard], workers: int | None) -> Iterator[Shard]:
    """Predict over Ray Data with `workers` actors; if not given, one for each GPU of the cluster, otherwise each CPU.

    The cluster is the one that the variable RAY_ADDRESS names or that runs on this machine; otherwise one is started
    for this call. Ray starts a killed actor anew and gives it its shards again.
    """
    ray = _connect()
    try:
        numbers = ray.data.from_items([*range(len(shards))], override_num_blocks=len(shards))
        written = numbers.map(
            _Actor, fn_constructor_args=(job, schema, shards), **_pool(ray, job, workers, len(shards))
        )
        for row in written.iter_rows():
            if row["refused"]:
                raise InputError(row["refused"])
            yield shards[row["item"]]
    finally:
        ray.shutdown()


ENGINES: dict[str, Engine] = {"plain": run_here, "ray": run_on_ray}


class _Actor:
    """A worker in the form that Ray Data asks for. Bad input is given back, as Ray would print a page for an error."""

    def __init__(self, job: Job, schema: pa.Schema, shards: list[Shard]) -> None:
        self.schema = schema
        self.shards = shards
        self.worker = Worker(job)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            self.worker.write(self.shards[row["item"]], self.schema)
        except InputError as error:
            return {**row, "refused": str(error)}
        return {**row, "refused": ""}


def _connect() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # its future default, which it asks for by a warning
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it calls every actor that it could restart an error
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the command shows its own
    context.print_on_execution_start = False
    return ray


def _pool(ray: Any, job: Job, workers: int | None, shards: int) -> dict[str, Any]:
    there = ray.cluster_resources()
    on_gpu = there.get("GPU", 0) >= 1 and not job.runtime
    count = min(workers or int(there["GPU" if on_gpu else "CPU"]), shards)
    # One shard waits at each actor while it writes another: more would only have to be moved after a kill.
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=count, max_tasks_in_flight_per_actor=2)
    return {"compute": pool, "num_cpus": 1, "num_gpus": 1 if on_gpu else 0}
