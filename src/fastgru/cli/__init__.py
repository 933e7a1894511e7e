"""The commands. Each reads its options, calls one room below, and prints; heavy imports wait until one runs."""

import logging
import os
import sys
from typing import Annotated, Any

import typer
from safetensors import SafetensorError
from typer.core import TyperGroup

from fastgru import __version__
from fastgru.cli.layers import bench, info, run
from fastgru.cli.tasks import evaluate, predict, train_command
from fastgru.common.errors import InputError, Stopped
from fastgru.common.processes import rank
from fastgru.training.tasks import TASKS

_UsageError: Any = typer.BadParameter.__bases__[0]  # click's, for which typer has no public name


class _Commands(TyperGroup):
    """The commands, with bad input turned into one line and exit code 2: here, once, for all of them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read our output has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Stopped as stop:
            raise typer.Exit(stop.code) from stop
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except _UsageError as error:
            line = error.format_message()
            if not line or error.ctx is None:  # a command without arguments shows its help
                raise
            end = "" if line[-1] in ".?" else "."
            typer.echo(f"fastgru: {line}{end} {error.ctx.command_path} --help tells more", err=True)
            raise typer.Exit(2) from error
        except (InputError, ModuleNotFoundError, OSError, MemoryError, RuntimeError, SafetensorError) as error:
            line = _one_line(error)
            if line is None:
                raise
            if rank() == 0:  # of several processes, all of which found the same
                typer.echo(f"fastgru: {' '.join(line.split())}", err=True)
            raise typer.Exit(2) from error


# Where a package that is missing comes with another extra than train.
EXTRAS = {"kaldi_native_fbank": "audio", "ray": "ray", "soundfile": "audio", "soxr": "audio", "tokenizers": "text"}


def _one_line(error: BaseException) -> str | None:
    """What to tell the user of an error that lies outside of fastgru; None for one that is ours."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get(error.name or "", "train")
        return f"{error.name} is not installed. Install it with: pip install 'fastgru[{extra}]'"
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"
    if isinstance(error, SafetensorError):  # safetensors has no class of its own for a full disk
        return f"the model cannot be written: {error}"
    if isinstance(error, MemoryError) or "alloc" in str(error):
        return "this does not fit into the machine's memory: choose smaller sizes or fewer threads"
    return None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="The GRU for PyTorch: train, evaluate and use ready models.",
)
train = typer.Typer(no_args_is_help=True, help="Train a model.")
app.add_typer(train, name="train")

for task in TASKS.values():
    train.command(task.name, epilog=f"Example: fastgru train {task.name} {task.example}")(train_command(task))
app.command(epilog="Example: fastgru evaluate runs/reviews")(evaluate)
app.command(
    epilog='Example: fastgru predict runs/reviews "a warm and funny film"; '
    "fastgru predict runs/mail --file mail.parquet --text body --out folders"
)(predict)
app.command(epilog="Example: fastgru bench --hidden-size 128 --batch 8 --plot bench.png")(bench)
app.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(run)
app.command(epilog="Example: fastgru info --hidden-size 512 --dtype bfloat16")(info)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fastgru {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("fastgru").handlers = [handler]
    logging.getLogger("fastgru").setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are no news; we say how it ended
