"""How a classifier of any kind did: which labels it told, and what its probabilities are worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from fastgru.inference.prediction import Prediction
from fastgru.training.confusion import confusion_table, draw_confusion
from fastgru.training.reliability import Bin, calibration_error, draw_reliability, reliability_bins
from fastgru.training.wrong import WrongAnswer

if TYPE_CHECKING:
    from typing import Self

WIDEST = 12  # labels of a confusion that the console has columns for


@dataclass(frozen=True)
class LabelScores:
    """Of one label: precision, recall and their harmonic mean F1, 0 where nothing is divided; `support`: its rows."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class LabelMeasures:
    """How a classifier did on `count` rows.

    `accuracy`: share of rows with the right label. `f1_macro`: mean over the labels that occur of the F1 score.
    `log_loss`: mean of -log of the probability of the right label. `calibration_error`: the expected calibration error
    (`fastgru.training.reliability`). `roc_auc`: of two labels that both occur, the area under the ROC curve.
    `scores [C]`: of each label. `labels [C]`; `confusion [C, C]`: rows by true label (rows) and told label (columns).
    `reliability`: what the probabilities are worth, by their size. `errors`: each wrong answer, the surest first.
    `rows`: what the rows are.
    """

    rows: ClassVar[str]

    count: int
    accuracy: float
    f1_macro: float
    log_loss: float
    calibration_error: float
    roc_auc: float | None
    scores: list[LabelScores]
    labels: list[str]
    confusion: list[list[int]]
    reliability: list[Bin]
    errors: list[WrongAnswer]

    @classmethod
    def of(cls, inputs: Sequence[str], true: list[str], found: list[Prediction], labels: list[str]) -> "Self":
        """Compare what was found of each of `inputs` with its true label; all of them must be among `labels`."""
        rights, told = (
            torch.tensor([labels.index(name) for name in names]) for names in (true, [one.label for one in found])
        )
        probabilities = torch.tensor([list(one.probabilities.values()) for one in found], dtype=torch.float64)
        bins = reliability_bins(probabilities, rights)
        return cls(
            count=len(true),
            accuracy=float((rights == told).float().mean()),
            f1_macro=float(multiclass_f1_score(told, rights, len(labels), average="macro")),
            log_loss=_log_loss(probabilities, rights),
            calibration_error=calibration_error(bins),
            roc_auc=_roc_auc(probabilities, rights),
            scores=_scores(told, rights, labels),
            labels=labels,
            confusion=multiclass_confusion_matrix(told, rights, len(labels)).tolist(),
            reliability=bins,
            errors=_errors(inputs, true, found),
        )

    def show(self, source: str, console: Console) -> None:
        """Print which label was taken for which, how each label fares, and the measures of all."""
        title = f"{source}: {self.count:,} {self.rows}"
        if len(self.labels) <= WIDEST:
            console.print(confusion_table(self.labels, self.confusion, title))
            title = ""
        console.print(_score_table(self.scores, title))
        parts = {"log loss": self.log_loss, "calibration error": self.calibration_error, "ROC AUC": self.roc_auc}
        console.print(f"accuracy {self.accuracy:.4f}   F1 (macro) {self.f1_macro:.4f}", highlight=False)
        shown = [f"{name} {value:.4f}" for name, value in parts.items() if value is not None]
        console.print("   ".join(shown), highlight=False)

    def draw(self, source: str, path: Path) -> None:
        """Draw the confusion into an image file."""
        draw_confusion(self.labels, self.confusion, f"{source}\naccuracy {self.accuracy:.4f}", path)

    def draw_reliability(self, source: str, path: Path) -> None:
        """Draw what the probabilities are worth into an image file."""
        draw_reliability(self.reliability, f"{source}\ncalibration error {self.calibration_error:.4f}", path)


def _log_loss(probabilities: Tensor, rights: Tensor) -> float:
    smallest = torch.finfo(torch.float32).tiny  # a float32's probability of 0 is one below what it can hold
    return float(-probabilities.gather(1, rights[:, None]).clamp(min=smallest).log().mean())


def _roc_auc(probabilities: Tensor, rights: Tensor) -> float | None:
    if probabilities.shape[1] != 2 or len(rights.unique()) < 2:
        return None
    return float(binary_auroc(probabilities[:, 1], rights))


def _scores(told: Tensor, rights: Tensor, labels: list[str]) -> list[LabelScores]:
    measures = (multiclass_precision, multiclass_recall, multiclass_f1_score)
    found = [measure(told, rights, len(labels), average="none").tolist() for measure in measures]
    supports = rights.bincount(minlength=len(labels)).tolist()
    return [LabelScores(*row) for row in zip(labels, *found, supports, strict=True)]


def _errors(inputs: Sequence[str], true: list[str], found: list[Prediction]) -> list[WrongAnswer]:
    wrong = [
        WrongAnswer(text, right, one.label, one.probabilities[one.label])
        for text, right, one in zip(inputs, true, found, strict=True)
        if one.label != right
    ]
    return sorted(wrong, key=lambda one: -one.probability)


def _score_table(scores: list[LabelScores], title: str) -> Table:
    table = Table(title=title or None, title_justify="left")
    table.add_column("label")
    for name in ("precision", "recall", "F1", "support"):
        table.add_column(name, justify="right")
    for one in scores:
        table.add_row(one.label, *(f"{value:.4f}" for value in (one.precision, one.recall, one.f1)), f"{one.support:,}")
    return table
