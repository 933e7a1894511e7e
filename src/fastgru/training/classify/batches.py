"""Labelled texts as token ids, and the batches of a classifier's training that they make."""

import logging
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from fastgru.common.errors import InputError
from fastgru.data.labelled import LabelledTexts
from fastgru.data.tokenizer import unknown_share
from fastgru.models.text_classifier import TextClassifier
from fastgru.models.tokens import pad_ids
from fastgru.training.classify.options import ClassifyOptions
from fastgru.training.objective import truth

_log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """One batch for the classifier.

    `steps`, `lengths [B] int64`: the sequences, `[B, T] int64` token ids or `[B, T, I] float32` vectors.
    `labels [B] int64`: the index of each one's label.
    `targets [B, C] float`: the probabilities that the model should give, from raters where there are some.
    `weights [B] float`: how much each sequence counts, 1 on the mean of the training part.
    """

    steps: Tensor
    lengths: Tensor
    labels: Tensor
    targets: Tensor
    weights: Tensor


def label_weights(options: ClassifyOptions, counts: "Counter[str]") -> dict[str, float]:
    """Give how much a text of each label counts: 1 on the mean over the training part.

    `counts`: of each label in the training part.

    "balanced" gives every label the same share, N / (C n_c), as scikit-learn's. InputError for a label that is named
    and not there.
    """
    total = counts.total()
    if options.class_weights == "none":
        return dict.fromkeys(counts, 1.0)
    if options.class_weights == "balanced":
        return {name: total / (len(counts) * count) for name, count in counts.items()}
    given = options.weight_of_label()
    unknown = sorted(set(given) - set(counts))
    if unknown:
        raise InputError(f"--class-weights names {unknown[0]!r}, and the labels are: {', '.join(sorted(counts))}")
    weights = {name: given.get(name, 1.0) for name in counts}
    mean = sum(weights[name] * count for name, count in counts.items()) / total
    return {name: weight / mean for name, weight in weights.items()}


def tell_unknown(ids: list[list[int]]) -> None:
    """Tell where most tokens of the texts are unknown: such a model tells labels by chance."""
    unknown = unknown_share(ids)
    if unknown > 0.5:
        _log.warning(
            "%.0f %% of the tokens to validate on are not among those to train on: nothing can be learned of them; try "
            "--tokens characters, and is it the right column?",
            100 * unknown,
        )


class EncodedTexts:
    """Labelled texts as token ids; indexed by a list of rows, it gives their batch.

    `weights`: how much a text of each label counts; 1 where it is left out.
    """

    def __init__(self, rows: LabelledTexts, model: TextClassifier, weights: dict[str, float] | None = None) -> None:
        names = model.config.labels
        self.ids = model.encode(rows.texts)
        self.lengths = [len(ids) for ids in self.ids]
        self.labels, self.targets = truth(model.config, rows.labels)
        if rows.soft_labels is not None:
            self.targets = torch.tensor([[soft_label[name] for name in names] for soft_label in rows.soft_labels])
        self.weights = torch.tensor([weights[label] if weights else 1.0 for label in rows.labels])
        if rows.weights is not None:
            own = self.weights * torch.tensor(rows.weights)
            self.weights = own / own.mean()

    def __len__(self) -> int:
        return len(self.ids)

    def weight(self, rows: list[int]) -> float:
        """Give how many rows these are."""
        return len(rows)

    def __getitem__(self, rows: list[int]) -> Batch:
        ids, lengths = pad_ids([self.ids[row] for row in rows])
        return Batch(ids, lengths, self.labels[rows], self.targets[rows], self.weights[rows])
