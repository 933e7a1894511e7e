"""The commands about tasks: train, evaluate and predict, each for all of them.

A task's options are declared once, as fields of dataclasses; here they become options of the commands.
"""

import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from fastgru.cli import tables
from fastgru.common.errors import InputError
from fastgru.common.processes import rank
from fastgru.data.table import STDIN
from fastgru.training.options import LONGER, TrainOptions
from fastgru.training.run_folder import RunFolder, begins, task_of_run
from fastgru.training.tasks import TASKS, AnyTask, task_of_model

if TYPE_CHECKING:
    from rich.console import Console

Out = Annotated[
    Path, typer.Option(help="Folder for the run: model, log (CSV, and TensorBoard if installed), curves, checkpoint.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in --out, with its options; with more --epochs for longer.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]
Run = Annotated[
    str, typer.Argument(help="Folder of a run or of a saved model, a ready model's name, or one on the Hub.")
]
Ensemble = Annotated[
    list[str] | None,
    typer.Option(help="Another model, which answers together with the first; may be given several times."),
]
Runtime = Annotated[
    bool,
    typer.Option("--runtime", help="Answer on NumPy, as is done without torch: the same, and it starts sooner."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def train_command(task: AnyTask) -> Callable[..., None]:
    """Make `fastgru train NAME` out of the task's options; its help is the task's docstring."""
    fields = _parameters(task.options)
    common = {field.name for field in dataclasses.fields(TrainOptions)}
    fields.sort(key=lambda parameter: parameter.name in common)

    def train(context: typer.Context, out: Path, resume: bool, overwrite: bool, **given: Any) -> None:
        _train(task, context, out, resume, overwrite, given)

    _set_parameters(
        train,
        _parameter("context", typer.Context),
        _parameter("out", Out),
        _parameter("resume", Resume, False),
        _parameter("overwrite", Overwrite, False),
        *fields,
    )
    train.__doc__ = inspect.getdoc(task)
    return train


def _train(
    task: AnyTask, context: typer.Context, out: Path, resume: bool, overwrite: bool, given: dict[str, Any]
) -> None:
    from rich.console import Console

    if not str(out) or out == Path() or given.get("data") == "":
        raise InputError("--data and --out need a name, and --out one of a folder below this one")
    if resume and overwrite:
        raise InputError("--resume goes on with a run and --overwrite replaces it: give one of them")
    run, console = RunFolder(out), Console(stderr=True)
    if resume and not begins(run):
        longer = _longer(context, task, run)
        history = import_module("fastgru.training.run").resume(run, console, **longer)
    else:
        history = _train_anew(task, task.options(**given), run, console, overwrite)
    best, column = history.best, history.best_by.column
    if rank() == 0:
        typer.echo(
            f"best {column.replace('_', ' ')} {best[column]:.4f} in epoch {best['epoch']}; the model is in {out}"
        )


def _train_anew(task: AnyTask, options: TrainOptions, run: RunFolder, console: "Console", overwrite: bool) -> Any:
    """Train; what is wrong with the folder or the data is said before torch is imported, which takes seconds."""
    if rank() == 0:
        run.check_free(overwrite, options.inputs)
    options.check_accelerator()
    if options.start_from is not None and task_of_model(options.start_from).name != task.name:
        raise InputError(f"--from {options.start_from}: that is no model of {task.name}")
    data = task.load_data(options)
    return import_module("fastgru.training.run").train(options, run, console, overwrite=overwrite, data=data)


def _longer(context: typer.Context, task: AnyTask, run: RunFolder) -> dict[str, int]:
    """Give what a resumed run is to have more of; InputError for any other option that is not the run's own."""
    if run.task.name != task.name:
        raise InputError(f"{run.path} is a run of {run.task.name}: go on with fastgru train {run.task.name} --resume")
    saved = dataclasses.asdict(run.read_options().anchored())
    given = {name: context.params[name] for name in saved}
    given = dataclasses.asdict(task.options(**given).anchored())  # as the run has them
    longer = {}
    for name, value in saved.items():
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        if name in LONGER and given[name] > value:
            longer[name] = given[name]
        elif given[name] != value:
            raise InputError(
                f"the run has {_option(task, name)} {value}: --resume goes on with a run's own options; leave it out"
            )
    return longer


def _option(task: AnyTask, name: str) -> str:
    """Give the option of a field as it is written, which may be another word than the field's."""
    (declared,) = get_type_hints(task.options, include_extras=True)[name].__metadata__
    written = declared.default  # where typer keeps the first word of an option inside Annotated
    return written if isinstance(written, str) else "--" + name.replace("_", "-")


def evaluate(
    run: str,
    data: str | None,
    ensemble: list[str] | None,
    as_json: bool,
    plot: Path | None,
    reliability: Path | None,
    errors: Path | None,
    card: bool,
    runtime: bool,
    **columns: str | None,
) -> None:
    """Measure a trained model on texts, pairs or series that it has not seen."""
    from rich.console import Console

    from fastgru.training.evaluate import Wanted, evaluate_run

    wanted = Wanted(plot, reliability, errors)
    if card and (data is not None or ensemble):
        raise InputError("--card tells of the test part of the run's own data: leave out --data and --ensemble")
    wanted.check()
    task = task_of_run(run)
    given = _given(columns, task.reads, task)
    measures, source = evaluate_run(task, run, data, given, ensemble or (), card=card, runtime=runtime)
    wanted.write(measures, source, task)
    if as_json:
        content = dataclasses.asdict(measures)
        content.pop("errors", None)  # a file of its own
        typer.echo(json.dumps(content, ensure_ascii=False))
    else:
        measures.show(source, Console())


def predict(
    run: str,
    inputs: list[str] | None,
    file: str | None,
    ensemble: list[str] | None,
    as_json: bool,
    out: Path | None,
    engine: str | None,
    workers: int | None,
    prefix: str | None,
    runtime: bool,
    **options: Any,
) -> None:
    """Tell what a trained model says of new inputs; with --out, of every row of a table."""
    runtime = runtime or find_spec("torch") is None
    if runtime:  # a step's products are so small that a second thread of NumPy's costs more than it gives
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    task = task_of_run(run)
    if inputs == [STDIN] and file is None:
        inputs, file = None, STDIN
    if (file is None) == (not inputs):
        raise InputError(f"give {task.asks_for}, or a file of them with --file: one of the two")
    own = [field.name for field in dataclasses.fields(task.predict_options)]
    chosen = task.predict_options(**_given(options, own, task))
    if runtime:
        task.check_runtime(chosen)
    choices = {"engine": engine, "workers": workers, "prefix": prefix}
    choices = {name: choice for name, choice in choices.items() if choice is not None}
    others = ensemble or []
    if out is not None and file is not None and not as_json:
        tables.predict_table(task, run, file, out, chosen, {**choices, "ensemble": others, "runtime": runtime})
        return
    if out is not None or choices:
        raise InputError("--engine, --workers and --prefix go with --file (Parquet) and --out, without --json")
    rows = task.read_inputs(list(inputs or []), file, chosen)
    # Where the answers are on the screen they show themselves how far it is.
    with tables.progress(shown=not sys.stdout.isatty()) as progress:
        model = task.load_models([run, *others], runtime=runtime)
        for done, answer in enumerate(task.predict(model, rows, chosen), start=1):
            typer.echo(json.dumps(dataclasses.asdict(answer), ensure_ascii=False) if as_json else answer.line())
            progress(done, len(rows))


def _given(options: dict[str, Any], own: Iterable[str], task: AnyTask) -> dict[str, Any]:
    """Give the options that were given; InputError for one that is another task's."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in own:
            raise InputError(f"--{name.replace('_', '-')} is no option for a model of {task.name}")
    return given


def _parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _parameters(options: type[Any], *, named: Iterable[str] | None = None, optional: bool = False) -> list[Any]:
    """Make parameters of the dataclass's fields; `optional` ones are None where they were not given."""
    hints = get_type_hints(options, include_extras=True)
    fields = [field for field in dataclasses.fields(options) if named is None or field.name in named]
    if not optional:
        return [_parameter(field.name, hints[field.name], field.default) for field in fields]
    kinds = {field.name: (hints[field.name].__origin__, hints[field.name].__metadata__) for field in fields}
    return [_parameter(name, Annotated[(kind | None, *notes)], None) for name, (kind, notes) in kinds.items()]


def _unique(parameters: Iterable[inspect.Parameter]) -> list[inspect.Parameter]:
    """Keep the first parameter of each name: tasks share options such as --text."""
    return list({parameter.name: parameter for parameter in reversed(list(parameters))}.values())[::-1]


def _set_parameters(command: Any, *parameters: inspect.Parameter) -> None:
    """Give a command, which takes keywords, the parameters that typer makes its options of."""
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


_set_parameters(
    evaluate,
    _parameter("run", Run),
    _parameter(
        "data",
        Annotated[str | None, typer.Option(help="Table to measure on; otherwise the test part of the run's data.")],
        None,
    ),
    _parameter("ensemble", Ensemble, None),
    _parameter("as_json", Json, False),
    _parameter(
        "plot", Annotated[Path | None, typer.Option(help="Draw the result, a confusion matrix, into this image.")], None
    ),
    _parameter(
        "reliability",
        Annotated[Path | None, typer.Option(help="Draw what the probabilities are worth into this image.")],
        None,
    ),
    _parameter(
        "errors",
        Annotated[
            Path | None, typer.Option(help="Write what was wrong: input, truth, answer, probability (.csv, .jsonl).")
        ],
        None,
    ),
    _parameter(
        "card", Annotated[bool, typer.Option("--card", help="Write the measures into the run's model card.")], False
    ),
    _parameter(
        "runtime",
        Annotated[bool, typer.Option("--runtime", help="Measure what it answers on NumPy, without torch.")],
        False,
    ),
    *_unique(
        parameter for task in TASKS.values() for parameter in _parameters(task.options, named=task.reads, optional=True)
    ),
)
_set_parameters(
    predict,
    _parameter("run", Run),
    _parameter(
        "inputs",
        Annotated[list[str] | None, typer.Argument(help="What to predict from; - reads standard input.")],
        None,
    ),
    _parameter(
        "file",
        Annotated[str | None, typer.Option(help="File with one input a line, - for standard input, or a table.")],
        None,
    ),
    _parameter("ensemble", Ensemble, None),
    _parameter("as_json", Annotated[bool, typer.Option("--json", help="Print one JSON object an input.")], False),
    _parameter("out", tables.Out, None),
    _parameter("engine", tables.Engine, None),
    _parameter("workers", tables.Workers, None),
    _parameter("prefix", tables.Prefix, None),
    _parameter("runtime", Runtime, False),
    *_unique(parameter for task in TASKS.values() for parameter in _parameters(task.predict_options, optional=True)),
)
