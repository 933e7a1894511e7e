"""ClassifyModule: a classifier in training, of texts or of other sequences."""

from typing import TypeVar

from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassF1Score

from fastgru.models.classifier import Classifier
from fastgru.training.classify.batches import Batch
from fastgru.training.module import TaskModule

M = TypeVar("M", bound=Classifier)


class ClassifyModule(TaskModule[M]):
    """Cross entropy towards the targets, and accuracy against the labels; every sequence counts by its weight."""

    def __init__(self, model: M, *, lr: float, seed: int) -> None:
        super().__init__(model, lr=lr, seed=seed)
        self.train_accuracy = MeanMetric()
        self.validation_accuracy = MeanMetric()
        self.validation_f1 = MulticlassF1Score(len(model.config.labels), average="macro")

    def loss(self, batch: Batch) -> Tensor:
        """Give the mean over the batch of weight times cross entropy."""
        logits = self.model(batch.steps, batch.lengths)
        loss = _cross_entropy(logits, batch)
        self.train_accuracy.update(self._right(logits, batch), batch.weights)
        return loss

    def so_far(self) -> dict[str, float]:
        """Give the accuracy."""
        return {"accuracy": float(self.train_accuracy.compute())}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure the averaged model on one batch."""
        logits = self.averaged(batch.steps, batch.lengths)
        self.validation_loss.update(_cross_entropy(logits, batch), len(batch.labels))
        self.validation_accuracy.update(self._right(logits, batch), batch.weights)
        self.validation_f1.update(self._answers(logits), batch.labels)

    def _answers(self, logits: Tensor) -> Tensor:
        """Give the label `[B]` that the model tells: the likeliest, or what its threshold says."""
        threshold = self.model.threshold
        return logits.argmax(1) if threshold is None else (logits.softmax(1)[:, 1] >= threshold).long()

    def _right(self, logits: Tensor, batch: Batch) -> Tensor:
        return (self._answers(logits) == batch.labels).float()


def _cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return (nn.functional.cross_entropy(logits, batch.targets, reduction="none") * batch.weights).mean()
