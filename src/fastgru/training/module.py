"""TaskModule: a model in training, and the exponential moving average (EMA) of its weights."""

import copy
from abc import abstractmethod
from functools import partial
from typing import Any, Generic, TypeVar, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchmetrics import MeanMetric, Metric

from fastgru.common.processes import rank
from fastgru.models.pretrained import Pretrained
from fastgru.training.batches import MicroBatch

M = TypeVar("M", bound=Pretrained)
Weights = tuple[Tensor, ...] | list[Tensor]

EMA_DECAY = 0.995  # about the last 200 steps, 1.5 epochs of the reviews


class TaskModule(LightningModule, Generic[M]):
    """A model in training, and the exponential moving average (EMA) of its weights, which is measured and kept.

    `decay`: of the EMA, at most: the fraction of the old average that is kept at each step.

    A task's own gives `loss` and `validation_step`. Its attributes `train_*` and `validation_*` that are torchmetrics
    metrics become columns of the log: it updates them, here they are begun anew with each epoch and logged at its end,
    over all processes. `train_loss` and `validation_loss` are there already, and the first is updated here.
    """

    def __init__(self, model: M, *, lr: float, seed: int, decay: float = EMA_DECAY) -> None:
        super().__init__()
        self.model = model
        self.average = AveragedModel(model, multi_avg_fn=partial(_average, decay)).requires_grad_(False)
        self.lr = lr
        self.seed = seed
        self.train_loss = MeanMetric()
        self.validation_loss = MeanMetric()

    @property
    def averaged(self) -> M:
        """The model with averaged weights."""
        return cast(M, self.average.module)

    @property
    def planned_steps(self) -> int:
        """Steps of the optimiser in all epochs, where none ends the training before."""
        trainer: Any = self.trainer
        return int(trainer.max_epochs * trainer.datamodule.steps)

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Give the mean loss of one batch of `model`, and update the `train_*` measures but the loss's own."""

    @abstractmethod
    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Measure `averaged` on one batch: update the `validation_*` measures."""

    def so_far(self) -> dict[str, float]:
        """Give what the progress bar shows beside the loss: measures over the epoch's training batches so far."""
        return {}

    def training_step(self, micro_batch: MicroBatch, batch_index: int) -> Tensor:
        """Give the loss of one micro-batch of a step's batch."""
        # Dropout is a function of seed, step and micro-batch: a resumed run draws what an uninterrupted one does.
        # (torch.manual_seed takes 3 ms: it notes who called it, for devices that are not yet in use.)
        seed_all = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seed_all((self.seed * 1_000_003 + self.global_step + (micro_batch.part << 53)) % 2**64)
        if not micro_batch.weight:  # the other processes wait for a gradient all the same
            return sum((weight.sum() for weight in self.model.parameters()), torch.zeros(())) * 0.0
        loss = self.loss(micro_batch.batch)
        self.train_loss.update(loss.detach(), micro_batch.weight)
        return loss * micro_batch.scale

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient's norm to 1."""
        # Not the trainer's own clipping: with bf16 it refuses a fused optimizer.
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """Step, and add the weights to the average: before any callback writes a checkpoint."""
        super().optimizer_step(*args, **options)
        self.average.update_parameters(self.model)

    def configure_optimizers(self) -> Any:
        """AdamW over the model's own weights."""
        return torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=0.01, fused=True)

    def on_train_epoch_start(self) -> None:
        """Begin the training measures anew."""
        for metric in self._measures("train_").values():
            metric.reset()

    def on_validation_epoch_start(self) -> None:
        """Begin the validation measures anew."""
        for metric in self._measures("validation_").values():
            metric.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the epoch."""
        for name, metric in (self._measures("train_") | self._measures("validation_")).items():
            self.log(name, metric.compute(), sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the training measures of the epoch so far, over all processes."""
        measures = {}
        for name, metric in self._measures("train_").items():
            with metric.sync_context():
                measures[name] = copy.deepcopy(metric.metric_state)
        checkpoint["measures"] = measures

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with these measures, in one process."""
        for name, states in checkpoint["measures"].items() if rank() == 0 else ():
            metric = getattr(self, name)
            for state, value in states.items():
                setattr(metric, state, value.to(metric.device))

    def _measures(self, prefix: str) -> dict[str, Metric]:
        named = self.named_children()
        return {name: metric for name, metric in named if name.startswith(prefix) and isinstance(metric, Metric)}


@torch.no_grad()
def _average(decay: float, averages: Weights, currents: Weights, steps: Tensor | int) -> None:
    # a += (1 - d) (w - a) with d = min(decay, (1 + n) / (10 + n)): the first weights are soon forgotten.
    kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
    torch._foreach_lerp_(averages, currents, 1 - kept)
