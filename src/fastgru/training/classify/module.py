"""ClassifyModule: a classifier in training, of texts or of other sequences."""

from typing import TypeVar

from torch import Tensor
from torchmetrics import MeanMetric

from fastgru.models.classifier import Classifier
from fastgru.training.classify.batches import Batch
from fastgru.training.module import TaskModule
from fastgru.training.objective import OBJECTIVES, Objective

M = TypeVar("M", bound=Classifier)


class ClassifyModule(TaskModule[M]):
    """The loss and the measures of the model's problem type (`fastgru.training.objective`).

    For one label: cross entropy towards the targets, and accuracy. Every sequence counts by its weight.
    """

    def __init__(self, model: M, *, lr: float, seed: int) -> None:
        super().__init__(model, lr=lr, seed=seed)
        self.objective: Objective = OBJECTIVES[model.config.problem_type](model)
        for part in ("train", "validation"):
            self.add_module(f"{part}_{self.objective.measure}", MeanMetric())
        f1 = self.objective.f1()
        if f1 is not None:
            self.validation_f1 = f1

    def loss(self, batch: Batch) -> Tensor:
        """Give the mean over the batch of weight times loss."""
        logits = self.model(batch.steps, batch.lengths)
        self._measure("train").update(self.objective.measured(logits, batch), batch.weights)
        return self._mean(logits, batch)

    def so_far(self) -> dict[str, float]:
        """Give the accuracy, or what the objective has in its place."""
        return {self.objective.measure: float(self._measure("train").compute())}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure the averaged model on one batch."""
        logits = self.averaged(batch.steps, batch.lengths)
        self.validation_loss.update(self._mean(logits, batch), len(batch.labels))
        self._measure("validation").update(self.objective.measured(logits, batch), batch.weights)
        if hasattr(self, "validation_f1"):
            self.validation_f1.update(*self.objective.f1_of(logits, batch))

    def _mean(self, logits: Tensor, batch: Batch) -> Tensor:
        return (self.objective.losses(logits, batch) * batch.weights).mean()

    def _measure(self, part: str) -> MeanMetric:
        metric = self.get_submodule(f"{part}_{self.objective.measure}")
        assert isinstance(metric, MeanMetric)
        return metric
