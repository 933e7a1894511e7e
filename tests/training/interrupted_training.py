"""Trains as `python interrupted_training.py DATA OUT MOMENT`, and sends itself a signal at that moment of epoch 3."""

import os
import signal
import sys
from pathlib import Path

from lightning.pytorch import Trainer
from rich.console import Console
from test_training import options_for

from fastgru.common.errors import Stopped
from fastgru.training import run as training
from fastgru.training.callbacks import CheckpointWriter
from fastgru.training.classify.module import ClassifyModule
from fastgru.training.run_folder import RunFolder

# A process started in the background of a shell inherits that SIGINT is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
data, out, moment = sys.argv[1:]
step, save = ClassifyModule.training_step, Trainer.save_checkpoint


def step_or_die(module: ClassifyModule, batch: object, index: int) -> object:
    if module.current_epoch == 2 and index == 2:
        signals = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM}
        os.kill(os.getpid(), signals.get(moment, signal.SIGKILL))
    return step(module, batch, index)


def save_or_die(trainer: Trainer, path: Path) -> None:
    if trainer.current_epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(trainer, path)


if moment == "before the checkpoint":
    CheckpointWriter.on_train_epoch_end.__globals__["Trainer"].save_checkpoint = save_or_die
else:
    ClassifyModule.training_step = step_or_die
try:
    training.train(options_for(data), RunFolder(Path(out)), Console(stderr=True))
except Stopped as stop:
    sys.exit(stop.code)
