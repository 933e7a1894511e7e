"""Texts to token ids: training a tokenizer."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastgru.inference.tokens import PAD, UNKNOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def train_tokenizer(texts: Iterable[str], *, min_count: int = 2, max_words: int = 30_000) -> "Tokenizer":
    """Train a tokenizer for lower-cased words and punctuation marks on `texts`.

    Words seen fewer than `min_count` times, and all but the `max_words` most frequent ones, become `[UNK]` (id 1).
    Id 0 is the padding.
    """
    # The library warns of its thread pool in every forked child; a data loader's workers are such children.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words, min_frequency=min_count, special_tokens=[PAD, UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
