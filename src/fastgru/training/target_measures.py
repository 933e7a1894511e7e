"""How models of several labels, and of numbers, did."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fastgru.data.split import check_labels
from fastgru.data.targets import BETWEEN, split_labels
from fastgru.inference.prediction import Estimate, MultiLabelPrediction
from fastgru.inference.problem import MULTI


@dataclass(frozen=True)
class LabelCounts:
    """Of one label: how often it was told rightly and wrongly, and not told; precision, recall and F1 of these."""

    label: str
    right: int
    wrong: int
    missed: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class MultiLabelMeasures:
    """How a model of several labels did on `count` rows.

    `accuracy`: share of rows whose labels are all right. `f1_micro`: F1 over all labels of all rows together;
    `f1_macro`: mean over the labels that occur. `hamming_loss`: share of (row, label) that are wrong. `scores [C]`.
    """

    count: int
    accuracy: float
    f1_micro: float
    f1_macro: float
    hamming_loss: float
    scores: list[LabelCounts]

    @classmethod
    def of(cls, cells: Sequence[str], found: Sequence[MultiLabelPrediction], labels: list[str]) -> "MultiLabelMeasures":
        """Compare what was found with the labels in the cells, all of which must be among `labels`."""
        right = torch.tensor([[name in split_labels(cell, BETWEEN) for name in labels] for cell in cells])
        told = torch.tensor([[name in one.labels for name in labels] for one in found])
        scores = [_counts(name, right[:, place], told[:, place]) for place, name in enumerate(labels)]
        whole = _counts("", right, told)
        there = [one.f1 for one in scores if one.right + one.missed]
        return cls(
            count=len(cells),
            accuracy=float((right == told).all(1).float().mean()),
            f1_micro=whole.f1,
            f1_macro=sum(there) / max(len(there), 1),
            hamming_loss=float((right != told).float().mean()),
            scores=scores,
        )

    def show(self, source: str, console: Console) -> None:
        """Print how each label fares, and the measures of all."""
        table = Table(title=f"{source}: {self.count:,} rows", title_justify="left")
        table.add_column("label")
        for name in ("right", "wrong", "missed", "precision", "recall", "F1"):
            table.add_column(name, justify="right")
        for one in self.scores:
            rates = (f"{value:.4f}" for value in (one.precision, one.recall, one.f1))
            table.add_row(one.label, *(f"{number:,}" for number in (one.right, one.wrong, one.missed)), *rates)
        console.print(table)
        console.print(
            f"all labels right {self.accuracy:.4f}   F1 (micro) {self.f1_micro:.4f}   F1 (macro) {self.f1_macro:.4f}   "
            f"Hamming loss {self.hamming_loss:.4f}",
            highlight=False,
            soft_wrap=True,
        )


@dataclass(frozen=True)
class RegressionMeasures:
    """How a model of a number did on `count` rows, in the number's units.

    `mean_absolute_error`, `root_mean_squared_error`; `r_squared`: 1 less the share of the variance that is left over,
    None where all numbers are the same. `baseline_error`: the mean absolute error of who always says their mean.
    """

    target: str
    count: int
    mean_absolute_error: float
    root_mean_squared_error: float
    r_squared: float | None
    baseline_error: float

    @classmethod
    def of(cls, cells: Sequence[str], found: Sequence[Estimate], target: str) -> "RegressionMeasures":
        """Compare what was estimated with the numbers in the cells."""
        right = torch.tensor([float(cell) for cell in cells], dtype=torch.float64)
        error = torch.tensor([one.values[target] for one in found], dtype=torch.float64) - right
        spread = (right - right.mean()).square().sum()
        return cls(
            target=target,
            count=len(cells),
            mean_absolute_error=float(error.abs().mean()),
            root_mean_squared_error=float(error.square().mean().sqrt()),
            r_squared=float(1 - error.square().sum() / spread) if spread else None,
            baseline_error=float((right - right.mean()).abs().mean()),
        )

    def show(self, source: str, console: Console) -> None:
        """Print the errors, beside that of who always says the mean."""
        explained = "" if self.r_squared is None else f"   R squared {self.r_squared:.4f}"
        console.print(
            f"{source}: {self.count:,} rows, {self.target}: mean absolute error {self.mean_absolute_error:.4g} "
            f"(always the mean: {self.baseline_error:.4g})   root mean squared error "
            f"{self.root_mean_squared_error:.4g}{explained}",
            highlight=False,
            soft_wrap=True,
        )


def measure_targets(config: Any, cells: list[str], found: list[Any], source: str) -> Any:
    """Measure a model of several labels, or of a number; InputError for a label that it does not know."""
    if config.problem_type == MULTI:
        check_labels({name for cell in cells for name in split_labels(cell, BETWEEN)}, config.labels, source)
        return MultiLabelMeasures.of(cells, found, config.labels)
    return RegressionMeasures.of(cells, found, config.labels[0])


def _counts(name: str, right: Tensor, told: Tensor) -> LabelCounts:
    hit, wrong, missed = int((right & told).sum()), int((~right & told).sum()), int((right & ~told).sum())
    rates = hit / max(hit + wrong, 1), hit / max(hit + missed, 1), 2 * hit / max(2 * hit + wrong + missed, 1)
    return LabelCounts(name, hit, wrong, missed, *rates)
