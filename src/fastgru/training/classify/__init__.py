"""The task `classify`: which label a text has."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastgru.common.errors import InputError
from fastgru.common.processes import rank
from fastgru.inference.answers import AnsweredText, text_answer
from fastgru.training.classify.options import ClassifyOptions, ClassifyPredictOptions
from fastgru.training.classify.threshold import set_threshold
from fastgru.training.options import TABLE_FIELDS
from fastgru.training.targets import TARGET_FIELDS, columns_for
from fastgru.training.task import Best, Task

if TYPE_CHECKING:
    from fastgru.data.stream import TextSplits
    from fastgru.models import TextClassifier
    from fastgru.training.batches import TaskData
    from fastgru.training.classify.module import ClassifyModule
    from fastgru.training.task import Measures


__all__ = ["Classify", "ClassifyOptions"]

BUCKET = 4096  # texts that are sorted by length together: whoever waits sees the first of many soon


class Classify(Task[ClassifyOptions, "TextSplits", "TextClassifier"]):
    """Train a text classifier: a bidirectional GRU.

    Without --data it learns to tell positive from negative movie reviews.
    """

    name = "classify"
    example = "--data mail.csv --text body --label folder --out runs/mail"
    options = ClassifyOptions
    model_type = "text_classifier"
    columns = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "validation_f1")
    best = "validation_accuracy"
    files = ("tokenizer.json",)
    reads = ("text", "label", "threshold", *TARGET_FIELDS, *TABLE_FIELDS)
    predict_options = ClassifyPredictOptions
    input_column = "text"
    asks_for = "texts to classify"

    def best_by(self, options: ClassifyOptions) -> Best:
        """Find the best epoch by the metric that was asked for."""
        if options.target is not None or options.metric == "loss":
            return Best("validation_loss", "min")
        if options.targets is not None:  # of several labels: all right is too rare to choose by
            return Best("validation_f1", "max")
        return Best(f"validation_{options.metric}", "max")

    def columns_for(self, options: ClassifyOptions) -> tuple[str, ...]:
        """Give the columns of the log: those of numbers are others."""
        return columns_for(options, self.columns)

    def load_data(self, options: ClassifyOptions) -> "TextSplits":
        """Load and split the texts."""
        if options.vectors is not None:
            from fastgru.data.vectors import check_vectors

            check_vectors(options.vectors)
        from fastgru.data.texts import load_splits

        return load_splits(
            options.data,
            options.text,
            options.column,
            options.test,
            stream=options.stream,
            table=options.table,
            targets=options.targets,
        )

    def build_model(self, options: ClassifyOptions, data: "TextSplits") -> "TextClassifier":
        """Train the tokenizer, and make a model for it."""
        from fastgru.training.classify.build import build

        return build(options, data)

    def continue_model(self, model: "TextClassifier", options: ClassifyOptions, data: "TextSplits") -> "TextClassifier":
        """Keep tokens, sizes and weights; in the last layer, of the labels that both have."""
        from fastgru.training.classify.build import continue_model

        return continue_model(model, options, data)

    def module(self, model: "TextClassifier", options: ClassifyOptions) -> "ClassifyModule[TextClassifier]":
        """Give the module with the options' learning rate."""
        from fastgru.training.classify.module import ClassifyModule

        return ClassifyModule(model, lr=options.lr, seed=options.seed)

    def batches(self, data: "TextSplits", model: "TextClassifier", options: ClassifyOptions) -> "TaskData":
        """Give batches of texts of like length."""
        from fastgru.training.batches import TaskData, encoded
        from fastgru.training.classify.batches import EncodedTexts, label_weights, tell_unknown

        weights = label_weights(options, data.train.label_counts) if data.targets is None else None
        encode = partial(EncodedTexts, model=model, weights=weights)
        validation = encode(data.validation)
        if rank() == 0:
            tell_unknown(validation.ids)
        return TaskData(encoded(data.train, encode), validation, options, rows=len(data.train))

    def describe(self, data: "TextSplits", model: "TextClassifier") -> str:
        """Tell the sizes of the parts, the labels and the tokens."""
        return (
            f"{len(data.train):,} texts to train on, {len(data.validation):,} to validate, {len(data.test):,} "
            f"to test; labels: {', '.join(data.labels)}; {model.config.vocab_size:,} tokens"
        )

    def load_model(self, name: str) -> "TextClassifier":
        """Load a TextClassifier."""
        from fastgru.models import TextClassifier

        return TextClassifier.from_pretrained(name)

    def check_runtime(self, options: ClassifyPredictOptions) -> None:
        """InputError for a page of explanations, which are made of gradients."""
        if options.explain is not None:
            raise InputError("--explain needs torch: leave out --runtime")

    def measure_test(
        self, model: "TextClassifier", data: "TextSplits", options: ClassifyOptions
    ) -> tuple["Measures", str]:
        """Measure on the texts that were kept back."""
        from fastgru.training.classify.measure import measure

        source = options.test or f"the test part of {options.data}"
        set_threshold(model, options.threshold)
        return measure(model, data.test, source), source

    def measure_table(self, load: Callable[[], "TextClassifier"], source: str, options: ClassifyOptions) -> "Measures":
        """Measure on a table's columns of texts and labels."""
        from fastgru.data.table import read_labelled

        rows = read_labelled(source, options.text, options.column, options.table, options.targets)
        from fastgru.training.classify.measure import measure

        model = load()
        set_threshold(model, options.threshold)
        measures: Measures = measure(model, rows, source)
        return measures

    def read_inputs(self, given: list[str], file: str | None, options: ClassifyPredictOptions) -> list[str]:
        """Give the texts."""
        from fastgru.data.table import read_texts

        if options.explain is not None:
            _check_page(options.explain)
        return given if file is None else read_texts(file, options.text, options.table)

    def predict(
        self, model: "TextClassifier", inputs: list[str], options: ClassifyPredictOptions
    ) -> Iterator[AnsweredText]:
        """Classify the texts, and write the page that explains the labels where one is asked for."""
        set_threshold(model, options.threshold)
        if options.explain is not None:
            from fastgru.models.attribution import attribute
            from fastgru.training.classify.page import write_page

            write_page(attribute(model, inputs), options.explain)
        for first in range(0, len(inputs), BUCKET):
            texts = inputs[first : first + BUCKET]
            for text, found in zip(texts, model.predict(texts), strict=True):
                yield text_answer(text, found)


def _check_page(path: Path) -> None:
    """InputError where no page can be written to `path`: before anything is computed."""
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir() or not path.parent.is_dir():
        raise InputError(f"--explain {path}: expected the name of an .html file in a folder that is there")
