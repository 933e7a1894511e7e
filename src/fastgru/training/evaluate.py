"""Measuring a run's model, on the data that its run kept back or on a table; and what is written of it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fastgru.common.errors import InputError
from fastgru.common.files import check_image
from fastgru.inference.folder import place_of
from fastgru.training.run_folder import RunFolder
from fastgru.training.task import Calibrated, Data, Drawable, Measures, WithErrors
from fastgru.training.tasks import AnyTask
from fastgru.training.wrong import check_errors_file, write_errors


class Wanted(NamedTuple):
    """The files that are asked for beside the measures: pictures, and a table of what was wrong."""

    plot: Path | None
    reliability: Path | None
    errors: Path | None

    def check(self) -> None:
        """InputError where one of them cannot be written: before anything is measured."""
        for image in (self.plot, self.reliability):
            if image is not None:
                check_image(image)
        if self.errors is not None:
            check_errors_file(self.errors)

    def write(self, measures: Measures, source: str, task: AnyTask) -> None:
        """Write them; InputError for one that these measures cannot give."""
        if self.plot is not None:
            if not isinstance(measures, Drawable):
                raise InputError(f"there is no picture of what is measured of a model of {task.name}: leave --plot out")
            measures.draw(source, self.plot)
        if self.reliability is not None:
            if not isinstance(measures, Calibrated):
                raise InputError(f"a model of {task.name} has no labels to be sure of: leave --reliability out")
            measures.draw_reliability(source, self.reliability)
        if self.errors is not None:
            if not isinstance(measures, WithErrors):
                raise InputError(f"an answer of a model of {task.name} is not right or wrong: leave --errors out")
            write_errors(measures.errors, self.errors)


def evaluate_run(
    task: AnyTask,
    run: str,
    table: str | None,
    reads: dict[str, Any],
    ensemble: Sequence[str] = (),
    *,
    card: bool = False,
    runtime: bool = False,
) -> tuple[Measures, str]:
    """Measure the model of `run`; gives what it was measured on too, in words.

    `run`: a run's folder, or a ready model's name; for a `table` also a model's folder or name on the Hub.
    `reads`: how to read the table, where not as the run's own data, and how to answer, where not as the model does.
    `ensemble`: other models, which answer together with the run's. `card`: write the measures into the model card.
    `runtime`: measure what `fastgru.runtime` answers. InputError for what cannot be measured.
    """
    load = partial(task.load_models, [run, *ensemble], runtime=runtime)
    folder = RunFolder(Path(place_of(run)))
    if table is None:
        options = folder.read_options()
        if card:
            folder.read_log()  # what the card needs, before minutes are spent
        data = task.load_data(options)
        folder.check_data(data.fingerprint())
        model = load()
        measures, source = task.measure_test(model, data, replace(options, **reads))
        if card:
            _write_card(folder, model, data, measures)
        return measures, source
    options = folder.read_options() if folder.is_run else task.options()
    return task.measure_table(load, table, replace(options, **reads)), table


def _write_card(folder: RunFolder, model: Any, data: Data, measures: Measures) -> None:
    from fastgru.training.card import Card, numbers_of

    options = folder.read_options()
    best = folder.task.best_by(options).of(folder.read_log())
    Card(folder.task, folder.path.absolute().name, options, data, model, best, numbers_of(measures)).write(folder.path)
