"""The task `signals`: which label a sequence of vectors has: who speaks, which word was said, how someone moves."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from fastgru.common.errors import InputError
from fastgru.inference.answers import AnsweredSignal, signal_answer
from fastgru.training.signals.options import SignalsOptions, SignalsPredictOptions
from fastgru.training.targets import TARGET_FIELDS, columns_for, configured
from fastgru.training.task import Task

if TYPE_CHECKING:
    from fastgru.data.signals import SignalSplits
    from fastgru.models import SequenceClassifier
    from fastgru.training.batches import TaskData
    from fastgru.training.signals.module import SignalsModule
    from fastgru.training.task import Measures


class Signals(Task[SignalsOptions, "SignalSplits", "SequenceClassifier"]):
    """Train a classifier of speech and other signals: a bidirectional GRU.

    Without --data it learns to tell nine speakers by how they say two vowels.
    """

    name = "signals"
    example = "--data recordings --out runs/words"
    options = SignalsOptions
    model_type = "sequence_classifier"
    columns = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "validation_trend")
    best = "validation_trend"
    best_is = "min"
    reads = ("path", "label", *TARGET_FIELDS)
    predict_options = SignalsPredictOptions
    asks_for = "files or folders to classify"

    def columns_for(self, options: SignalsOptions) -> tuple[str, ...]:
        """Give the columns of the log: those of numbers are others."""
        return columns_for(options, self.columns)

    def load_data(self, options: SignalsOptions) -> "SignalSplits":
        """Load and split the sequences."""
        from fastgru.data.listing import Columns
        from fastgru.data.signals import load_signals
        from fastgru.models import LogMel

        features = LogMel(options.sample_rate, options.num_bins, centred=bool(options.centred))
        return load_signals(
            options.data,
            options.test,
            features,
            stream=options.stream,
            columns=Columns(options.path, options.target or options.label, options.groups),
            choose_centred=options.centred is None,
            targets=options.targets,
        )

    def build_model(self, options: SignalsOptions, data: "SignalSplits") -> "SequenceClassifier":
        """Make a model that standardises by the training part."""
        from fastgru.models import SequenceClassifier, SequenceClassifierConfig

        config = SequenceClassifierConfig(
            labels=data.labels,
            input_size=data.train.input_size,
            hidden_size=options.hidden_size,
            num_layers=options.num_layers,
            bidirectional=options.bidirectional,
            noise=options.noise,
            dropout=options.dropout,
            features=data.features,
            **configured(data),
        )
        model = SequenceClassifier(config)
        model.fit_standardisation(data.train.sequences)
        return model

    def continue_model(
        self, model: "SequenceClassifier", options: SignalsOptions, data: "SignalSplits"
    ) -> "SequenceClassifier":
        """Keep features, standardisation, sizes and weights; in the last layer, of the labels that both have."""
        from fastgru.models import SequenceClassifier
        from fastgru.training.start import check_kept, check_problem, take_over

        config = model.config
        check_problem(config, data)
        names = ("hidden_size", "num_layers", "bidirectional")
        check_kept(options, {name: getattr(config, name) for name in names})
        if (config.input_size, config.features) != (data.train.input_size, data.features):
            heard = (config.features or f"{config.input_size} features", data.features or f"{data.train.input_size}")
            raise InputError(f"the model of --from hears {heard[0]} a step, and the data have {heard[1]}")
        config = replace(config, labels=data.labels, noise=options.noise, dropout=options.dropout, **configured(data))
        started = SequenceClassifier(config)
        take_over(started, model)
        return started

    def module(self, model: "SequenceClassifier", options: SignalsOptions) -> "SignalsModule":
        """Give the module with the options' learning rate."""
        from fastgru.training.signals.augment import Augment
        from fastgru.training.signals.module import SignalsModule

        features = model.config.features
        augment = Augment(features, options.warp, options.tempo, options.masks) if features else None
        return SignalsModule(model, lr=options.lr, seed=options.seed, augment=augment)

    def batches(self, data: "SignalSplits", model: "SequenceClassifier", options: SignalsOptions) -> "TaskData":
        """Give batches of sequences of like length."""
        from fastgru.training.batches import TaskData, encoded
        from fastgru.training.signals.batches import SequenceRows

        encode = partial(SequenceRows, model=model)
        return TaskData(encoded(data.train, encode), encode(data.validation), options, rows=len(data.train))

    def describe(self, data: "SignalSplits", model: "SequenceClassifier") -> str:
        """Tell the sizes of the parts, the labels and the features."""
        heard = f" of sounds at {data.features.sample_rate:,} Hz" if data.features else ""
        heard += ", centred" if data.features and data.features.centred else ""
        return (
            f"{len(data.train):,} sequences to train on, {len(data.validation):,} to validate, {len(data.test):,} "
            f"to test; labels: {', '.join(data.labels)}; {data.train.input_size} features{heard}"
        )

    def load_model(self, name: str) -> "SequenceClassifier":
        """Load a SequenceClassifier."""
        from fastgru.models import SequenceClassifier

        return SequenceClassifier.from_pretrained(name)

    def measure_test(
        self, model: "SequenceClassifier", data: "SignalSplits", options: SignalsOptions
    ) -> tuple["Measures", str]:
        """Measure on the sequences that were kept back."""
        from fastgru.training.signals.measure import measure_signals

        source = options.test or f"the test part of {options.data}"
        return measure_signals(model, data.test, source), source

    def measure_table(
        self, load: Callable[[], "SequenceClassifier"], source: str, options: SignalsOptions
    ) -> "Measures":
        """Measure on a folder or file of labelled sequences."""
        from fastgru.data.listing import Columns
        from fastgru.data.signals import read_labelled_signals
        from fastgru.training.signals.measure import measure_signals

        model = load()
        columns = Columns(options.path, options.target or options.label)
        rows = read_labelled_signals(source, model.config.features, columns, options.targets)
        measures: Measures = measure_signals(model, rows, source)
        return measures

    def read_inputs(self, given: list[str], file: str | None, options: SignalsPredictOptions) -> list[str]:
        """Give the files' names; `file` has one a line."""
        from fastgru.data.table import read_texts

        return given if file is None else read_texts(file, None)

    def predict(
        self, model: "SequenceClassifier", inputs: list[str], options: SignalsPredictOptions
    ) -> Iterator[AnsweredSignal]:
        """Classify what is in the files."""
        from fastgru.data.signals import read_signals

        names, sequences = zip(*read_signals(inputs, model.config.features), strict=True)
        for name, found in zip(names, model.predict(sequences), strict=True):
            yield signal_answer(name, found)
