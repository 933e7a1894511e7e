"""Objectives: the loss of a classifier's logits and what is measured beside it, a class for each problem type."""

from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import BinaryF1Score, MulticlassF1Score, MultilabelF1Score

from fastgru.data.targets import BETWEEN, split_labels
from fastgru.inference.problem import MULTI, REGRESSION, SINGLE


class Truth(NamedTuple):
    """`labels [B] int64`: the index of each row's label, 0 where it has not one. `targets [B, C] float`."""

    labels: Tensor
    targets: Tensor


class Batch(Protocol):
    """What an objective looks at."""

    @property
    def labels(self) -> Tensor:
        """The index of each row's label, `[B] int64`; 0 where it has not one."""

    @property
    def targets(self) -> Tensor:
        """What the logits should say, `[B, C] float`."""


class Objective(Protocol):
    """`measure`: the name of what `measured` gives, of which the log has the mean."""

    measure: ClassVar[str]

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Give the loss of each row, `[B]`."""

    def measured(self, logits: Tensor, batch: Batch) -> Tensor:
        """Give the measure of each row, `[B]`."""

    def f1(self) -> Metric | None:
        """Give a metric of F1, where there is one."""

    def f1_of(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Give what that metric compares: what is told, and what is right."""


class SingleLabel:
    """Cross entropy towards the targets; accuracy."""

    measure = "accuracy"

    def __init__(self, model: Any) -> None:
        self.model = model

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Give the cross entropy."""
        return nn.functional.cross_entropy(logits, batch.targets, reduction="none")

    def measured(self, logits: Tensor, batch: Batch) -> Tensor:
        """Say whether the label is right."""
        return (self._told(logits) == batch.labels).float()

    def f1(self) -> Metric | None:
        """Give the mean of the labels' F1."""
        return MulticlassF1Score(len(self.model.config.labels), average="macro")

    def f1_of(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Give labels."""
        return self._told(logits), batch.labels

    def _told(self, logits: Tensor) -> Tensor:
        """Give the label `[B]` that the model tells: the likeliest, or what its threshold says."""
        threshold = self.model.threshold
        return logits.argmax(1) if threshold is None else (logits.softmax(1)[:, 1] >= threshold).long()


class MultiLabel:
    """Binary cross entropy, the mean over the labels; accuracy is the share of rows whose labels are all right."""

    measure = "accuracy"

    def __init__(self, model: Any) -> None:
        self.labels = len(model.config.labels)

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Give the mean binary cross entropy."""
        return nn.functional.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none").mean(1)

    def measured(self, logits: Tensor, batch: Batch) -> Tensor:
        """Say whether all labels are right."""
        return ((logits > 0) == (batch.targets > 0.5)).all(1).float()

    def f1(self) -> Metric | None:
        """Give F1 over all labels together, which means something where each row has few of many."""
        return MultilabelF1Score(self.labels, average="micro") if self.labels > 1 else BinaryF1Score()

    def f1_of(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Give which labels are told, and which are right."""
        return (logits > 0).long(), (batch.targets > 0.5).long()


class Regression:
    """Squared error of the standardised targets; `error` is the absolute error, in the targets' units."""

    measure = "error"

    def __init__(self, model: Any) -> None:
        self.deviation = torch.tensor(model.config.target_deviation)

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Give the squared error."""
        return (logits - batch.targets).square().mean(1)

    def measured(self, logits: Tensor, batch: Batch) -> Tensor:
        """Give the absolute error."""
        return ((logits - batch.targets).abs() * self.deviation.to(logits)).mean(1)

    def f1(self) -> Metric | None:
        """Nothing is told that could be right."""
        return None

    def f1_of(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Never asked for."""
        raise NotImplementedError


OBJECTIVES: dict[str, type[Any]] = {SINGLE: SingleLabel, MULTI: MultiLabel, REGRESSION: Regression}
MEASURES = {SINGLE: ("accuracy", "f1"), MULTI: ("accuracy", "f1"), REGRESSION: ("error",)}


def truth(config: Any, cells: list[str]) -> Truth:
    """Give what rows with these cells in the column of labels should make of a model of this configuration."""
    names = config.labels
    if config.problem_type == SINGLE:
        labels = torch.tensor([names.index(cell) for cell in cells])
        return Truth(labels, nn.functional.one_hot(labels, len(names)).float())
    none = torch.zeros(len(cells), dtype=torch.int64)
    if config.problem_type == MULTI:
        rows = [set(split_labels(cell, BETWEEN)) for cell in cells]
        return Truth(none, torch.tensor([[float(name in row) for name in names] for row in rows]))
    values = torch.tensor([[float(cell)] for cell in cells], dtype=torch.float64)
    scaled = (values - torch.tensor(config.target_mean)) / torch.tensor(config.target_deviation)
    return Truth(none, scaled.float())
