"""Labelled sequences of vectors as the batches of a classifier's training."""

import torch
from torch import Tensor

from fastgru.data.sequences import LabelledSequences
from fastgru.models import SequenceClassifier
from fastgru.models.sequence_classifier import pad_sequences
from fastgru.training.classify.batches import Batch
from fastgru.training.objective import truth


class SequenceRows:
    """Labelled sequences; indexed by a list of rows, it gives their batch."""

    def __init__(self, rows: LabelledSequences, model: SequenceClassifier) -> None:
        self.sequences: list[Tensor] = [torch.as_tensor(sequence) for sequence in rows.sequences]
        self.lengths = [len(sequence) for sequence in self.sequences]
        self.labels, self.targets = truth(model.config, rows.labels)

    def __len__(self) -> int:
        return len(self.sequences)

    def weight(self, rows: list[int]) -> float:
        """Give how many rows these are."""
        return len(rows)

    def __getitem__(self, rows: list[int]) -> Batch:
        steps, lengths = pad_sequences([self.sequences[row] for row in rows])
        return Batch(steps, lengths, self.labels[rows], self.targets[rows], torch.ones(len(rows)))
