"""What a model says of one input, as the command predict prints it and as a table gets it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastgru.inference.generation import GeneratedText
from fastgru.inference.prediction import Estimate, MultiLabelPrediction


@dataclass(frozen=True)
class ClassifiedText:
    """A text, its likeliest label, and the probability of each label (summing to 1)."""

    text: str
    label: str
    probabilities: dict[str, float]

    def line(self) -> str:
        """Give label, probabilities and text, separated by tabs."""
        return _label_line(self.label, self.probabilities, self.text)


@dataclass(frozen=True)
class ClassifiedSignal:
    """Where a signal came from, its likeliest label, and the probability of each label (summing to 1)."""

    source: str
    label: str
    probabilities: dict[str, float]

    def line(self) -> str:
        """Give label, probabilities and source, separated by tabs."""
        return _label_line(self.label, self.probabilities, self.source)


@dataclass(frozen=True)
class MultiLabelText:
    """A text, its labels, and the probability of each label there is."""

    text: str
    labels: list[str]
    probabilities: dict[str, float]

    def line(self) -> str:
        """Give labels, probabilities and text, separated by tabs."""
        return _label_line(", ".join(self.labels), self.probabilities, self.text)


@dataclass(frozen=True)
class MultiLabelSignal:
    """Where a signal came from, its labels, and the probability of each label there is."""

    source: str
    labels: list[str]
    probabilities: dict[str, float]

    def line(self) -> str:
        """Give labels, probabilities and source, separated by tabs."""
        return _label_line(", ".join(self.labels), self.probabilities, self.source)


@dataclass(frozen=True)
class EstimatedText:
    """A text, and the number that was estimated of each target."""

    text: str
    values: dict[str, float]

    def line(self) -> str:
        """Give numbers and text, separated by tabs."""
        return _value_line(self.values, self.text)


@dataclass(frozen=True)
class EstimatedSignal:
    """Where a signal came from, and the number that was estimated of each target."""

    source: str
    values: dict[str, float]

    def line(self) -> str:
        """Give numbers and source, separated by tabs."""
        return _value_line(self.values, self.source)


AnsweredText = ClassifiedText | MultiLabelText | EstimatedText
AnsweredSignal = ClassifiedSignal | MultiLabelSignal | EstimatedSignal


def text_answer(text: str, found: Any) -> AnsweredText:
    """Give what a model said of a text, whatever kind of answer it was."""
    if isinstance(found, MultiLabelPrediction):
        return MultiLabelText(text, found.labels, found.probabilities)
    if isinstance(found, Estimate):
        return EstimatedText(text, found.values)
    return ClassifiedText(text, found.label, found.probabilities)


def signal_answer(source: str, found: Any) -> AnsweredSignal:
    """Give what a model said of a signal, whatever kind of answer it was."""
    if isinstance(found, MultiLabelPrediction):
        return MultiLabelSignal(source, found.labels, found.probabilities)
    if isinstance(found, Estimate):
        return EstimatedSignal(source, found.values)
    return ClassifiedSignal(source, found.label, found.probabilities)


@dataclass(frozen=True)
class Translation:
    """A source, what it becomes, the natural logarithm of that one's probability, and the next likeliest."""

    source: str
    target: str
    score: float
    others: list[str]

    def line(self) -> str:
        """Give what was written, likeliest first, separated by tabs."""
        return "\t".join([self.target, *self.others])


def translations(sources: Sequence[str], found: Sequence[Sequence[GeneratedText]]) -> Iterator[Translation]:
    """Give what a model generated of each source: the likeliest target first, one at least."""
    for source, (first, *others) in zip(sources, found, strict=True):
        yield Translation(source, first.text, first.score, [other.text for other in others])


def _label_line(label: str, probabilities: dict[str, float], given: str) -> str:
    shown = "  ".join(f"{name} {value:.3f}" for name, value in probabilities.items())
    return f"{label}\t{shown}\t{given}"


def _value_line(values: dict[str, float], given: str) -> str:
    return "\t".join([*(f"{value:.6g}" for value in values.values()), given])
