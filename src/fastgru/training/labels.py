"""How often a classifier of any kind is right."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from rich.console import Console
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_f1_score

from fastgru.training.confusion import confusion_table, draw_confusion

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class LabelMeasures:
    """How a classifier did on `count` rows.

    `accuracy`: share of rows with the right label. `f1_macro`: mean over the labels that occur of the F1 score.
    `labels [C]`; `confusion [C, C]`: rows by true label (rows) and predicted label (columns).
    `rows`: what the rows are.
    """

    rows: ClassVar[str]

    count: int
    accuracy: float
    f1_macro: float
    labels: list[str]
    confusion: list[list[int]]

    @classmethod
    def of(cls, true: list[str], predicted: list[str], labels: list[str]) -> "Self":
        """Compare labels; all of them must be among `labels`."""
        rights, found = (torch.tensor([labels.index(name) for name in names]) for names in (true, predicted))
        return cls(
            count=len(true),
            accuracy=float((rights == found).float().mean()),
            f1_macro=float(multiclass_f1_score(found, rights, len(labels), average="macro")),
            labels=labels,
            confusion=multiclass_confusion_matrix(found, rights, len(labels)).tolist(),
        )

    def show(self, source: str, console: Console) -> None:
        """Print which label was taken for which, and the accuracy."""
        console.print(confusion_table(self.labels, self.confusion, f"{source}: {self.count:,} {self.rows}"))
        console.print(f"accuracy {self.accuracy:.4f}   F1 (macro) {self.f1_macro:.4f}", highlight=False)

    def draw(self, source: str, path: Path) -> None:
        """Draw the confusion into an image file."""
        draw_confusion(self.labels, self.confusion, f"{source}: accuracy {self.accuracy:.4f}", path)
