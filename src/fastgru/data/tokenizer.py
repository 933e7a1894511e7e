"""Texts to token ids: training a tokenizer of words, characters or subwords, and choosing among them."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastgru.inference.tokens import PAD, UNKNOWN, UNKNOWN_ID

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_SUBWORDS = 8_000
UNKNOWN_SHARE = 0.25  # from which words are given up: of real English texts, thousands of them, 0.05 to 0.1 are unknown
LONG_RUN = 12  # characters between spaces, on the mean, from which a text has too few spaces to be one of words
LONG_TEXT = 400  # characters, on the mean, from which one step a character costs too much


def train_tokenizer(
    texts: Iterable[str], kind: str = "words", *, min_count: int = 2, max_words: int = 30_000
) -> "Tokenizer":
    """Train a tokenizer on `texts`, which are lower-cased.

    `kind`: "words" (and punctuation marks), "characters", or "subwords" (BPE, MOST_SUBWORDS of them at most).
    Tokens seen fewer than `min_count` times, and all but the `max_words` most frequent ones, become `[UNK]` (id 1).
    Id 0 is the padding.
    """
    # The library warns of its thread pool in every forked child; a data loader's workers are such children.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from tokenizers import normalizers

    tokenizer, trainer = _subwords(min_count) if kind == "subwords" else _whole(kind, min_count, max_words)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def word_tokenizer(words: Sequence[str]) -> "Tokenizer":
    """Make a tokenizer of these words, which are lower-cased, with ids in this order; the first are PAD and UNKNOWN."""
    from tokenizers import models

    tokenizer = train_tokenizer([])
    tokenizer.model = models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=UNKNOWN)
    return tokenizer


def _whole(kind: str, min_count: int, most: int) -> "tuple[Tokenizer, Any]":
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    if kind == "words":
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    special = [PAD, UNKNOWN]
    return tokenizer, trainers.WordLevelTrainer(
        vocab_size=most, min_frequency=min_count, special_tokens=special, show_progress=False
    )


def _subwords(min_count: int) -> "tuple[Tokenizer, Any]":
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    special = [PAD, UNKNOWN]
    return tokenizer, trainers.BpeTrainer(
        vocab_size=MOST_SUBWORDS, min_frequency=min_count, special_tokens=special, show_progress=False
    )


def unknown_share(ids: Iterable[list[int]]) -> float:
    """Give the share of the tokens that are unknown, 0 where there are none."""
    total = unknown = 0
    for own in ids:
        total, unknown = total + len(own), unknown + own.count(UNKNOWN_ID)
    return unknown / max(total, 1)


def kind_for(texts: Sequence[str], unknown: float) -> str:
    """Choose the kind of tokens for texts like these, of whose words the share `unknown` is not known.

    Words, where they are separated by spaces and three of four are known; otherwise characters, or subwords where the
    texts are so long that a step a character would cost too much.
    """
    characters = sum(map(len, texts))
    runs = sum(len(text.split()) for text in texts)
    if unknown <= UNKNOWN_SHARE and characters <= LONG_RUN * runs:
        return "words"
    return "characters" if characters <= LONG_TEXT * len(texts) else "subwords"
