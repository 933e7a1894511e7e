"""ClassifyData: the batches of a classifier's training, as a Lightning data module."""

from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastgru.data.labelled import LabelledTexts
from fastgru.data.split import Splits
from fastgru.data.text import LengthBuckets
from fastgru.models.text_classifier import TextClassifier, pad_ids


class Batch(NamedTuple):
    """One batch for the classifier.

    `ids [B, T] int64`, `lengths [B] int64`: the texts. `labels [B] int64`: the index of each text's label.
    `targets [B, C] float`: the probabilities that the model should give, from raters where there are some.
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor
    targets: Tensor


class EncodedTexts(Dataset[Batch]):
    """Labelled texts as token ids; indexed by a list of rows, it gives their batch."""

    def __init__(self, rows: LabelledTexts, model: TextClassifier) -> None:
        names = model.config.labels
        self.ids = model.encode(rows.texts)
        self.lengths = [len(ids) for ids in self.ids]
        self.labels = torch.tensor([names.index(label) for label in rows.labels])
        self.targets = torch.nn.functional.one_hot(self.labels, len(names)).float()
        if rows.beliefs is not None:
            self.targets = torch.tensor([[belief[name] for name in names] for belief in rows.beliefs])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: list[int]) -> Batch:
        return Batch(*pad_ids([self.ids[row] for row in rows]), self.labels[rows], self.targets[rows])


class ClassifyData(LightningDataModule):
    """Batches of the training part, shuffled anew every epoch, and of the validation part."""

    def __init__(self, splits: Splits, model: TextClassifier, *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train_rows = EncodedTexts(splits.train, model)
        self.validation_rows = EncodedTexts(splits.validation, model)
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give the training batches."""
        buckets = LengthBuckets(self.train_rows.lengths, self.batch_size, seed=self.seed)
        # The sampler gives whole batches: batch_size=None keeps the loader from batching them again.
        return DataLoader(self.train_rows, sampler=buckets, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give the validation batches, shortest texts first."""
        order = sorted(range(len(self.validation_rows)), key=self.validation_rows.lengths.__getitem__)
        batches = [order[first : first + 256] for first in range(0, len(order), 256)]
        return DataLoader(self.validation_rows, sampler=batches, batch_size=None)
