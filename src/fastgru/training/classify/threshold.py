"""The threshold between two labels, as a user writes it and as a model keeps it."""

from dataclasses import replace
from typing import Any

from fastgru.common.errors import InputError


def read_threshold(given: str) -> tuple[str, float]:
    """Read `label=probability`; InputError for anything else."""
    label, _, number = given.rpartition("=")
    try:
        probability = float(number)
    except ValueError:
        probability = 0.0
    if not label.strip() or not 0 < probability < 1:
        raise InputError(f"--threshold takes a label and a number between 0 and 1, such as 'spam=0.3'; got {given!r}")
    return label.strip(), probability


def threshold_of(given: str | None, labels: list[str]) -> float | None:
    """Give the probability of the second of two labels from which on it is told; None where nothing is given.

    InputError for a label that is none, and for more labels than two.
    """
    if given is None:
        return None
    label, probability = read_threshold(given)
    if len(labels) != 2:
        raise InputError(f"--threshold is for two labels, and there are {len(labels)}: {', '.join(labels)}")
    if label not in labels:
        raise InputError(f"--threshold names {label!r}, and the labels are: {', '.join(labels)}")
    return probability if label == labels[1] else 1 - probability


def set_threshold(model: Any, given: str | None) -> None:
    """Let a model tell labels by another threshold than its own, where one is given."""
    if given is not None:
        model.config = replace(model.config, threshold=threshold_of(given, model.config.labels))
