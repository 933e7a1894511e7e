"""The task `translate`: which sequence another one becomes, such as a word its pronunciation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastgru.common.errors import InputError
from fastgru.inference.answers import Translation, translations
from fastgru.training.options import TABLE_FIELDS
from fastgru.training.task import Task
from fastgru.training.translate.options import TranslateOptions, TranslatePredictOptions

if TYPE_CHECKING:
    from fastgru.data.stream import TextSplits
    from fastgru.inference.generation import TextGenerator
    from fastgru.models import Seq2Seq
    from fastgru.training.batches import TaskData
    from fastgru.training.translate.measure import TranslateMeasures
    from fastgru.training.translate.module import TranslateModule


# What a model that is started from has, and keeps.
KEPT = (
    *("attention", "embedding_size", "encoder_size", "encoder_layers", "decoder_size", "decoder_layers"),
    *("ngrams", "longest_ngram"),
)


class Translate(Task[TranslateOptions, "TextSplits", "Seq2Seq"]):
    """Train a model that turns one sequence into another: a GRU encoder and a GRU decoder with attention.

    Without --data it learns how English words are pronounced, from the CMU Pronouncing Dictionary.
    """

    name = "translate"
    example = "--data pairs.tsv --source english --target german --source-tokens subwords --target-tokens subwords "
    example += "--out runs/german"
    options = TranslateOptions
    model_type = "seq2seq"
    columns = ("train_loss", "validation_loss", "validation_sequence_error", "validation_token_error")
    best = "validation_sequence_error"
    best_is = "min"
    files = ("source_tokenizer.json", "target_tokenizer.json")
    reads = ("source", "target", *TABLE_FIELDS)
    predict_options = TranslatePredictOptions
    input_column = "text"
    asks_for = "sequences to translate"

    def load_data(self, options: TranslateOptions) -> "TextSplits":
        """Load and split the pairs."""
        from fastgru.data.pairs import load_pairs

        columns = (options.source, options.target)
        return load_pairs(
            options.data,
            *columns,
            options.test,
            stress=options.stress,
            stream=options.stream,
            table=options.table,
        )

    def build_model(self, options: TranslateOptions, data: "TextSplits") -> "Seq2Seq":
        """Train the tokenizers, and make a model for them."""
        from fastgru.inference.tokens import encode_texts, train_source_tokenizer, train_target_tokenizer
        from fastgru.models import Seq2Seq, Seq2SeqConfig
        from fastgru.models.ngrams import frequent_ngrams

        most = options.max_tokens
        source = train_source_tokenizer(options.source_tokens, data.train.texts, max_tokens=most)
        target = train_target_tokenizer(options.target_tokens, data.train.labels, max_tokens=most)
        ngrams = frequent_ngrams(
            data.train.texts, partial(encode_texts, source), longest=options.longest_ngram, most=options.ngrams
        )
        try:
            config = Seq2SeqConfig(
                source_size=source.get_vocab_size(),
                target_size=target.get_vocab_size(),
                embedding_size=options.embedding_size,
                encoder_size=options.encoder_size,
                encoder_layers=options.encoder_layers,
                decoder_size=options.decoder_size,
                decoder_layers=options.decoder_layers,
                attention=options.attention,
                ngrams=len(ngrams),
                longest_ngram=options.longest_ngram,
                dropout=options.dropout,
            )
        except ValueError as error:  # sizes that do not go together
            raise InputError(str(error)) from error
        model = Seq2Seq(config, source, target)
        model.set_ngrams(ngrams)
        return model

    def continue_model(self, model: "Seq2Seq", options: TranslateOptions, data: "TextSplits") -> "Seq2Seq":
        """Keep the tokens, the sizes and all weights."""
        from fastgru.models import Seq2Seq
        from fastgru.training.start import check_kept

        config = model.config
        check_kept(options, dict.fromkeys(("source_tokens", "target_tokens", "max_tokens")))
        check_kept(options, {name: getattr(config, name) for name in KEPT})
        started = Seq2Seq(replace(config, dropout=options.dropout), model.source_tokenizer, model.target_tokenizer)
        started.load_state_dict(model.state_dict())
        return started

    def module(self, model: "Seq2Seq", options: TranslateOptions) -> "TranslateModule":
        """Give the module with the options' learning rate and label smoothing."""
        from fastgru.training.translate.module import TranslateModule

        return TranslateModule(
            model, lr=options.lr, seed=options.seed, smoothing=options.label_smoothing, warm_up=options.warm_up
        )

    def batches(self, data: "TextSplits", model: "Seq2Seq", options: TranslateOptions) -> "TaskData":
        """Give batches of pairs of like length; in validation each source once."""
        from fastgru.training.batches import TaskData, encoded
        from fastgru.training.translate.batches import EncodedPairs, validation_pairs

        train = encoded(data.train, partial(EncodedPairs, model=model))
        return TaskData(train, validation_pairs(data.validation, model), options, rows=len(data.train))

    def describe(self, data: "TextSplits", model: "Seq2Seq") -> str:
        """Tell the sizes of the parts and of the vocabularies."""
        parts = [f"{len(part):,}" for part in (data.train, data.validation, data.test)]
        config = model.config
        return (
            f"{parts[0]} pairs to train on, {parts[1]} to validate, {parts[2]} to test; "
            f"{config.source_size:,} tokens to read, {config.target_size:,} to write"
        )

    def load_model(self, name: str) -> "Seq2Seq":
        """Load a Seq2Seq."""
        from fastgru.models import Seq2Seq

        return Seq2Seq.from_pretrained(name)

    def load_models(self, names: Sequence[str], *, runtime: bool = False) -> Any:
        """Load a Seq2Seq, or several of the same tokens, which write together."""
        if len(names) == 1:
            return super().load_models(names, runtime=runtime)
        models = [super(Translate, self).load_models([name], runtime=runtime) for name in names]
        ensemble = import_module("fastgru.runtime.models" if runtime else "fastgru.models").Seq2SeqEnsemble
        try:
            return ensemble(models)
        except ValueError as error:
            raise InputError(str(error)) from error

    def measure_test(
        self, model: "TextGenerator", data: "TextSplits", options: TranslateOptions
    ) -> tuple["TranslateMeasures", str]:
        """Measure on the pairs that were kept back."""
        from fastgru.training.translate.measure import measure

        return measure(model, data.test, beam=options.beam), options.test or f"the test part of {options.data}"

    def measure_table(
        self, load: Callable[[], "TextGenerator"], source: str, options: TranslateOptions
    ) -> "TranslateMeasures":
        """Measure on a table's columns of sources and targets."""
        from fastgru.data.table import read_labelled

        rows = read_labelled(source, options.source, options.target, options.table)
        from fastgru.training.translate.measure import measure

        return measure(load(), rows, beam=options.beam)

    def read_inputs(self, given: list[str], file: str | None, options: TranslatePredictOptions) -> list[str]:
        """Give the sources."""
        from fastgru.data.table import read_texts

        return given if file is None else read_texts(file, options.text, options.table)

    def predict(
        self, model: "TextGenerator", inputs: list[str], options: TranslatePredictOptions
    ) -> Iterator[Translation]:
        """Translate the sources, and draw what the decoder looked at where a picture is asked for."""
        from fastgru.training.translate.maps import check_map, draw_attention

        if options.attention_map is not None:
            check_map(model, inputs, options.attention_map)
        found = model.predict(inputs, beam=max(options.beam, options.best), best=options.best)
        if options.attention_map is not None:
            draw_attention(model, inputs, [several[0].text for several in found], options.attention_map)
        yield from translations(inputs, found)
