"""What a trained classifier says of signals, and how often it is right."""

from dataclasses import dataclass
from typing import ClassVar

from fastgru.data.sequences import LabelledSequences
from fastgru.data.split import check_labels
from fastgru.models import SequenceClassifier
from fastgru.training.labels import LabelMeasures, label_line


@dataclass(frozen=True)
class SignalMeasures(LabelMeasures):
    """How a classifier did on sequences."""

    rows: ClassVar[str] = "sequences"


@dataclass(frozen=True)
class ClassifiedSignal:
    """Where a signal came from, its likeliest label, and the probability of each label (summing to 1)."""

    source: str
    label: str
    probabilities: dict[str, float]

    def line(self) -> str:
        """Give label, probabilities and source, separated by tabs."""
        return label_line(self.label, self.probabilities, self.source)


def measure_signals(model: SequenceClassifier, rows: LabelledSequences, source: str) -> SignalMeasures:
    """Measure `model` on `rows`; InputError, naming `source`, where they have a label the model does not know."""
    names = model.config.labels
    check_labels(rows.labels, names, source)
    predicted = [prediction.label for prediction in model.predict(rows.sequences)]
    return SignalMeasures.of(rows.labels, predicted, names)
