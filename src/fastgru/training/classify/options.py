"""What the training of a classifier, and what `predict`, can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from fastgru.common.errors import InputError
from fastgru.training.classify.threshold import read_threshold
from fastgru.training.options import TRAINING, Stream, TableOptions, TrainOptions
from fastgru.training.targets import TargetOptions

DATA, MODEL = "Data", "Model"
KINDS, METRICS = ("words", "characters", "subwords"), ("accuracy", "f1", "loss")
Threshold = Annotated[
    str | None,
    typer.Option(help="Of two labels: 'spam=0.3' tells spam from this probability on.", rich_help_panel=MODEL),
]


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(TargetOptions, TableOptions, TrainOptions):
    """The options of a classifier's training.

    `data`, `text`, `label`, `test`: where the texts come from (`fastgru.data.texts.load_splits`).
    `pooling`, `class_weights`: as the command takes them; InputError, at once, for what cannot be read.
    """

    task = "classify"

    data: Annotated[
        str,
        typer.Option(
            help="'reviews', a .csv, .tsv, .json(l) or .parquet file, or a Hugging Face dataset (name, folder).",
            rich_help_panel=DATA,
        ),
    ] = "reviews"
    text: Annotated[str, typer.Option(help="Column of the texts.", rich_help_panel=DATA)] = "text"
    label: Annotated[str, typer.Option(help="Column of the labels.", rich_help_panel=DATA)] = "label"
    test: Annotated[
        str | None,
        typer.Option(help="File to test on; otherwise a tenth of the data is kept.", rich_help_panel=DATA),
    ] = None
    stream: Stream = False
    tokens: Annotated[
        Literal["words", "characters", "subwords"] | None,
        typer.Option(help="What is read, piece by piece.  [default: what suits the texts]", rich_help_panel=DATA),
    ] = None
    embedding_size: Annotated[int, typer.Option(min=1, help="Size of the word vectors.", rich_help_panel=MODEL)] = 200
    vectors: Annotated[
        str | None,
        typer.Option(
            help="Word vectors to begin with: word2vec's, fastText's or GloVe's text format, also .gz.",
            rich_help_panel=DATA,
        ),
    ] = None
    ngrams: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="N-grams of tokens with a vector of their own, the most frequent, at most; 0 is none.  "
            "[default: 50,000 of characters, 0 of words and subwords]",
            rich_help_panel=MODEL,
        ),
    ] = None
    longest_ngram: Annotated[
        int, typer.Option(min=3, help="Tokens in the longest n-gram: an odd number.", rich_help_panel=MODEL)
    ] = 5
    hidden_size: Annotated[
        int, typer.Option(min=1, help="Size of the GRU's state in each direction.", rich_help_panel=MODEL)
    ] = 64
    dropout: Annotated[
        float, typer.Option(min=0, max=0.99, help="Dropout before the last layer.", rich_help_panel=MODEL)
    ] = 0.5
    pooling: Annotated[
        str,
        typer.Option(
            help="What the last layer sees of the states: last, max, mean, attention; several with commas, or all.",
            rich_help_panel=MODEL,
        ),
    ] = "last,max,mean"
    class_weights: Annotated[
        str,
        typer.Option(
            help="'balanced' makes rare labels count as much as frequent ones; or a weight a label: 'spam=3,ham=1'.",
            rich_help_panel=TRAINING,
        ),
    ] = "none"
    metric: Annotated[
        Literal["accuracy", "f1", "loss"],
        typer.Option(
            help="Of the validation part, by which the best epoch is found; f1: mean over the labels.",
            rich_help_panel=TRAINING,
        ),
    ] = "accuracy"
    threshold: Threshold = None

    def __post_init__(self) -> None:
        """InputError for a pooling, weights or a threshold that are none."""
        super().__post_init__()
        self._check_targets()
        for name, known in (("tokens", (None, *KINDS)), ("metric", METRICS)):
            if getattr(self, name) not in known:
                raise InputError(f"--{name} takes one of {', '.join(filter(None, known))}, got {getattr(self, name)!r}")
        if self.vectors is not None and (self.tokens not in (None, "words") or self.ngrams):
            raise InputError("--vectors are of words: leave out --ngrams, and --tokens characters or subwords")
        if self.threshold is not None:
            read_threshold(self.threshold)
        self.poolings()
        if self.class_weights not in ("none", "balanced"):
            self.weight_of_label()

    def _check_targets(self) -> None:
        if self.targets is None:
            return
        for name, plain in (("class_weights", "none"), ("threshold", None)):
            if getattr(self, name) != plain:
                raise InputError(f"--{name.replace('_', '-')} is for one label a text: leave it out")
        if self.target is not None and self.metric == "f1":
            raise InputError("--metric f1 is for labels, and --target names numbers: leave one out")

    @property
    def column(self) -> str:
        """The column of the labels, or of the numbers."""
        return self.target or self.label

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files of the data."""
        return tuple(name for name in (self.data, self.test, self.vectors, self.start_from) if name)

    def poolings(self) -> list[str]:
        """Give the names in `pooling`, in the order that the model has them."""
        from fastgru.inference.classifier_config import POOLINGS

        names = POOLINGS if self.pooling == "all" else tuple(name.strip() for name in self.pooling.split(","))
        if len(set(names)) < len(names) or not set(names) <= set(POOLINGS):
            raise InputError(
                f"--pooling takes names out of {', '.join(POOLINGS)}, once each with commas between them, or all; "
                f"got {self.pooling!r}"
            )
        return [name for name in POOLINGS if name in names]

    def weight_of_label(self) -> dict[str, float]:
        """Give the weights that `class_weights` names."""
        pairs = [pair.rpartition("=") for pair in self.class_weights.split(",")]
        try:
            weights = {name.strip(): float(weight) for name, _, weight in pairs}
            if all(name and 0 < weight < float("inf") for name, weight in weights.items()):
                return weights
            raise ValueError
        except ValueError:
            raise InputError(
                "--class-weights takes none, balanced, or a number above 0 for labels, such as 'spam=3,ham=1'; "
                f"got {self.class_weights!r}"
            ) from None


@dataclass(frozen=True, kw_only=True)
class ClassifyPredictOptions(TableOptions):
    """How `predict` reads a table, and the page that explains its answers."""

    text: Annotated[str | None, typer.Option(help="Column of the texts, where --file is a table.")] = None
    threshold: Threshold = None
    explain: Annotated[
        Path | None, typer.Option(help="HTML page to write, that shows what each word did to its text's label.")
    ] = None
