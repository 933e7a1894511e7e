"""How often a trained classifier of texts is right."""

from dataclasses import dataclass
from typing import ClassVar

from fastgru.data.labelled import LabelledTexts
from fastgru.data.split import check_labels
from fastgru.models import TextClassifier
from fastgru.training.labels import LabelMeasures


@dataclass(frozen=True)
class ClassifyMeasures(LabelMeasures):
    """How a classifier did on texts."""

    rows: ClassVar[str] = "texts"


def measure(model: TextClassifier, rows: LabelledTexts, source: str) -> ClassifyMeasures:
    """Measure `model` on `rows`; InputError, naming `source`, where they have a label the model does not know."""
    names = model.config.labels
    check_labels(rows.labels, names, source)
    return ClassifyMeasures.of(rows.texts, rows.labels, model.predict(rows.texts), names)
