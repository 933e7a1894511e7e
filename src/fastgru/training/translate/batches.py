"""Pairs as token ids, and the batches of a sequence-to-sequence training that they make."""

from typing import NamedTuple

from torch import Tensor

from fastgru.data.labelled import LabelledTexts
from fastgru.data.pairs import references
from fastgru.models import Seq2Seq
from fastgru.models.tokens import pad_ids


class Batch(NamedTuple):
    """One batch of pairs.

    `source_ids [B, S] int64`, `source_lengths [B] int64`: what is read, its end included.
    `target_ids [B, T] int64`, `target_lengths [B] int64`: what is written, begin and end included.
    `references`: in validation all targets of each source, the first of them this one; otherwise empty.
    """

    source_ids: Tensor
    source_lengths: Tensor
    target_ids: Tensor
    target_lengths: Tensor
    references: list[list[str]]


class EncodedPairs:
    """Pairs as token ids; indexed by a list of rows, it gives their batch.

    `references`: all targets of each row's source, or None.
    """

    def __init__(self, rows: LabelledTexts, model: Seq2Seq, references: list[list[str]] | None = None) -> None:
        self.sources = model.encode_sources(rows.texts)
        self.targets = model.encode_targets(rows.labels)
        self.lengths = [len(source) + len(target) for source, target in zip(self.sources, self.targets, strict=True)]
        self.references = references

    def __len__(self) -> int:
        return len(self.sources)

    def weight(self, rows: list[int]) -> float:
        """Give how many tokens are written: the targets' but their beginnings."""
        return sum(len(self.targets[row]) - 1 for row in rows)

    def __getitem__(self, rows: list[int]) -> Batch:
        sources, targets = ([ids[row] for row in rows] for ids in (self.sources, self.targets))
        known = [] if self.references is None else [self.references[row] for row in rows]
        return Batch(*pad_ids(sources), *pad_ids(targets), known)


def validation_pairs(rows: LabelledTexts, model: Seq2Seq) -> EncodedPairs:
    """Give each source once, with the first of its targets, and all of them as references."""
    known = references(rows)
    first = LabelledTexts(list(known), [several[0] for several in known.values()])
    return EncodedPairs(first, model, list(known.values()))
