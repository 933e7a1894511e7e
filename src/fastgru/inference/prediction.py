"""What a classifier says of one input: a Prediction of one label, of several, or an Estimate of numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastgru.inference.problem import MULTI, SINGLE


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


@dataclass(frozen=True)
class MultiLabelPrediction:
    """What a model of several labels says of one input: those that are likelier than not, and how probable each is.

    >>> from fastgru.models import MultiLabelPrediction
    >>> MultiLabelPrediction(["urgent"], {"invoice": 0.2, "urgent": 0.9}).labels
    ['urgent']
    """

    labels: list[str]
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Estimate:
    """What a model of regression says of one input: a number for each target, in the targets' units.

    >>> from fastgru.models import Estimate
    >>> Estimate({"price": 12.5}).values["price"]
    12.5
    """

    values: dict[str, float]


def other_answers(config: Any, rows: Iterable[list[float]]) -> list[Any]:
    """Give what a model that does not tell one label says by its rows of logits."""
    assert config.problem_type != SINGLE
    if config.problem_type == MULTI:
        return [_multi_label(config.labels, row) for row in rows]
    scales = list(zip(config.target_mean, config.target_deviation, strict=True))
    named = ([mean + deviation * z for z, (mean, deviation) in zip(row, scales, strict=True)] for row in rows)
    return [Estimate(dict(zip(config.labels, row, strict=True))) for row in named]


def _multi_label(labels: list[str], logits: list[float]) -> MultiLabelPrediction:
    probabilities = [0.5 * (1 + math.tanh(0.5 * logit)) for logit in logits]  # the logistic function, for any logit
    told = [name for name, logit in zip(labels, logits, strict=True) if logit > 0]
    return MultiLabelPrediction(told, dict(zip(labels, probabilities, strict=True)))
