"""ClassifyModule: a classifier in training, of texts or of other sequences."""

from typing import TypeVar

from torch import Tensor, nn
from torchmetrics import MeanMetric

from fastgru.models.classifier import Classifier
from fastgru.training.classify.batches import Batch
from fastgru.training.module import TaskModule

M = TypeVar("M", bound=Classifier)


class ClassifyModule(TaskModule[M]):
    """Cross entropy towards the targets, and accuracy against the labels; every sequence counts by its weight."""

    def __init__(self, model: M, *, lr: float, seed: int) -> None:
        super().__init__(model, lr=lr, seed=seed)
        self.train_accuracy = MeanMetric()
        self.validation_loss = MeanMetric()
        self.validation_accuracy = MeanMetric()

    def loss(self, batch: Batch) -> Tensor:
        """Give the mean over the batch of weight times cross entropy."""
        logits = self.model(batch.steps, batch.lengths)
        loss = _cross_entropy(logits, batch)
        self.train_accuracy(_right(logits, batch), batch.weights)
        size = len(batch.labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def so_far(self) -> dict[str, float]:
        """Give the accuracy."""
        return {"accuracy": float(self.train_accuracy.compute())}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure the averaged model on one batch."""
        logits = self.averaged(batch.steps, batch.lengths)
        self.validation_accuracy(_right(logits, batch), batch.weights)
        self.validation_loss(_cross_entropy(logits, batch), len(batch.labels))
        self.log("validation_loss", self.validation_loss, batch_size=len(batch.labels))
        self.log("validation_accuracy", self.validation_accuracy, batch_size=len(batch.labels))


def _cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return (nn.functional.cross_entropy(logits, batch.targets, reduction="none") * batch.weights).mean()


def _right(logits: Tensor, batch: Batch) -> Tensor:
    return (logits.argmax(1) == batch.labels).float()
