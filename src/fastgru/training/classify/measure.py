"""What a trained classifier says of texts, and how often it is right."""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_f1_score

from fastgru.data.labelled import LabelledTexts
from fastgru.data.split import check_labels
from fastgru.models import TextClassifier
from fastgru.training.confusion import confusion_table, draw_confusion


@dataclass(frozen=True)
class ClassifyMeasures:
    """How a classifier did on N texts.

    `accuracy`: share of texts with the right label. `f1_macro`: mean over the labels that occur of the F1 score.
    `labels [C]`; `confusion [C, C]`: texts by true label (rows) and predicted label (columns).
    """

    texts: int
    accuracy: float
    f1_macro: float
    labels: list[str]
    confusion: list[list[int]]

    def show(self, source: str, console: Console) -> None:
        """Print which label was taken for which, and the accuracy."""
        console.print(confusion_table(self.labels, self.confusion, f"{source}: {self.texts:,} texts"))
        console.print(f"accuracy {self.accuracy:.4f}   F1 (macro) {self.f1_macro:.4f}", highlight=False)

    def draw(self, source: str, path: Path) -> None:
        """Draw the confusion into an image file."""
        draw_confusion(self.labels, self.confusion, f"{source}: accuracy {self.accuracy:.4f}", path)


@dataclass(frozen=True)
class ClassifiedText:
    """A text, its likeliest label, and the probability of each label (summing to 1)."""

    text: str
    label: str
    probabilities: dict[str, float]

    def line(self) -> str:
        """Give label, probabilities and text, separated by tabs."""
        shown = "  ".join(f"{name} {value:.3f}" for name, value in self.probabilities.items())
        return f"{self.label}\t{shown}\t{self.text}"


def measure(model: TextClassifier, rows: LabelledTexts, source: str) -> ClassifyMeasures:
    """Measure `model` on `rows`; InputError, naming `source`, where they have a label the model does not know."""
    names = model.config.labels
    check_labels(rows.labels, names, source)
    true = torch.tensor([names.index(label) for label in rows.labels])
    predicted = torch.tensor([names.index(prediction.label) for prediction in model.predict(rows.texts)])
    return ClassifyMeasures(
        texts=len(rows),
        accuracy=float((true == predicted).float().mean()),
        f1_macro=float(multiclass_f1_score(predicted, true, len(names), average="macro")),
        labels=names,
        confusion=multiclass_confusion_matrix(predicted, true, len(names)).tolist(),
    )
