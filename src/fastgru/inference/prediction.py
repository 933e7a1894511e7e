"""Prediction: what a classifier says of one input."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """What a model says of one input: its label, and the probability of each label (summing to 1).

    The label is the likeliest one, or, of two, what the model's threshold says.

    >>> from fastgru.models import Prediction
    >>> found = Prediction("good", {"bad": 0.1, "good": 0.9})
    >>> found.probabilities[found.label]
    0.9
    """

    label: str
    probabilities: dict[str, float]


def predictions(labels: list[str], rows: Iterable[list[float]], threshold: float | None = None) -> list[Prediction]:
    """Give the prediction of each row of probabilities, one for each of the labels.

    `threshold`: from which probability on it is the second of two labels; None takes the likeliest of any number.
    """
    return [Prediction(_label(labels, row, threshold), dict(zip(labels, row, strict=True))) for row in rows]


def _label(labels: list[str], row: list[float], threshold: float | None) -> str:
    if threshold is not None:
        return labels[row[1] >= threshold]
    return labels[max(range(len(row)), key=row.__getitem__)]
