"""Targets: several labels a row, or a number, in the place of one label."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fastgru.common.errors import InputError
from fastgru.inference.problem import MULTI, REGRESSION

BETWEEN = "\x1f"  # stands between labels once they are read, whatever stood there


@dataclass(frozen=True)
class Targets:
    """What the column of labels holds.

    `separator`: several labels, with this between them. `number`: a number, which is called so. One of them is given.
    """

    separator: str | None = None
    number: str | None = None

    @property
    def problem_type(self) -> str:
        """The model's, as its configuration has it."""
        return REGRESSION if self.number is not None else MULTI

    def read(self, cells: Iterable[str], source: str) -> list[str]:
        """Bring each cell into one form; InputError, naming the row, for one that is no finite number."""
        if self.separator is not None:
            return [BETWEEN.join(sorted({*split_labels(cell, self.separator)})) for cell in cells]
        return [_number(cell, f"{source}, row {row}") for row, cell in enumerate(cells, start=1)]

    def names(self, cells: Iterable[str]) -> list[str]:
        """Give the labels that occur, sorted, or the name of the number."""
        if self.number is not None:
            return [self.number]
        return sorted({name for cell in cells for name in split_labels(cell, BETWEEN)})

    def scale(self, cells: Iterable[str]) -> dict[str, list[float]]:
        """Give mean and deviation of the numbers, by the names that a configuration has for them; else nothing."""
        if self.number is None:
            return {}
        values = [float(cell) for cell in cells]
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        return {"target_mean": [mean], "target_deviation": [deviation or 1.0]}


def split_labels(cell: str, separator: str) -> list[str]:
    """Give the labels in a cell, which may hold none."""
    return [name.strip() for name in cell.split(separator) if name.strip()]


def _number(cell: str, where: str) -> str:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: expected a finite number, got {cell!r}")
    return repr(value)
