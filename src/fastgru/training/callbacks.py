"""What happens at the end of an epoch: a line for the user, the log, the best model, the checkpoint."""

import csv
import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from rich.console import Console

from fastgru.common.files import atomic_write
from fastgru.training.card import Card
from fastgru.training.run_folder import RunFolder
from fastgru.training.task import Best
from fastgru.training.tasks import AnyTask


class Model(Protocol):
    """A model that writes itself into a folder."""

    def save_pretrained(self, save_directory: Path) -> Any:
        """Write the model's files."""


class History(Callback):
    """The log of a run: one row an epoch, shown to the user and written to metrics.csv.

    The rows are part of the checkpoint, so that a resumed run's log is the log of one whole run.
    `best_by`: how the best epoch is found. `columns`: of the log, if not the task's own.
    `rows`: for every epoch their values; `seconds` is the wall-clock time of that epoch.
    `begin`: what makes the folder this run's, called when the first epoch is done and before anything is written.
    """

    def __init__(
        self,
        run: RunFolder,
        console: Console,
        task: AnyTask,
        best_by: Best,
        columns: tuple[str, ...] | None = None,
        rows: list[dict[str, float]] | None = None,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self.run = run
        self.console = console
        self.task = task
        self.best_by = best_by
        self.measures = columns or task.columns
        self.columns = ("epoch", *self.measures, "seconds")
        self.rows = rows or []
        self._begin = begin
        self._started = self._elapsed = 0.0

    @property
    def best(self) -> dict[str, float]:
        """The row of the best epoch, the first of several."""
        return self.best_by.of(self.rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, which has run already where the training goes on inside an epoch."""
        self._started = time.perf_counter() - self._elapsed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row and write the log."""
        values = {name: float(trainer.callback_metrics[name]) for name in self.measures}
        row = {"epoch": trainer.current_epoch + 1, **values, "seconds": time.perf_counter() - self._started}
        self.begin()
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write()

    def show(self, epochs: int | None) -> None:
        """Tell the user of the last epoch; `epochs`: there are at most."""
        row = self.rows[-1]
        self.console.print(
            f"epoch {row['epoch']:>2}/{epochs}   {self._shown(row)}   {row['seconds']:.1f} s{self._left(epochs)}",
            highlight=False,
            soft_wrap=True,
        )

    def begin(self) -> None:
        """Make the folder this run's, where it is not yet."""
        if self._begin is not None:
            self._begin()
        self._begin = None

    def _shown(self, values: dict[str, float]) -> str:
        parts: dict[str, list[str]] = {}
        for name, value in ((name, values[name]) for name in self.measures):
            part, _, what = name.partition("_")
            parts.setdefault(part, []).append(f"{what.replace('_', ' ')} {value:.3f}")
        return "   ".join(f"{part} {' '.join(shown)}" for part, shown in parts.items())

    def _left(self, epochs: int | None) -> str:
        """What is left at most, by the mean of the last epochs; patience may end it sooner."""
        last = [row["seconds"] for row in self.rows[-3:]]
        seconds = round(sum(last) / len(last) * ((epochs or 0) - len(self.rows)))
        return f"   at most {timedelta(seconds=seconds)} left" if seconds > 0 else ""

    def _write(self) -> None:
        rows = [{name: round(value, 6) for name, value in row.items()} for row in self.rows]
        with atomic_write(self.run.metrics) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def state_dict(self) -> dict[str, Any]:
        """Give the rows and the time since the last of them, for the checkpoint."""
        return {"rows": self.rows, "elapsed": time.perf_counter() - self._started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them out of a checkpoint."""
        self.rows = list(state_dict["rows"])
        self._elapsed = float(state_dict["elapsed"])


class CheckpointWriter(Checkpoint):
    """Writes the best model into the run folder, and the checkpoint to resume from.

    A `Checkpoint`, so that Lightning runs it after every other callback and their state is complete. The best
    model goes first: a run that is killed between the two repeats the epoch and writes the same model again.
    `every`: steps between checkpoints. `card`: gives the model card of an epoch's row.
    """

    def __init__(
        self,
        run: RunFolder,
        history: History,
        model: Model,
        every: int | None,
        card: Callable[[dict[str, float]], Card],
    ) -> None:
        self.run = run
        self.history = history
        self.model = model
        self.every = every
        self.card = card

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the checkpoint at every so manyth step; at the epoch's last one it follows soon in any case."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self.every and stepped and trainer.global_step % self.every == 0 and not trainer.is_last_batch:
            self.history.begin()
            self._save_state(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the model where this epoch is the best so far and the checkpoint; then tell that it is done."""
        if trainer.is_global_zero and self.history.best is self.history.rows[-1]:
            self._save_model()
        self._save_state(trainer)
        self.history.show(trainer.max_epochs)

    def _save_state(self, trainer: Trainer) -> None:
        """Write the checkpoint whole: all processes take part in gathering it, and the first one writes."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.run.checkpoint)
            return
        with atomic_write(self.run.checkpoint) as temporary:
            trainer.save_checkpoint(temporary)

    def _save_model(self) -> None:
        # Into a temporary folder, then renamed file by file: a reader or a kill never meets half a model.
        temporary = self.run.checkpoint.parent / "best"
        shutil.rmtree(temporary, ignore_errors=True)
        self.model.save_pretrained(temporary)
        self.card(self.history.best).write(temporary)
        for file in temporary.iterdir():
            os.replace(file, self.run.path / file.name)
        temporary.rmdir()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell who stops the training with Ctrl-C how to go on."""
        if isinstance(exception, KeyboardInterrupt):
            whole = len(self.history.rows)
            told = f"stopped after {whole} whole epochs; --resume goes on from the last checkpoint"
            begun = "stopped before the first checkpoint was written"
            self.history.console.print(told if self.run.checkpoint.is_file() else begun, highlight=False)
