"""TranslateModule: a Seq2Seq in training."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from fastgru.models import Seq2Seq
from fastgru.training.module import TaskModule
from fastgru.training.translate.batches import Batch
from fastgru.training.translate.errors import count_errors

EMA_DECAY = 0.999  # about the last 1,000 steps, 2 epochs of pronunciations
LAST = 0.02  # of the learning rate, at the end


class TranslateModule(TaskModule[Seq2Seq]):
    """Cross entropy of the next token with label smoothing; validated by what the averaged model writes, greedily."""

    def __init__(self, model: Seq2Seq, *, lr: float, seed: int, smoothing: float, warm_up: int) -> None:
        super().__init__(model, lr=lr, seed=seed, decay=EMA_DECAY)
        self.smoothing = smoothing
        self.warm_up = warm_up
        self.validation_sequence_error = MeanMetric()
        self.validation_token_error = MeanMetric()

    def loss(self, batch: Batch) -> Tensor:
        """Give the mean over the batch's tokens."""
        return _cross_entropy(self.model, batch, self.smoothing)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure the averaged model on one batch."""
        tokens = int(batch.target_lengths.sum()) - len(batch.target_lengths)
        self.validation_loss.update(_cross_entropy(self.averaged, batch, self.smoothing), tokens)
        written = self.averaged.generate(batch.source_ids, batch.source_lengths, beam=1, best=1)
        for (best, *_), known in zip(written, batch.references, strict=True):
            errors = count_errors(self.averaged, best.text, known)
            self.validation_sequence_error.update(float(errors.wrong))
            self.validation_token_error.update(errors.edits / max(errors.tokens, 1), max(errors.tokens, 1))

    def configure_optimizers(self) -> Any:
        """AdamW; the learning rate rises linearly for `warm_up` steps and falls along a cosine to the last one."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.lr, betas=(0.9, 0.98), fused=True)
        steps = max(self.planned_steps, self.warm_up + 1)

        def factor(step: int) -> float:
            if step < self.warm_up:
                return (step + 1) / self.warm_up
            done = min(1.0, (step - self.warm_up) / (steps - self.warm_up))
            return LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * done))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _cross_entropy(model: Seq2Seq, batch: Batch, smoothing: float) -> Tensor:
    read, written = batch.target_ids[:, :-1], batch.target_ids[:, 1:]
    logits = model(batch.source_ids, batch.source_lengths, read, batch.target_lengths - 1)
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), written.flatten(), ignore_index=0, label_smoothing=smoothing
    )
