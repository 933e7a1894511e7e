"""The commands. Each reads its options, calls one room below, and prints; heavy imports wait until one runs."""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fastgru.errors import InputError

if TYPE_CHECKING:
    from fastgru.data.labelled import LabelledTexts
    from fastgru.models.text_classifier import TextClassifier


class _Commands(TyperGroup):
    """The commands, with bad input turned into one line and exit code 2: here, once, for all of them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            typer.echo(f"fastgru: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from error
        except ModuleNotFoundError as error:
            typer.echo(
                f"fastgru: {error.name} is not installed. Install it with: pip install 'fastgru[train]'", err=True
            )
            raise typer.Exit(2) from error


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
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many passes over the data.")] = 12,
    patience: Annotated[int, typer.Option(min=1, help="Stop after so many epochs without a better accuracy.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts a step.")] = 64,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 2e-3,
    embedding_size: Annotated[int, typer.Option(min=1, help="Size of the word vectors.")] = 100,
    hidden_size: Annotated[int, typer.Option(min=1, help="Size of the GRU's state in each direction.")] = 64,
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="Dropout before the last layer.")] = 0.5,
) -> None:
    """Train a text classifier: a bidirectional GRU.

    Without --data it learns to tell positive from negative movie reviews.
    """
    from rich.console import Console

    from fastgru.training.classify import resume_classifier, train_classifier
    from fastgru.training.run_folder import ClassifyOptions, RunFolder

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


def _load_model(run: str) -> "TextClassifier":
    from fastgru.models.text_classifier import TextClassifier

    if not Path(run).exists() and run.count("/") != 1:
        raise InputError(f"{run}: there is no such folder")
    return TextClassifier.from_pretrained(run)
