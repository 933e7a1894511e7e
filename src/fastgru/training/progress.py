"""A progress bar for the epoch that runs, on the console that the lines of finished epochs go to."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fastgru.training.module import TaskModule

EVERY = 0.5  # seconds from one drawing to the next


class EpochBar(Callback):
    """One line: the epoch, a bar, steps done, time left in the epoch, training loss and measures so far.

    Not Lightning's bar: at 80 columns that one breaks into three lines, and it writes to a console of its own,
    across our lines. Shows nothing where the console is no terminal.

    It is drawn between two steps. rich's own thread would draw inside of them, ten times a second, and take one of the
    processors from kernels whose threads wait for one another: a step of two threads on two cores took a fifth longer.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("epoch {task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[so_far]}"),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._loss, self._steps = 0.0, 0
        self._drawn = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the loss anew."""
        self._loss, self._steps = 0.0, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar by a step, or by its part."""
        if self._progress.disable:
            return
        self._loss, self._steps = self._loss + float(outputs["loss"]), self._steps + 1
        if time.monotonic() - self._drawn < EVERY and not trainer.is_last_batch:
            return
        measures = {"loss": self._loss / self._steps}
        if isinstance(pl_module, TaskModule) and trainer.world_size == 1:  # with others one would have to ask them
            measures |= pl_module.so_far()
        so_far = " ".join(f"{name} {value:.3f}" for name, value in measures.items())
        done = (batch_idx + 1) / trainer.accumulate_grad_batches
        self._progress.update(self._started(trainer), completed=int(done), so_far=so_far, refresh=True)
        self._drawn = time.monotonic()

    def _started(self, trainer: Any) -> TaskID:
        """Give the bar of this epoch, which may have begun before the training was resumed."""
        if self._task is None:
            self._progress.start()
            epoch = f"{trainer.current_epoch + 1:>2}/{trainer.max_epochs}"
            self._task = self._progress.add_task(epoch, total=trainer.datamodule.steps, so_far="")
        return self._task

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away: the epoch's line follows."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that what is said next stands on a line of its own."""
        self._stop()

    def _stop(self) -> None:
        self._progress.stop()
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
