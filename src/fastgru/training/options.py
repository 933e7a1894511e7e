"""TrainOptions: what every task's training can be told. A field's annotation is its option on the command line."""

from dataclasses import dataclass, fields, replace
from glob import glob
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import typer

from fastgru.common.errors import InputError
from fastgru.data.table_format import TableFormat

TRAINING = "Training"
LONGER = ("epochs", "patience")  # that a resumed run may have more of

Seed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same model.", rich_help_panel=TRAINING)
]
Epochs = Annotated[int, typer.Option(min=1, help="At most so many passes over the data.", rich_help_panel=TRAINING)]
Patience = Annotated[
    int, typer.Option(min=1, help="Stop after so many epochs without a better model.", rich_help_panel=TRAINING)
]
BatchSize = Annotated[int, typer.Option(min=1, help="Examples a step.", rich_help_panel=TRAINING)]
LearningRate = Annotated[float, typer.Option(min=1e-9, max=1.0, help="Learning rate.", rich_help_panel=TRAINING)]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        min=1, help="Tokens a step at most, padding included, in place of --batch-size.", rich_help_panel=TRAINING
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(
        min=1, help="Parts to compute a step's batch in: less memory, the same result.", rich_help_panel=TRAINING
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Leave the training part on the disk or the Hub: Parquet (--data 'mail/*.parquet') or a dataset.",
        rich_help_panel="Data",
    ),
]
Precision = Annotated[
    Literal["32", "bf16"], typer.Option(help="bf16: mixed, weights in 32 bits.", rich_help_panel=TRAINING)
]
Accelerator = Annotated[
    Literal["auto", "cpu", "gpu"], typer.Option(help="auto: a GPU where there is one.", rich_help_panel=TRAINING)
]
Devices = Annotated[
    int,
    typer.Option(
        min=1, help="Processes, one a device, that share each batch; under torchrun, its own.", rich_help_panel=TRAINING
    ),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(min=1, help="Steps between checkpoints, beside the one of each epoch.", rich_help_panel=TRAINING),
]
Threads = Annotated[
    int,
    typer.Option(min=1, max=1024, help="Threads; more pay for large models only.", rich_help_panel=TRAINING),
]


StartFrom = Annotated[
    str | None,
    typer.Option("--from", help="A saved model to start from, in a folder or on the Hub.", rich_help_panel=TRAINING),
]

CARD = "Model card"
Language = Annotated[
    str | None, typer.Option(help="Of the data, as the Hub writes it: en, zh, multilingual.", rich_help_panel=CARD)
]
License = Annotated[
    str | None, typer.Option(help="Of the model, as the Hub writes it: mit, cc-by-4.0.", rich_help_panel=CARD)
]

TABLES = "Tables"


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How table files are written, where that is not to be seen: of a task that reads tables, and of its `predict`."""

    separator: Annotated[
        str | None,
        typer.Option(help="Between fields: a character or 'tab'.  [default: recognised]", rich_help_panel=TABLES),
    ] = None
    encoding: Annotated[str | None, typer.Option(help="Such as latin-1.  [default: UTF-8]", rich_help_panel=TABLES)] = (
        None
    )
    header: Annotated[
        bool,
        typer.Option(help="Whether the first row names the columns; otherwise 1, 2, ...", rich_help_panel=TABLES),
    ] = True
    skip_blank: Annotated[
        bool, typer.Option("--skip-blank", help="Leave out rows that are blank.", rich_help_panel=TABLES)
    ] = False

    def __post_init__(self) -> None:
        """InputError for a separator or an encoding that is none."""
        _ = self.table

    @property
    def table(self) -> TableFormat:
        """The form of the tables."""
        return TableFormat(self.separator, self.encoding, self.header, self.skip_blank)


TABLE_FIELDS = ("separator", "encoding", "header", "skip_blank")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of a training; train.json holds them. A task adds its own, and may give these other defaults.

    `start_from`: a model whose tokens, sizes and weights this one begins with.
    `lr`: learning rate of AdamW; `patience`: epochs without a better model before it stops.
    `batch_size`, `batch_tokens`: of a step, whatever the number of processes (`devices`) and of parts (`accumulate`).
    `precision`: "bf16" is Lightning's bf16-mixed. `checkpoint_every`: steps that a killed training loses at most.
    `language`, `license`: what the model card says of them.
    `threads`: of the CPU. A step of a small model is so short that the second thread made it 1.3 times as fast on an
    idle machine and 10 times as slow on a busy one; and with one the result does not depend on the machine's cores.
    """

    task: ClassVar[str]

    start_from: StartFrom = None
    seed: Seed = 0
    epochs: Epochs = 12
    patience: Patience = 4
    batch_size: BatchSize = 64
    batch_tokens: BatchTokens = None
    lr: LearningRate = 2e-3
    accumulate: Accumulate = 1
    precision: Precision = "32"
    accelerator: Accelerator = "auto"
    devices: Devices = 1
    checkpoint_every: CheckpointEvery = None
    threads: Threads = 1
    language: Language = None
    license: License = None

    def check_accelerator(self) -> None:
        """InputError where a GPU is asked for and there is none: before any data is read."""
        if self.accelerator != "gpu":
            return
        import torch

        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            raise InputError("--accelerator gpu: torch sees no GPU here; leave it out, or take cpu")

    def anchored(self) -> Self:
        """Give the same options with the paths of data that is there absolute: a run is gone on with from anywhere.

        What is no path, such as the name of a dataset, stays; so does what a task calls its own data.
        """
        paths: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if (
                field.name in ("data", "test", "vectors", "start_from")
                and value
                and value != field.default
                and glob(value)
            ):
                paths[field.name] = str(Path(value).absolute())
        return replace(self, **paths)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths that are read, none of which may be one of the files that a run writes."""
        return ()
