"""Texts to token ids: training a tokenizer, and batches of texts of like length."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Sampler

from fastgru.models.tokens import PAD, UNKNOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def train_tokenizer(texts: list[str], *, min_count: int = 2, max_words: int = 30_000) -> "Tokenizer":
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


class LengthBuckets(Sampler[list[int]]):
    """Batches of rows in a random order in which the rows of one batch have nearly the same length.

    Every epoch cuts its own shuffle into stretches of `stretch` batches and sorts each by length. The order is a
    function of the seed and the epoch alone, so that a resumed run sees the same batches.
    `lengths [N]`: tokens of each row.
    """

    def __init__(self, lengths: list[int], batch_size: int, *, seed: int = 0, stretch: int = 20) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.stretch = stretch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next. Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        size, span = self.batch_size, self.batch_size * self.stretch
        batches = []
        for start in range(0, len(order), span):
            near = sorted(order[start : start + span], key=self.lengths.__getitem__)
            batches += [near[first : first + size] for first in range(0, len(near), size)]
        for batch in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[batch]
