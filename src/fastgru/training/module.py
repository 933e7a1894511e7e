"""TaskModule: a model in training, and the running average of its weights."""

from abc import abstractmethod
from functools import partial
from typing import Any, Generic, TypeVar, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from fastgru.models.pretrained import Pretrained

M = TypeVar("M", bound=Pretrained)
Weights = tuple[Tensor, ...] | list[Tensor]

AVERAGING = 0.995  # share of the old average kept at each step: about the last 200 steps, 1.5 epochs of the reviews


class TaskModule(LightningModule, Generic[M]):
    """A model in training, and the running average of its weights, which is what is measured and kept.

    `averaging`: the share of the old average that is kept at each step, at most.

    A task's own gives `loss`, which logs its `train_*` columns, and `validation_step`, which measures `averaged` and
    logs the `validation_*` ones.
    """

    def __init__(self, model: M, *, lr: float, seed: int, averaging: float = AVERAGING) -> None:
        super().__init__()
        self.model = model
        self.average = AveragedModel(model, multi_avg_fn=partial(_average, averaging))
        self.lr = lr
        self.seed = seed

    @property
    def averaged(self) -> M:
        """The model with averaged weights."""
        return cast(M, self.average.module)

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Give the loss of one batch of `model`, and log it."""

    @abstractmethod
    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Measure `averaged` on one batch."""

    def so_far(self) -> dict[str, float]:
        """Give what the progress bar shows beside the loss: measures over the epoch's training batches so far."""
        return {}

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Give the loss of one batch."""
        # Dropout is a function of the seed and the step: a resumed run draws what an uninterrupted one does.
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)
        return self.loss(batch)

    def on_train_batch_end(self, *step: object) -> None:
        """Add the weights that the step left to the average."""
        self.average.update_parameters(self.model)

    def configure_optimizers(self) -> Any:
        """AdamW over the model's own weights."""
        return torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=0.01, fused=True)


@torch.no_grad()
def _average(averaging: float, averages: Weights, currents: Weights, steps: Tensor | int) -> None:
    # a += (1 - d) (w - a) with d = min(averaging, (1 + n) / (10 + n)): the first weights are soon forgotten.
    kept = min(averaging, (1 + int(steps)) / (10 + int(steps)))
    torch._foreach_lerp_(averages, currents, 1 - kept)
