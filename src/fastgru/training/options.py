"""TrainOptions: what every task's training can be told. A field's annotation is its option on the command line."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

TRAINING = "Training"

Seed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same model.", rich_help_panel=TRAINING)
]
Epochs = Annotated[int, typer.Option(min=1, help="At most so many passes over the data.", rich_help_panel=TRAINING)]
Patience = Annotated[
    int, typer.Option(min=1, help="Stop after so many epochs without a better model.", rich_help_panel=TRAINING)
]
BatchSize = Annotated[int, typer.Option(min=1, help="Examples a step.", rich_help_panel=TRAINING)]
LearningRate = Annotated[float, typer.Option(min=1e-9, max=1.0, help="Learning rate.", rich_help_panel=TRAINING)]
Threads = Annotated[
    int,
    typer.Option(min=1, max=1024, help="Threads; more pay for large models only.", rich_help_panel=TRAINING),
]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of a training; train.json holds them. A task adds its own, and may give these other defaults.

    `lr`: learning rate of AdamW; `patience`: epochs without a better model before it stops.
    `threads`: of the CPU. A step of a small model is so short that the second thread made it 1.3 times as fast on an
    idle machine and 10 times as slow on a busy one; and with one the result does not depend on the machine's cores.
    """

    task: ClassVar[str]

    seed: Seed = 0
    epochs: Epochs = 12
    patience: Patience = 4
    batch_size: BatchSize = 64
    lr: LearningRate = 2e-3
    threads: Threads = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths that are read, none of which may be one of the files that a run writes."""
        return ()
