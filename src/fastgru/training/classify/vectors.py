"""A tokenizer and first word vectors for a classifier, out of a file of vectors that others have trained."""

import logging
from typing import TYPE_CHECKING

import torch

from fastgru.common.errors import InputError
from fastgru.common.processes import rank
from fastgru.data.stream import TextSplits
from fastgru.data.tokenizer import train_tokenizer, word_tokenizer
from fastgru.data.vectors import WordVectors, read_vectors
from fastgru.models import TextClassifier

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OTHERS = 30_000  # words of the file that the training part has not, and that later texts may have
DEVIATION = 0.1  # of the features, to which vectors are scaled: that of vectors which are drawn

_log = logging.getLogger(__name__)


def tokenizer_of_vectors(source: str, data: TextSplits) -> "tuple[Tokenizer, WordVectors]":
    """Make a tokenizer of words: those seen twice, those seen once that have a vector, and OTHERS that have one.

    InputError where not one word of the training part has a vector.
    """
    twice = train_tokenizer(data.train.texts)
    seen = train_tokenizer(data.train.texts, min_count=1, max_words=10**7)
    vocabulary, split = seen.get_vocab(), seen.pre_tokenizer

    def is_word(word: str) -> bool:
        return len(split.pre_tokenize_str(word)) == 1 and split.pre_tokenize_str(word)[0][0] == word

    vectors = read_vectors(source, vocabulary.__contains__, is_word, OTHERS, seen.normalizer.normalize_str)
    have = sum(word in vocabulary for word in vectors.words)
    if not have:
        raise InputError(f"{source} has none of the words to train on: are these vectors of another language?")
    if rank() == 0:
        told = (source, have, len(vocabulary) - 2, vectors.size)
        _log.info("%s has vectors of %d of the %d words to train on, of %d features", *told)
    known = sorted(twice.get_vocab(), key=twice.get_vocab().__getitem__)
    return word_tokenizer(list(dict.fromkeys([*known, *vectors.words]))), vectors


@torch.no_grad()
def set_vectors(model: TextClassifier, vectors: WordVectors) -> None:
    """Begin with these vectors, scaled as those that are drawn; words without one keep theirs."""
    values = torch.from_numpy(vectors.values)
    scale = DEVIATION / max(float(values.std(correction=0)), 1e-12)
    ids = torch.tensor([model.tokenizer.token_to_id(word) for word in vectors.words])
    model.embedding.weight[ids] = values * scale
