"""Classifier: what the models share that tell the label of a sequence, of words or of vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastgru.models.pooling import check_pooling
from fastgru.models.pretrained import Pretrained

Row = TypeVar("Row", bound=Sequence[Any] | Tensor)


@dataclass(frozen=True)
class Prediction:
    """What a model says of one input: the likeliest label, and the probability of each label (summing to 1).

    >>> from fastgru.models import Prediction
    >>> found = Prediction("good", {"bad": 0.1, "good": 0.9})
    >>> found.probabilities[found.label]
    0.9
    """

    label: str
    probabilities: dict[str, float]


class Classifier(Pretrained):
    """A model with `config.labels [C]`, whose call gives logits `[B, C]` of a padded batch and its lengths."""

    @torch.inference_mode()
    def _predict_rows(
        self, rows: list[Row], pad: Callable[[list[Row]], tuple[Tensor, Tensor]], batch_size: int
    ) -> list[Prediction]:
        """Classify `rows`, each with the steps of one input, in batches of like length; in eval mode meanwhile."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        device = next(self.parameters()).device
        found: dict[int, Prediction] = {}
        with self.in_eval_mode():
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                steps, lengths = pad([rows[row] for row in batch])
                probabilities = self(steps.to(device), lengths.to(device)).softmax(1).tolist()
                found |= {row: self._prediction(values) for row, values in zip(batch, probabilities, strict=True)}
        return [found[row] for row in range(len(rows))]

    def _prediction(self, values: list[float]) -> Prediction:
        probabilities = dict(zip(self.config.labels, values, strict=True))
        return Prediction(max(probabilities, key=probabilities.__getitem__), probabilities)


def check_config(config: Any, *, sizes: tuple[str, ...], fractions: tuple[str, ...]) -> None:
    """ValueError where a classifier's configuration is none.

    It has `labels` and `pooling`; `sizes` are its fields that must be at least 1, `fractions` those from 0 to 1.
    """
    names = config.labels
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"labels must be a list of names, got {names!r}")
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"labels must be two or more different names, got {names!r}")
    check_pooling(config.pooling)
    for field in sizes:
        size = getattr(config, field)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{field} must be a whole number of at least 1, got {size!r}")
    for field in fractions:
        fraction = getattr(config, field)
        if not isinstance(fraction, float | int) or not 0 <= fraction <= 1:
            raise ValueError(f"{field} must be a number from 0 to 1, got {fraction!r}")
