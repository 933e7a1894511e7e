"""TargetOptions: what a training may learn in place of one label a row; and the targets of its batches."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from fastgru.common.errors import InputError
from fastgru.data.targets import Targets
from fastgru.inference.problem import SINGLE

TARGET_FIELDS = ("separator_of_labels", "target")


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Several labels a row, or a number; one label where neither is given."""

    separator_of_labels: Annotated[
        str | None,
        typer.Option(help="Several labels a row, with this between them: '|'; a list in JSON.", rich_help_panel="Data"),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(help="Column of numbers to be estimated (regression), not labels.", rich_help_panel="Data"),
    ] = None

    @property
    def targets(self) -> Targets | None:
        """What the column of labels holds; None for one label. InputError where both are given."""
        if self.separator_of_labels is not None and self.target is not None:
            raise InputError("--separator-of-labels is for labels and --target for numbers: give one of them")
        if self.separator_of_labels is not None and not self.separator_of_labels.strip(" "):
            raise InputError("--separator-of-labels takes what stands between two labels, such as '|' or ';'")
        if self.separator_of_labels is None and self.target is None:
            return None
        return Targets(self.separator_of_labels, self.target)


def columns_for(options: TargetOptions, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Give the columns of the log: of numbers there is an error, where labels have accuracy and F1."""
    if options.target is None:
        return columns
    return tuple(name.replace("accuracy", "error") for name in columns if not name.endswith("_f1"))


def configured(data: Any) -> dict[str, Any]:
    """What a model's configuration tells of the targets of `data`, the parts of a training."""
    scale: dict[str, Any] = {"target_mean": [], "target_deviation": []}
    if data.targets is None:
        return {"problem_type": SINGLE, **scale}
    return {"problem_type": data.targets.problem_type, **scale, **data.targets.scale(data.train.labels)}
