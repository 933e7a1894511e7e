"""What a model says of one input, as the command predict prints it and as a table gets it."""

from dataclasses import dataclass


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
class Translation:
    """A source, what it becomes, the natural logarithm of that one's probability, and the next likeliest."""

    source: str
    target: str
    score: float
    others: list[str]

    def line(self) -> str:
        """Give what was written, likeliest first, separated by tabs."""
        return "\t".join([self.target, *self.others])


def _label_line(label: str, probabilities: dict[str, float], given: str) -> str:
    shown = "  ".join(f"{name} {value:.3f}" for name, value in probabilities.items())
    return f"{label}\t{shown}\t{given}"
