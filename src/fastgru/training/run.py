"""A whole run of any task, from options to the best model; and going on with one that was stopped."""

import atexit
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console

from fastgru.common.errors import InputError
from fastgru.common.processes import rank, silence, torchrun_world
from fastgru.training.batches import TaskData
from fastgru.training.callbacks import CheckpointWriter, History
from fastgru.training.card import Card
from fastgru.training.curves import draw_curves
from fastgru.training.module import TaskModule
from fastgru.training.options import TrainOptions
from fastgru.training.progress import EpochBar
from fastgru.training.run_folder import RunFolder
from fastgru.training.stop import stoppable
from fastgru.training.task import Best, Data
from fastgru.training.tasks import TASKS
from fastgru.training.tracking import Tracking


def train(
    options: TrainOptions, run: RunFolder, console: Console, *, overwrite: bool = False, data: Data | None = None
) -> History:
    """Train anew into `run`; returns the log.

    `data`: what to train on, where it has been loaded; a run can be resumed where it is what the options name.
    With `overwrite` an earlier run in the folder stays whole until this one's first checkpoint. Of several processes
    the first one alone touches the folder. InputError for bad data or a folder that is taken, Stopped by Ctrl-C or
    SIGTERM.
    """
    if rank() == 0:
        run.check_free(overwrite, options.inputs)
    options.check_accelerator()
    if data is None:
        data = TASKS[options.task].load_data(options)
    with _locked(run):
        return _train(options, data, run, console, checkpoint=None)


def resume(run: RunFolder, console: Console, *, epochs: int | None = None, patience: int | None = None) -> History:
    """Go on with the run in `run` from its last checkpoint, with its own options; returns the log.

    It ends as the uninterrupted run would have ended. InputError where there is no run, its checkpoint cannot be
    read, or its data has changed. A run that had come to its end is left as it is.
    `epochs`, `patience`: more than the run has: it goes on for longer, also after its end. Where the learning rate is
    the same in all epochs it ends as a run that had them from the beginning.
    """
    before = run.read_options()
    options = replace(before, epochs=max(epochs or 0, before.epochs), patience=max(patience or 0, before.patience))
    if run.finished and options != before:
        _check_patience(run, options)
    elif run.finished:
        console.print("the run had come to its end already", highlight=False)
        columns = run.task.columns_for(options)
        return History(run, console, run.task, run.task.best_by(options), columns, run.read_log())
    options.check_accelerator()
    data = run.task.load_data(options)
    run.check_data(data.fingerprint())
    with _locked(run):
        if options != before and rank() == 0:
            run.reopen(options)
        return _train(options, data, run, console, _readable_checkpoint(run.checkpoint))


def _check_patience(run: RunFolder, options: TrainOptions) -> None:
    """InputError where a run that is to go on for longer had come to its end for want of patience."""
    rows = run.read_log()
    waited = len(rows) - run.task.best_by(options).of(rows)["epoch"]
    if waited >= options.patience:
        raise InputError(f"the last {waited:.0f} epochs of {run.path} brought no better model: give more --patience")


def _locked(run: RunFolder) -> AbstractContextManager[None]:
    return run.locked() if rank() == 0 else nullcontext()


def _train(options: TrainOptions, data: Data, run: RunFolder, console: Console, checkpoint: Path | None) -> History:
    task = TASKS[options.task]
    console.quiet |= rank() > 0
    seed_everything(options.seed, verbose=False)
    model = task.start_model(options, data)
    module = task.module(model, options)
    batches = task.batches(data, model, options)
    best_by, begin = task.best_by(options), _beginning(options, data, run) if checkpoint is None else None
    history = History(run, console, task, best_by, task.columns_for(options), begin=begin)
    weights = sum(parameter.numel() for parameter in model.parameters())
    console.print(f"{task.describe(data, model)}; {weights:,} weights", highlight=False, soft_wrap=True)
    card = partial(Card, task, run.path.absolute().name, options, data, model)
    writer = CheckpointWriter(run, history, module.averaged, options.checkpoint_every, card)
    callbacks = [EpochBar(console), history, Tracking(history), _Patience(best_by, options.patience), writer]
    with _quiet(), _threads(options.threads), _deterministic(), stoppable():
        trainer = _trainer(options, callbacks)
        _fit(trainer, module, batches, checkpoint)
    if rank() == 0:
        draw_curves(history.rows, run.curves, history.best, f"{options.task}: {run.path.resolve().name}")
        run.finish()
    return history


def _beginning(options: TrainOptions, data: Data, run: RunFolder) -> Callable[[], None] | None:
    """Give what makes the folder this run's; an empty one is at once, so that a resumed training finds its options."""
    if rank() > 0:
        return None
    begin = partial(run.create, options, data.fingerprint())
    if not any(run.path.iterdir()):
        begin()
    return begin


def _fit(trainer: Trainer, module: TaskModule[Any], data: TaskData, checkpoint: Path | None) -> None:
    """Fit from the checkpoint; InputError where it belongs to another model."""
    if checkpoint is not None:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        sizes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        if {name: tensor.shape for name, tensor in weights.items()} != sizes:
            raise InputError(f"{checkpoint} holds a model of other sizes than train.json: train anew with --overwrite")
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)


def _trainer(options: TrainOptions, callbacks: list[Callback]) -> Trainer:
    devices, machines = torchrun_world() or (options.devices, 1)
    if devices * machines > 1 and not torch.distributed.is_initialized():
        atexit.register(_destroy_process_group)
    return Trainer(
        max_epochs=options.epochs,
        callbacks=callbacks,
        accelerator=options.accelerator,
        devices=devices,
        num_nodes=machines,
        strategy=DDPStrategy(timeout=timedelta(seconds=silence())) if devices * machines > 1 else "auto",
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        accumulate_grad_batches=options.accumulate,
        deterministic=True,
        logger=False,  # History is the log
        enable_checkpointing=True,
        enable_progress_bar=False,  # EpochBar is ours
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # TrainBatches gives each process its share
    )


def _destroy_process_group() -> None:
    """Take down the process group that the trainer made, while there is still an interpreter.

    Lightning does so for nccl alone. Gloo's threads drop a collective's tensors some time after it is done; one that
    then asks an interpreter that is ending for its lock aborts the process, its work done: "terminate called without
    an active exception" (https://github.com/pytorch/pytorch/issues/190489). Not at the end of a training: another one
    in the same process goes on with the group, and a second one would never meet in torchrun's store.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class _Patience(EarlyStopping):
    """Early stopping on the best column that also ends a resumed run which had already run out of patience."""

    def __init__(self, best_by: Best, patience: int) -> None:
        super().__init__(best_by.column, mode=best_by.mode, patience=patience, check_on_train_epoch_end=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take how long it has waited out of a checkpoint, and not the patience, which may be more by now."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where the checkpoint says so."""
        trainer.should_stop = self.wait_count >= self.patience


def _readable_checkpoint(checkpoint: Path) -> Path | None:
    if not checkpoint.is_file():
        return None  # stopped in the first epoch
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["pytorch-lightning_version"] and state["state_dict"] and state["callbacks"]:
            return checkpoint
        raise ValueError("an empty state")
    # A cut or foreign file raises any of these, by where the damage is.
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, AttributeError, TypeError, UnpicklingError) as error:
        # torch's own words are left out: they advise to load it unsafely.
        raise InputError(
            f"{checkpoint} is not a readable checkpoint (cut, or not one of ours): train anew with --overwrite"
        ) from error


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Let the trainer choose deterministic algorithms for this training alone.

    Torch's mode also fills new memory with NaN: to find mistakes, not to be deterministic. That is left to those who
    had the mode on already.
    """
    filling: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = filling.fill_uninitialized_memory
    filling.fill_uninitialized_memory = filled and before
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        filling.fill_uninitialized_memory = filled


@contextmanager
def _quiet() -> Iterator[None]:
    # Lightning tells at level INFO which accelerators there are and which seed it set: the commands say what matters.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Lightning 2.6 asks torch's pytree in a way that torch 2.13 deprecates: theirs to mend.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
        yield
