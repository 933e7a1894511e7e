"""How often a trained classifier of signals is right."""

from dataclasses import dataclass
from typing import ClassVar

from fastgru.data.sequences import LabelledSequences
from fastgru.data.split import check_labels
from fastgru.models import SequenceClassifier
from fastgru.training.labels import LabelMeasures


@dataclass(frozen=True)
class SignalMeasures(LabelMeasures):
    """How a classifier did on sequences."""

    rows: ClassVar[str] = "sequences"


def measure_signals(model: SequenceClassifier, rows: LabelledSequences, source: str) -> SignalMeasures:
    """Measure `model` on `rows`; InputError, naming `source`, where they have a label the model does not know."""
    names = model.config.labels
    check_labels(rows.labels, names, source)
    return SignalMeasures.of(rows.names, rows.labels, model.predict(rows.sequences), names)
