"""Prediction: what a classifier says of one input."""

from collections.abc import Iterable
from dataclasses import dataclass


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


def predictions(labels: list[str], rows: Iterable[list[float]]) -> list[Prediction]:
    """Give the prediction of each row of probabilities, one for each of the labels."""
    named = (dict(zip(labels, row, strict=True)) for row in rows)
    return [Prediction(max(one, key=one.__getitem__), one) for one in named]
