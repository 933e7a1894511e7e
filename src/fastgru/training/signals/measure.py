"""How often a trained classifier of signals is right."""

from dataclasses import dataclass
from typing import Any, ClassVar

from fastgru.data.sequences import LabelledSequences
from fastgru.data.split import check_labels
from fastgru.inference.problem import SINGLE
from fastgru.models import SequenceClassifier
from fastgru.training.labels import LabelMeasures
from fastgru.training.target_measures import measure_targets


@dataclass(frozen=True)
class SignalMeasures(LabelMeasures):
    """How a classifier did on sequences."""

    rows: ClassVar[str] = "sequences"


def measure_signals(model: SequenceClassifier, rows: LabelledSequences, source: str) -> Any:
    """Measure `model` on `rows`; InputError, naming `source`, where they have a label the model does not know.

    SignalMeasures, or what `fastgru.training.target_measures` has for several labels and for numbers.
    """
    names = model.config.labels
    if model.config.problem_type != SINGLE:
        return measure_targets(model.config, rows.labels, model.predict(rows.sequences), source)
    check_labels(rows.labels, names, source)
    return SignalMeasures.of(rows.names, rows.labels, model.predict(rows.sequences), names)
