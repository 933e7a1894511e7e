"""The commands about layers: bench, info and run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgru import launch
from fastgru.common.errors import InputError, reason_of

if TYPE_CHECKING:
    from fastgru.cli.benchmark import Row


def bench(
    input_size: Annotated[int, typer.Option(min=1, help="I, the features of the input.")] = 256,
    hidden_size: Annotated[int, typer.Option(min=1, help="H, the features of the state.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="B, the sequences.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="T, the steps of a sequence.")] = 100,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Run in both directions.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Calls of each module; the medians are shown.")] = 30,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="torch's threads, if not torch's own choice.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the result into this image file.")] = None,
) -> None:
    """Compare LSTM, torch.nn.GRU and fastgru.GRU on this machine: parameters, gates, speed, memory."""
    import torch

    from fastgru.cli import benchmark
    from fastgru.common.files import check_image

    if plot is not None:
        check_image(plot)
    if threads is not None:
        torch.set_num_threads(threads)
    shape = benchmark.Shape(input_size, hidden_size, batch, steps, directions=2 if bidirectional else 1)
    rows = benchmark.compare(shape, rounds)
    typer.echo(f"{shape}, medians of {rounds} interleaved rounds\n{benchmark.machine()}")
    _print_comparison(rows)
    if plot is not None:
        benchmark.plot(rows, shape, plot, rounds)
        typer.echo(f"drawn: {plot}")


def run(arguments: Annotated[list[str] | None, typer.Argument(help="As python takes them.")] = None) -> None:
    """Run a program with torch.nn's GRUs replaced by fastgru's."""
    launch.run(arguments or [])


def _print_comparison(rows: "list[Row]") -> None:
    from rich.console import Console
    from rich.table import Table

    lstm = rows[0]
    table = Table("", *(row.name for row in rows), caption="in brackets: over the LSTM's", caption_justify="left")
    features: dict[str, tuple[str, str, float]] = {
        "parameters": ("parameters", ",.0f", 1),
        "gates (sigmoid)": ("gates", ".0f", 1),
        "forward, ms": ("forward_ms", ".3f", 1),
        "forward + backward, ms": ("training_ms", ".3f", 1),
        "kept for backward, MB": ("saved_bytes", ".3f", 1e6),
    }
    for feature, (field, form, unit) in features.items():
        values = [getattr(row, field) / unit for row in rows]
        shares = [f"{value:{form}} ({value * unit / getattr(lstm, field):.2f})" for value in values[1:]]
        table.add_row(feature, f"{values[0]:{form}}", *shares)
    Console().print(table)


def info(
    input_size: Annotated[int, typer.Option(min=1, help="I of the layer asked about.")] = 128,
    hidden_size: Annotated[int, typer.Option(min=1, help="H of the layer asked about.")] = 128,
    device: Annotated[str, typer.Option(help="Its device, as torch names it.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Its dtype, as torch names it.")] = "float32",
    backend: Annotated[str, typer.Option(help="The backend asked for.")] = "auto",
) -> None:
    """Tell what is installed, which backend serves a layer, and why the others do not."""
    import torch

    import fastgru

    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise InputError(f"--dtype must be a dtype of torch such as float32 or bfloat16, got {dtype!r}")
    try:
        layer = fastgru.GRU(input_size, hidden_size, device=device, dtype=kind, backend=backend)
        found = fastgru.info(layer)
    except (RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
        raise InputError(f"such a layer cannot be made on this machine: {reason_of(error)}") from error
    typer.echo(found)
