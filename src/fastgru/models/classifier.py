"""Classifier: what the models share that tell the label of a sequence, of words or of vectors."""

from collections.abc import Callable, Sized
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastgru.inference.batches import in_batches
from fastgru.inference.prediction import other_answers, predictions
from fastgru.inference.problem import SINGLE
from fastgru.models.pretrained import Pretrained

Row = TypeVar("Row", bound=Sized)


class Classifier(Pretrained):
    """A model with `config.labels [C]`, whose call gives logits `[B, C]` of a padded batch and its lengths."""

    @property
    def threshold(self) -> float | None:
        """From which probability on the second of two labels is told; None where the likeliest label is."""
        return getattr(self.config, "threshold", None)

    @torch.inference_mode()
    def _predict_rows(
        self, rows: list[Row], pad: Callable[[list[Row]], tuple[Tensor, Tensor]], batch_size: int
    ) -> list[Any]:
        """Classify `rows`, each with the steps of one input, in batches of like length; in eval mode meanwhile."""
        device = next(self.parameters()).device

        def answer(batch: list[Row]) -> list[Any]:
            steps, lengths = pad(batch)
            return self._answers(self(steps.to(device), lengths.to(device)))

        with self.in_eval_mode():
            return in_batches(rows, batch_size, answer)

    def _answers(self, logits: Tensor) -> list[Any]:
        """Give what the logits `[B, C]` say: Predictions, or what the model's problem_type has in their place."""
        if self.config.problem_type != SINGLE:
            return other_answers(self.config, logits.tolist())
        return predictions(self.config.labels, logits.softmax(1).tolist(), self.threshold)
