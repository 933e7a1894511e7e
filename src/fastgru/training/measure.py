"""Measures of a trained classifier on labelled texts."""

from dataclasses import dataclass

import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_f1_score

from fastgru.data.labelled import LabelledTexts
from fastgru.data.split import check_labels
from fastgru.models import TextClassifier


@dataclass(frozen=True)
class Measures:
    """How a classifier did on N texts.

    `accuracy`: share of texts with the right label. `f1_macro`: mean over the labels that occur of the F1 score.
    `labels [C]`; `confusion [C, C]`: texts by true label (rows) and predicted label (columns).
    """

    texts: int
    accuracy: float
    f1_macro: float
    labels: list[str]
    confusion: list[list[int]]


def measure(model: TextClassifier, rows: LabelledTexts, source: str) -> Measures:
    """Measure `model` on `rows`; InputError, naming `source`, where they have a label the model does not know."""
    names = model.config.labels
    check_labels(rows.labels, names, source)
    true = torch.tensor([names.index(label) for label in rows.labels])
    predicted = torch.tensor([names.index(prediction.label) for prediction in model.predict(rows.texts)])
    return Measures(
        texts=len(rows),
        accuracy=float((true == predicted).float().mean()),
        f1_macro=float(multiclass_f1_score(predicted, true, len(names), average="macro")),
        labels=names,
        confusion=multiclass_confusion_matrix(predicted, true, len(names)).tolist(),
    )
