"""TranslateData: the batches of a sequence-to-sequence training, as a Lightning data module."""

from typing import NamedTuple

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastgru.data.labelled import LabelledTexts
from fastgru.data.pairs import references
from fastgru.data.split import Splits
from fastgru.data.text import LengthBuckets
from fastgru.models import Seq2Seq
from fastgru.models.text_classifier import pad_ids


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


class EncodedPairs(Dataset[Batch]):
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

    def __getitem__(self, rows: list[int]) -> Batch:
        sources, targets = ([ids[row] for row in rows] for ids in (self.sources, self.targets))
        known = [] if self.references is None else [self.references[row] for row in rows]
        return Batch(*pad_ids(sources), *pad_ids(targets), known)


class TranslateData(LightningDataModule):
    """Batches of all training pairs, shuffled anew every epoch, and of the validation sources, each once."""

    def __init__(self, splits: Splits[LabelledTexts], model: Seq2Seq, *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train_rows = EncodedPairs(splits.train, model)
        known = references(splits.validation)
        first = LabelledTexts(list(known), [several[0] for several in known.values()])
        self.validation_rows = EncodedPairs(first, model, list(known.values()))
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give the training batches."""
        buckets = LengthBuckets(self.train_rows.lengths, self.batch_size, seed=self.seed)
        # The sampler gives whole batches: batch_size=None keeps the loader from batching them again.
        return DataLoader(self.train_rows, sampler=buckets, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give the validation batches, shortest pairs first."""
        order = sorted(range(len(self.validation_rows)), key=self.validation_rows.lengths.__getitem__)
        batches = [order[first : first + 256] for first in range(0, len(order), 256)]
        return DataLoader(self.validation_rows, sampler=batches, batch_size=None)
