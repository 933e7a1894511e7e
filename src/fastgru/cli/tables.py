"""Prediction of whole tables, as a part of the command predict: from Parquet to Parquet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fastgru.common.errors import InputError
from fastgru.training.tasks import AnyTask

PANEL = "Parquet to Parquet (with --out)"

Out = Annotated[
    Path | None,
    typer.Option(help="New folder for the rows of --file with what is predicted of each.", rich_help_panel=PANEL),
]
Engine = Annotated[
    str | None,
    typer.Option(help="plain: in this process; ray: on a Ray cluster.  [default: plain]", rich_help_panel=PANEL),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Workers on the cluster, if not one a CPU or GPU.", rich_help_panel=PANEL)
]
Prefix = Annotated[
    str | None, typer.Option(help="Of the columns that are added.  [default: predicted_]", rich_help_panel=PANEL)
]


def predict_table(task: AnyTask, run: str, source: str, out: Path, options: Any, choices: dict[str, Any]) -> None:
    """Predict every row of `source` into `out`, and show how far it is; `choices`: of `predict_parquet`."""
    from fastgru.predict import predict_parquet

    if not task.input_column:
        raise InputError(f"no column can hold an input of {task.name}: leave out --out")
    column = getattr(options, task.input_column)
    if column is None:
        raise InputError(f"name the column of inputs with --{task.input_column.replace('_', '-')}")
    with progress() as report:
        rows = predict_parquet(run, source, out, column, options, **choices, progress=report)
    typer.echo(f"{rows:,} rows are in {out}")


@contextmanager
def progress(shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Give what shows the rows that are done, and the time left, where stderr is a terminal and it is to be shown."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("rows"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("rows")
        yield lambda done, total: bar.update(task, completed=done, total=total)
