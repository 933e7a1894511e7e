"""The task `classify`: which label a text has."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from fastgru.training.options import TrainOptions
from fastgru.training.task import Task

if TYPE_CHECKING:
    from fastgru.data.split import Splits
    from fastgru.models import TextClassifier
    from fastgru.training.classify.batches import ClassifyData
    from fastgru.training.classify.measure import ClassifiedText, ClassifyMeasures
    from fastgru.training.classify.module import ClassifyModule

DATA, MODEL = "Data", "Model"


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(TrainOptions):
    """The options of a classifier's training.

    `data`, `text`, `label`, `test`: where the texts come from (`fastgru.data.split.load_splits`).
    """

    task = "classify"

    data: Annotated[
        str,
        typer.Option(
            help="'reviews', a .csv, .tsv, .jsonl or .parquet file, or a Hugging Face dataset (name, folder).",
            rich_help_panel=DATA,
        ),
    ] = "reviews"
    text: Annotated[str, typer.Option(help="Column of the texts.", rich_help_panel=DATA)] = "text"
    label: Annotated[str, typer.Option(help="Column of the labels.", rich_help_panel=DATA)] = "label"
    test: Annotated[
        str | None,
        typer.Option(help="File to test on; otherwise a tenth of the data is kept.", rich_help_panel=DATA),
    ] = None
    embedding_size: Annotated[int, typer.Option(min=1, help="Size of the word vectors.", rich_help_panel=MODEL)] = 200
    hidden_size: Annotated[
        int, typer.Option(min=1, help="Size of the GRU's state in each direction.", rich_help_panel=MODEL)
    ] = 64
    dropout: Annotated[
        float, typer.Option(min=0, max=0.99, help="Dropout before the last layer.", rich_help_panel=MODEL)
    ] = 0.5

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files of the data."""
        return tuple(name for name in (self.data, self.test) if name)


@dataclass(frozen=True)
class ClassifyPredictOptions:
    """How `predict` reads a table."""

    text: Annotated[str | None, typer.Option(help="Column of the texts, where --file is a table.")] = None


class Classify(Task[ClassifyOptions, "Splits", "TextClassifier"]):
    """Train a text classifier: a bidirectional GRU.

    Without --data it learns to tell positive from negative movie reviews.
    """

    name = "classify"
    example = "--data mail.csv --text body --label folder --out runs/mail"
    options = ClassifyOptions
    model_type = "text_classifier"
    columns = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    best = "validation_accuracy"
    files = ("tokenizer.json",)
    reads = ("text", "label")
    predict_options = ClassifyPredictOptions
    asks_for = "texts to classify"

    def load_data(self, options: ClassifyOptions) -> "Splits":
        """Load and split the texts."""
        from fastgru.data.split import load_splits

        return load_splits(options.data, options.text, options.label, options.test)

    def build_model(self, options: ClassifyOptions, data: "Splits") -> "TextClassifier":
        """Train the tokenizer, and make a model for it."""
        from fastgru.data.text import train_tokenizer
        from fastgru.models import TextClassifier, TextClassifierConfig

        tokenizer = train_tokenizer(data.train.texts)
        config = TextClassifierConfig(
            labels=data.labels,
            vocab_size=tokenizer.get_vocab_size(),
            embedding_size=options.embedding_size,
            hidden_size=options.hidden_size,
            dropout=options.dropout,
        )
        return TextClassifier(config, tokenizer)

    def module(self, model: "TextClassifier", options: ClassifyOptions) -> "ClassifyModule":
        """Give the module with the options' learning rate."""
        from fastgru.training.classify.module import ClassifyModule

        return ClassifyModule(model, lr=options.lr, seed=options.seed)

    def batches(self, data: "Splits", model: "TextClassifier", options: ClassifyOptions) -> "ClassifyData":
        """Give batches of texts of like length."""
        from fastgru.training.classify.batches import ClassifyData

        return ClassifyData(data, model, batch_size=options.batch_size, seed=options.seed)

    def describe(self, data: "Splits", model: "TextClassifier") -> str:
        """Tell the sizes of the parts, the labels and the tokens."""
        return (
            f"{len(data.train):,} texts to train on, {len(data.validation):,} to validate, {len(data.test):,} "
            f"to test; labels: {', '.join(data.labels)}; {model.config.vocab_size:,} tokens"
        )

    def load_model(self, name: str) -> "TextClassifier":
        """Load a TextClassifier."""
        from fastgru.models import TextClassifier

        return TextClassifier.from_pretrained(name)

    def measure_test(
        self, model: "TextClassifier", data: "Splits", options: ClassifyOptions
    ) -> tuple["ClassifyMeasures", str]:
        """Measure on the texts that were kept back."""
        from fastgru.training.classify.measure import measure

        source = options.test or f"the test part of {options.data}"
        return measure(model, data.test, source), source

    def measure_table(self, model: "TextClassifier", source: str, options: ClassifyOptions) -> "ClassifyMeasures":
        """Measure on a table's columns of texts and labels."""
        from fastgru.data.table import read_labelled
        from fastgru.training.classify.measure import measure

        return measure(model, read_labelled(source, options.text, options.label), source)

    def read_inputs(self, given: list[str], file: str | None, options: ClassifyPredictOptions) -> list[str]:
        """Give the texts."""
        from fastgru.data.table import read_texts

        return given if file is None else read_texts(file, options.text)

    def predict(
        self, model: "TextClassifier", inputs: list[str], options: ClassifyPredictOptions
    ) -> Iterator["ClassifiedText"]:
        """Classify the texts."""
        from fastgru.training.classify.measure import ClassifiedText

        for text, found in zip(inputs, model.predict(inputs), strict=True):
            yield ClassifiedText(text, found.label, found.probabilities)
