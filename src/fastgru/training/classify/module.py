"""ClassifyModule: a TextClassifier in training."""

from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from fastgru.models import TextClassifier
from fastgru.training.classify.batches import Batch
from fastgru.training.module import TaskModule


class ClassifyModule(TaskModule[TextClassifier]):
    """Cross entropy towards the targets, and accuracy against the labels."""

    def __init__(self, model: TextClassifier, *, lr: float, seed: int) -> None:
        super().__init__(model, lr=lr, seed=seed)
        classes = len(model.config.labels)
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.validation_accuracy = MulticlassAccuracy(classes, average="micro")

    def loss(self, batch: Batch) -> Tensor:
        """Give the cross entropy of one batch."""
        logits = self.model(batch.ids, batch.lengths)
        loss = nn.functional.cross_entropy(logits, batch.targets)
        self.train_accuracy(logits, batch.labels)
        size = len(batch.labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def so_far(self) -> dict[str, float]:
        """Give the accuracy."""
        return {"accuracy": float(self.train_accuracy.compute())}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure the averaged model on one batch."""
        logits = self.averaged(batch.ids, batch.lengths)
        loss = nn.functional.cross_entropy(logits, batch.targets)
        self.validation_accuracy(logits, batch.labels)
        self.log("validation_loss", loss, batch_size=len(batch.labels))
        self.log("validation_accuracy", self.validation_accuracy, batch_size=len(batch.labels))
