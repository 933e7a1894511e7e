"""A new classifier of texts: its tokens, and a model for them."""

import logging
from functools import partial
from typing import TYPE_CHECKING

from fastgru.common.errors import InputError
from fastgru.common.processes import rank
from fastgru.data.stream import TextSplits
from fastgru.data.tokenizer import kind_for, train_tokenizer, unknown_share
from fastgru.inference.tokens import encode_texts
from fastgru.models import TextClassifier, TextClassifierConfig
from fastgru.models.ngrams import frequent_ngrams
from fastgru.training.classify.options import ClassifyOptions
from fastgru.training.classify.threshold import threshold_of
from fastgru.training.targets import configured

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NGRAMS = 50_000  # of characters, where nothing is said

_log = logging.getLogger(__name__)


def build(options: ClassifyOptions, data: TextSplits) -> TextClassifier:
    """Make a model for the texts and the labels of the training part."""
    threshold = threshold_of(options.threshold, data.labels)  # what is wrong with it is said first
    kind, tokenizer = _tokenizer(options, data)
    most = options.ngrams if options.ngrams is not None else NGRAMS if kind == "characters" else 0
    ngrams = frequent_ngrams(
        data.train.texts, partial(encode_texts, tokenizer), longest=options.longest_ngram, most=most
    )
    try:
        config = TextClassifierConfig(
            labels=data.labels,
            vocab_size=tokenizer.get_vocab_size(),
            embedding_size=options.embedding_size,
            hidden_size=options.hidden_size,
            dropout=options.dropout,
            pooling=options.poolings(),
            ngrams=len(ngrams),
            longest_ngram=options.longest_ngram,
            threshold=threshold,
            **configured(data),
        )
    except ValueError as error:  # sizes that do not go together
        raise InputError(str(error)) from error
    model = TextClassifier(config, tokenizer)
    model.set_ngrams(ngrams)
    return model


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
