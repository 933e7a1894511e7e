"""Measuring a run's model, on the data that its run kept back or on a table."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fastgru.training.run_folder import RunFolder
from fastgru.training.task import Measures
from fastgru.training.tasks import AnyTask


def evaluate_run(
    task: AnyTask, run: str, table: str | None, reads: dict[str, Any], ensemble: Sequence[str] = ()
) -> tuple[Measures, str]:
    """Measure the model of `run`; gives what it was measured on too, in words.

    `run`: a run's folder; for a `table` also a model's folder or name on the Hub.
    `reads`: how to read the table, where not as the run's own data, and how to answer, where not as the model does.
    `ensemble`: other models, which answer together with the run's. InputError for what cannot be measured.
    """
    load = partial(task.load_models, [run, *ensemble])
    folder = RunFolder(Path(run))
    if table is None:
        options = folder.read_options()
        data = task.load_data(options)
        folder.check_data(data.fingerprint())
        return task.measure_test(load(), data, replace(options, **reads))
    options = folder.read_options() if folder.is_run else task.options()
    return task.measure_table(load, table, replace(options, **reads)), table
