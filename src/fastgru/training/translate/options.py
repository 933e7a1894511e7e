"""What the training of a sequence-to-sequence model, and what `predict`, can be told."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from fastgru.training.options import (
    TRAINING,
    BatchSize,
    Epochs,
    LearningRate,
    Patience,
    Stream,
    TableOptions,
    TrainOptions,
)

DATA, MODEL = "Data", "Model"
Tokens = Literal["characters", "words", "subwords"]


def _size(text: str, least: int = 1) -> typer.models.OptionInfo:
    return typer.Option(min=least, help=text, rich_help_panel=MODEL)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class TranslateOptions(TableOptions, TrainOptions):
    """The options of a sequence-to-sequence training.

    `data`, `source`, `target`, `test`, `stress`: where the pairs come from (`fastgru.data.pairs.load_pairs`).
    `warm_up`: steps in which the learning rate rises to `lr`; it then falls to a fiftieth along a cosine.
    """

    task = "translate"

    data: Annotated[
        str,
        typer.Option(
            help="'pronunciations', a .csv, .tsv, .json(l) or .parquet file, or a Hugging Face dataset (name, folder).",
            rich_help_panel=DATA,
        ),
    ] = "pronunciations"
    source: Annotated[str, typer.Option(help="Column of what is read.", rich_help_panel=DATA)] = "source"
    target: Annotated[str, typer.Option(help="Column of what is written.", rich_help_panel=DATA)] = "target"
    test: Annotated[
        str | None,
        typer.Option(help="File to test on; otherwise a twentieth of the data is kept.", rich_help_panel=DATA),
    ] = None
    stream: Stream = False
    stress: Annotated[
        bool, typer.Option("--stress", help="Keep the stress of vowels in the pronunciations.", rich_help_panel=DATA)
    ] = False
    source_tokens: Annotated[Tokens, typer.Option(help="What is read, piece by piece.", rich_help_panel=DATA)] = (
        "characters"
    )
    target_tokens: Annotated[Tokens, typer.Option(help="What is written, piece by piece.", rich_help_panel=DATA)] = (
        "words"
    )
    max_tokens: Annotated[int, typer.Option(min=10, help="Size of a vocabulary, at most.", rich_help_panel=DATA)] = 8000
    attention: Annotated[
        Literal["luong", "gnmt", "bahdanau", "none"],
        typer.Option(
            help="How the decoder looks at the source; gnmt learns in the fewest epochs, bahdanau is the slow one.",
            rich_help_panel=MODEL,
        ),
    ] = "gnmt"
    embedding_size: Annotated[int, _size("Size of the vectors of tokens.")] = 128
    encoder_size: Annotated[int, _size("Size of the encoder's state in each direction.")] = 192
    encoder_layers: Annotated[int, _size("Layers of the encoder.")] = 2
    decoder_size: Annotated[int, _size("Size of the decoder's state.")] = 256
    decoder_layers: Annotated[int, _size("Layers of the decoder: one with bahdanau, two or more with gnmt.")] = 2
    ngrams: Annotated[
        int, _size("N-grams of the source with a vector of their own, the most frequent, at most; 0 is none.", 0)
    ] = 0
    longest_ngram: Annotated[int, _size("Tokens in the longest n-gram: an odd number.", 3)] = 5
    dropout: Annotated[
        float, typer.Option(min=0, max=0.99, help="Dropout between the parts.", rich_help_panel=MODEL)
    ] = 0.1
    label_smoothing: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of a target spread over all tokens.", rich_help_panel=TRAINING),
    ] = 0.1
    warm_up: Annotated[int, typer.Option(min=0, help="Steps of rising learning rate.", rich_help_panel=TRAINING)] = 1000
    beam: Annotated[
        int, typer.Option(min=1, help="Hypotheses of the search when the model is tested.", rich_help_panel=TRAINING)
    ] = 5
    epochs: Epochs = 17
    patience: Patience = 8
    batch_size: BatchSize = 64
    lr: LearningRate = 1.5e-3

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files of the data."""
        return tuple(name for name in (self.data, self.test, self.start_from) if name)


@dataclass(frozen=True, kw_only=True)
class TranslatePredictOptions(TableOptions):
    """How `predict` reads a table, how it searches, and the picture of what the decoder looked at."""

    text: Annotated[str | None, typer.Option(help="Column of the texts, where --file is a table.")] = None
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses of the beam search; 1 is greedy.")] = 5
    best: Annotated[int, typer.Option(min=1, help="Answers for each input, likeliest first.")] = 1
    attention_map: Annotated[str | None, typer.Option(help="Draw what the decoder looked at into this .png file.")] = (
        None
    )
