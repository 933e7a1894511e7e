"""A new classifier of texts: its tokens, and a model for them."""

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fastgru.common.errors import InputError
from fastgru.common.processes import rank
from fastgru.data.stream import TextSplits
from fastgru.data.tokenizer import kind_for, train_tokenizer, unknown_share
from fastgru.inference.tokens import encode_texts
from fastgru.models import TextClassifier, TextClassifierConfig
from fastgru.models.ngrams import frequent_ngrams
from fastgru.training.classify.options import ClassifyOptions
from fastgru.training.classify.threshold import threshold_of
from fastgru.training.classify.vectors import set_vectors, tokenizer_of_vectors
from fastgru.training.start import check_kept, take_over
from fastgru.training.targets import configured

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NGRAMS = 50_000  # of characters, where nothing is said
# On the vectors of characters: of messages in 32 languages (`benchmarks.text_baselines`) 0.796 of the validation part
# were right with 0.2 and 0.814 with 0.4; with 0.6, as for words, the training part itself is not learned.
CHARACTER_DROPOUT = 0.4

_log = logging.getLogger(__name__)


def build(options: ClassifyOptions, data: TextSplits) -> TextClassifier:
    """Make a model for the texts and the labels of the training part."""
    threshold = threshold_of(options.threshold, data.labels)  # what is wrong with it is said first
    if options.vectors is not None:
        return _build_of_vectors(options, data, options.vectors, threshold)
    kind, tokenizer = _tokenizer(options, data)
    most = options.ngrams if options.ngrams is not None else NGRAMS if kind == "characters" else 0
    ngrams = frequent_ngrams(
        data.train.texts, partial(encode_texts, tokenizer), longest=options.longest_ngram, most=most
    )
    own = {"embedding_dropout": CHARACTER_DROPOUT} if kind == "characters" else {}
    model = _model(
        options,
        data,
        tokenizer,
        embedding_size=options.embedding_size,
        ngrams=len(ngrams),
        threshold=threshold,
        **own,
    )
    model.set_ngrams(ngrams)
    return model


def continue_model(before: TextClassifier, options: ClassifyOptions, data: TextSplits) -> TextClassifier:
    """Make a model for the labels of the training part that starts from a saved one."""
    config = before.config
    kept = {"tokens": None, "vectors": None, "ngrams": config.ngrams, "longest_ngram": config.longest_ngram}
    check_kept(options, {**kept, "embedding_size": config.embedding_size, "hidden_size": config.hidden_size})
    if options.pooling != ClassifyOptions.pooling and options.poolings() != config.pooling:
        check_kept(options, {"pooling": ",".join(config.pooling)})
    threshold = config.threshold if data.labels == config.labels else None
    if options.threshold is not None:
        threshold = threshold_of(options.threshold, data.labels)
    told = {"dropout": options.dropout, "threshold": threshold, **configured(data)}
    config = replace(config, labels=data.labels, **told)
    model = TextClassifier(config, before.tokenizer)
    take_over(model, before)
    return model


def _build_of_vectors(
    options: ClassifyOptions, data: TextSplits, source: str, threshold: float | None
) -> TextClassifier:
    """Make a model that begins with the word vectors of a file, which say how many features there are."""
    tokenizer, vectors = tokenizer_of_vectors(source, data)
    if options.embedding_size not in (ClassifyOptions.embedding_size, vectors.size):
        given = f"--embedding-size {options.embedding_size}"
        raise InputError(f"{given}: leave it out, the vectors of {source} have {vectors.size} features")
    model = _model(options, data, tokenizer, embedding_size=vectors.size, threshold=threshold)
    set_vectors(model, vectors)
    return model


def _model(options: ClassifyOptions, data: TextSplits, tokenizer: "Tokenizer", **own: Any) -> TextClassifier:
    """Make a model; `own`: fields of its configuration that are not the options' alone."""
    try:
        config = TextClassifierConfig(
            labels=data.labels,
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=options.hidden_size,
            dropout=options.dropout,
            pooling=options.poolings(),
            longest_ngram=options.longest_ngram,
            **configured(data),
            **own,
        )
    except ValueError as error:  # sizes that do not go together
        raise InputError(str(error)) from error
    return TextClassifier(config, tokenizer)


def _tokenizer(options: ClassifyOptions, data: TextSplits) -> "tuple[str, Tokenizer]":
    """Give the kind of tokens and their tokenizer: those asked for, otherwise those that suit the texts."""
    if options.tokens is not None:
        return options.tokens, train_tokenizer(data.train.texts, options.tokens)
    words = train_tokenizer(data.train.texts)
    texts = data.validation.texts
    unknown = unknown_share(encode_texts(words, texts))
    kind = kind_for(texts, unknown)
    if kind == "words":
        return kind, words
    if rank() == 0:
        told = (100 * unknown, kind)
        _log.info("%.0f %% of the words to validate on are unknown, or lack spaces: read as %s (--tokens)", *told)
    return kind, train_tokenizer(data.train.texts, kind)
