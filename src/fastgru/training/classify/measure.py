"""How often a trained classifier of texts is right."""

from dataclasses import dataclass
from typing import Any, ClassVar

from fastgru.data.labelled import LabelledTexts
from fastgru.data.split import check_labels
from fastgru.inference.problem import SINGLE
from fastgru.models import TextClassifier
from fastgru.training.labels import LabelMeasures
from fastgru.training.target_measures import measure_targets


@dataclass(frozen=True)
class ClassifyMeasures(LabelMeasures):
    """How a classifier did on texts."""

    rows: ClassVar[str] = "texts"


def measure(model: TextClassifier, rows: LabelledTexts, source: str) -> Any:
    """Measure `model` on `rows`; InputError, naming `source`, where they have a label the model does not know.

    ClassifyMeasures, or what `fastgru.training.target_measures` has for several labels and for numbers.
    """
    names = model.config.labels
    if model.config.problem_type != SINGLE:
        return measure_targets(model.config, rows.labels, model.predict(rows.texts), source)
    check_labels(rows.labels, names, source)
    return ClassifyMeasures.of(rows.texts, rows.labels, model.predict(rows.texts), names)
