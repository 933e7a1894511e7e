"""Tracking: the log of a run to TensorBoard and MLflow too, by Lightning's loggers, where these are installed."""

import logging
import os
import warnings
from importlib.util import find_spec
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from fastgru.training.callbacks import History


class Tracking(Callback):
    """Gives each row of the log to the trackers that there are, its number being the step.

    TensorBoard: into the folder `tensorboard` of the run. MLflow: where the variable MLFLOW_TRACKING_URI says, and only
    if it does; a resumed training goes on with its MLflow run. CSV is `History`'s, always.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self._loggers: list[Logger] | None = None
        self._mlflow_run: str | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's row, which `History` has just added; the folder is the run's by now."""
        if not trainer.is_global_zero:
            return
        row = self.history.rows[-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's of its own database layer: nothing to do for a user
            if self._loggers is None:
                self._loggers = self._open()
            for logger in self._loggers:
                logger.log_metrics({name: value for name, value in row.items() if name != "epoch"}, int(row["epoch"]))
                logger.save()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the trackers."""
        for logger in self._loggers or ():
            logger.finalize("success")

    def _open(self) -> list[Logger]:
        run, task = self.history.run, self.history.task
        found: list[Logger] = []
        if find_spec("tensorboard"):
            found.append(TensorBoardLogger(run.path, "tensorboard", version=""))
        store = os.environ.get("MLFLOW_TRACKING_URI")
        if find_spec("mlflow") and store:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent to its makers
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            mlflow = MLFlowLogger(f"fastgru {task.name}", run.path.name, store, run_id=self._mlflow_run)
            self._mlflow_run = mlflow.run_id
            found.append(mlflow)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Give MLflow's name of the run, for the checkpoint."""
        return {"mlflow_run": self._mlflow_run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it out of a checkpoint."""
        self._mlflow_run = state_dict["mlflow_run"]
