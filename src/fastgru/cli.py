"""The commands. Each reads its options, calls one room below, and prints; heavy imports wait until one runs."""

import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from safetensors import SafetensorError
from typer.core import TyperGroup

from fastgru.errors import InputError, Stopped

if TYPE_CHECKING:
    from fastgru.bench import Row
    from fastgru.data.labelled import LabelledTexts
    from fastgru.models import TextClassifier


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
        except (InputError, ModuleNotFoundError, OSError, MemoryError, RuntimeError, SafetensorError) as error:
            line = _one_line(error)
            if line is None:
                raise
            typer.echo(f"fastgru: {' '.join(line.split())}", err=True)
            raise typer.Exit(2) from error


def _one_line(error: BaseException) -> str | None:
    """What to tell the user of an error that lies outside of fastgru; None for one that is ours."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed. Install it with: pip install 'fastgru[train]'"
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

Data = Annotated[
    str,
    typer.Option(help="'reviews', a .csv, .tsv, .jsonl or .parquet file, or a Hugging Face dataset (name, folder)."),
]
Text = Annotated[str, typer.Option(help="Column of the texts.")]
Label = Annotated[str, typer.Option(help="Column of the labels.")]
Run = Annotated[str, typer.Argument(help="Folder of a run or of a saved model, or a model's name on the Hub.")]


@app.callback()
def _start() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("fastgru").handlers = [handler]
    logging.getLogger("fastgru").setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are no news; we say how it ended


@train.command(
    "classify", epilog="Example: fastgru train classify --data mail.csv --text body --label folder --out runs/mail"
)
def train_classify(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the run: model, log, curves, checkpoint.")],
    data: Data = "reviews",
    text: Text = "text",
    label: Label = "label",
    test: Annotated[str | None, typer.Option(help="File to test on; otherwise a tenth of the data is kept.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, with its options.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same model.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many passes over the data.")] = 12,
    patience: Annotated[int, typer.Option(min=1, help="Stop after so many epochs without a better accuracy.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts a step.")] = 64,
    lr: Annotated[float, typer.Option(min=1e-9, max=1.0, help="Learning rate.")] = 2e-3,
    embedding_size: Annotated[int, typer.Option(min=1, help="Size of the word vectors.")] = 200,
    hidden_size: Annotated[int, typer.Option(min=1, help="Size of the GRU's state in each direction.")] = 64,
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="Dropout before the last layer.")] = 0.5,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads; more pay for large models only.")] = 1,
) -> None:
    """Train a text classifier: a bidirectional GRU.

    Without --data it learns to tell positive from negative movie reviews.
    """
    from rich.console import Console

    from fastgru.training.classify import resume_classifier, train_classifier
    from fastgru.training.run_folder import ClassifyOptions, RunFolder

    if not data or not str(out) or out == Path():
        raise InputError("--data and --out need a name, and --out one of a folder below this one")
    if resume and overwrite:
        raise InputError("--resume goes on with a run and --overwrite replaces it: give one of them")
    names = [field.name for field in dataclasses.fields(ClassifyOptions)]
    run, console = RunFolder(out), Console(stderr=True)
    if resume:
        _refuse_other_options(context, names, run.read_options())
        history = resume_classifier(run, console)
    else:
        history = train_classifier(
            ClassifyOptions(**{name: context.params[name] for name in names}), run, console, overwrite=overwrite
        )
    best = history.best
    typer.echo(
        f"best validation accuracy {best['validation_accuracy']:.4f} in epoch {best['epoch']}; the model is in {out}"
    )


def _refuse_other_options(context: typer.Context, names: list[str], saved: Any) -> None:
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and context.params[name] != getattr(saved, name):
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"the run has {option} {getattr(saved, name)}: --resume goes on with a run's own options; leave it out"
            )


@app.command(epilog="Example: fastgru evaluate runs/reviews")
def evaluate(
    run: Run,
    data: Annotated[
        str | None, typer.Option(help="Table to measure on; otherwise the test part of the run's data.")
    ] = None,
    text: Text = "text",
    label: Label = "label",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a trained classifier: accuracy, F1, and which label was taken for which."""
    from fastgru.training.measure import measure

    model = _load_model(run)
    rows, source = _rows_to_measure(run, data, text, label)
    measures = measure(model, rows, source)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(measures)))
    else:
        _print_measures(measures, source)


def _rows_to_measure(run: str, data: str | None, text: str, label: str) -> tuple["LabelledTexts", str]:
    from fastgru.data.split import load_splits
    from fastgru.data.table import read_labelled
    from fastgru.training.run_folder import RunFolder

    if data is not None:
        return read_labelled(data, text, label), data
    folder = RunFolder(Path(run))
    options = folder.read_options()
    splits = load_splits(options.data, options.text, options.label, options.test)
    folder.check_data(splits.fingerprint())
    return splits.test, options.test or f"the test part of {options.data}"


def _print_measures(measures: Any, source: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{source}: {measures.texts:,} texts", title_justify="left")
    table.add_column("true label")
    for name in measures.labels:
        table.add_column(f"called {name}", justify="right")
    for name, counts in zip(measures.labels, measures.confusion, strict=True):
        table.add_row(name, *map(str, counts))
    console = Console()
    console.print(table)
    console.print(f"accuracy {measures.accuracy:.4f}   F1 (macro) {measures.f1_macro:.4f}", highlight=False)


@app.command(epilog='Example: fastgru predict runs/reviews "a warm and funny film"')
def predict(
    run: Run,
    texts: Annotated[list[str] | None, typer.Argument(help="The texts.")] = None,
    file: Annotated[str | None, typer.Option(help="File with one text a line, or a table with --text.")] = None,
    text: Annotated[str | None, typer.Option(help="Column of the texts, where --file is a table.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a text.")] = False,
) -> None:
    """Tell the label of texts, and how probable each label is."""
    from fastgru.data.table import read_texts

    if (file is None) == (not texts):
        raise InputError("give texts to classify, or a file of them with --file: one of the two")
    given = read_texts(file, text) if file is not None else list(texts or [])
    for said, prediction in zip(given, _load_model(run).predict(given), strict=True):
        if as_json:
            typer.echo(json.dumps({"text": said, **dataclasses.asdict(prediction)}, ensure_ascii=False))
        else:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in prediction.probabilities.items())
            typer.echo(f"{prediction.label}\t{shown}\t{said}")


@app.command(epilog="Example: fastgru bench --hidden-size 128 --batch 8 --plot bench.png")
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

    from fastgru import bench as room

    if plot is not None:
        room.check_image(plot)
    if threads is not None:
        torch.set_num_threads(threads)
    shape = room.Shape(input_size, hidden_size, batch, steps, directions=2 if bidirectional else 1)
    rows = room.compare(shape, rounds)
    typer.echo(f"{shape}, medians of {rounds} interleaved rounds\n{room.machine()}")
    _print_comparison(rows)
    if plot is not None:
        room.plot(rows, shape, plot)
        typer.echo(f"drawn: {plot}")


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


@app.command(epilog="Example: fastgru info --hidden-size 512 --dtype bfloat16")
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
        first = str(error).splitlines()[0]
        raise InputError(f"such a layer cannot be made on this machine: {first}") from error
    typer.echo(found)


def _load_model(run: str) -> "TextClassifier":
    from fastgru.models import TextClassifier

    # A name on the Hub is `owner/name`; where `owner` is a folder here, a folder in it was meant.
    if not Path(run).exists() and (run.count("/") != 1 or Path(run).parent.is_dir()):
        raise InputError(f"{run}: there is no such folder")
    return TextClassifier.from_pretrained(run)
