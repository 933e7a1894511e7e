"""Training a TextClassifier: the Lightning module, and the whole run from options to the best model."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, EarlyStopping
from rich.console import Console
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchmetrics.classification import MulticlassAccuracy

from fastgru.data.split import Splits, load_splits
from fastgru.data.text import train_tokenizer
from fastgru.errors import InputError
from fastgru.models import TextClassifier, TextClassifierConfig
from fastgru.training.batches import Batch, ClassifyData
from fastgru.training.callbacks import History, Keep
from fastgru.training.curves import draw_curves
from fastgru.training.progress import EpochBar
from fastgru.training.run_folder import ClassifyOptions, RunFolder
from fastgru.training.stop import stoppable

Weights = tuple[Tensor, ...] | list[Tensor]

AVERAGING = 0.995  # share of the old average kept at each step: about the last 200 steps, 1.5 epochs of the reviews


class ClassifyModule(LightningModule):
    """A TextClassifier in training, and the running average of its weights, which is what is measured and kept."""

    def __init__(self, model: TextClassifier, *, lr: float, seed: int) -> None:
        super().__init__()
        self.model = model
        self.average = AveragedModel(model, multi_avg_fn=_average)
        self.lr = lr
        self.seed = seed
        classes = len(model.config.labels)
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.validation_accuracy = MulticlassAccuracy(classes, average="micro")

    @property
    def averaged(self) -> TextClassifier:
        """The model with averaged weights."""
        return cast(TextClassifier, self.average.module)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Give the cross entropy of one batch."""
        # Dropout is a function of the seed and the step: a resumed run draws what an uninterrupted one does.
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)
        logits = self.model(batch.ids, batch.lengths)
        loss = nn.functional.cross_entropy(logits, batch.targets)
        self.train_accuracy(logits, batch.labels)
        size = len(batch.labels)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=size)
        self.log("train_accuracy", self.train_accuracy, prog_bar=True, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def on_train_batch_end(self, *step: object) -> None:
        """Add the weights that the step left to the average."""
        self.average.update_parameters(self.model)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure the averaged model on one batch."""
        logits = self.averaged(batch.ids, batch.lengths)
        loss = nn.functional.cross_entropy(logits, batch.targets)
        self.validation_accuracy(logits, batch.labels)
        self.log("validation_loss", loss, batch_size=len(batch.labels))
        self.log("validation_accuracy", self.validation_accuracy, prog_bar=True, batch_size=len(batch.labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the model's own weights."""
        return torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=0.01, fused=True)


@torch.no_grad()
def _average(averages: Weights, currents: Weights, steps: Tensor | int) -> None:
    # a += (1 - d) (w - a) with d = min(AVERAGING, (1 + n) / (10 + n)): the first weights are soon forgotten.
    kept = min(AVERAGING, (1 + int(steps)) / (10 + int(steps)))
    torch._foreach_lerp_(averages, currents, 1 - kept)


def train_classifier(options: ClassifyOptions, run: RunFolder, console: Console, *, overwrite: bool = False) -> History:
    """Train anew into `run`; returns the log.

    With `overwrite` an earlier run in the folder stays whole until the first epoch of this one is done. InputError for
    bad data or a folder that is taken, Stopped by Ctrl-C or SIGTERM.
    """
    run.check_free(overwrite, (options.data, options.test))
    splits = load_splits(options.data, options.text, options.label, options.test)
    with run.locked():
        return _train(options, splits, run, console, checkpoint=None)


def resume_classifier(run: RunFolder, console: Console) -> History:
    """Go on with the run in `run` from its last whole epoch, with its own options; returns the log.

    It ends as the uninterrupted run would have ended. InputError where there is no run, its checkpoint cannot be
    read, or its data has changed. A run that had come to its end is left as it is.
    """
    options = run.read_options()
    if run.finished:
        console.print("the run had come to its end already", highlight=False)
        return History(run, console, rows=run.read_log())
    splits = load_splits(options.data, options.text, options.label, options.test)
    run.check_data(splits.fingerprint())
    with run.locked():
        return _train(options, splits, run, console, _readable(run.checkpoint))


def _train(
    options: ClassifyOptions, splits: Splits, run: RunFolder, console: Console, checkpoint: Path | None
) -> History:
    seed_everything(options.seed, verbose=False)
    model = _build(options, splits)
    module = ClassifyModule(model, lr=options.lr, seed=options.seed)
    data = ClassifyData(splits, model, batch_size=options.batch_size, seed=options.seed)
    begin = partial(run.create, options, splits.fingerprint())
    if checkpoint is None and not any(run.path.iterdir()):
        begin()
    history = History(run, console, begin=begin if checkpoint is None else None)
    _describe(splits, model, console)
    callbacks = [
        EpochBar(console, module.train_accuracy),
        history,
        _Patience(options.patience),
        Keep(run, history, module.averaged),
    ]
    with _quiet(), _threads(options.threads), stoppable():
        trainer = _trainer(options, callbacks)
        _load_or_refuse(trainer, module, data, checkpoint)
    draw_curves(history.rows, run.curves)
    run.finish()
    return history


def _load_or_refuse(trainer: Trainer, module: ClassifyModule, data: ClassifyData, checkpoint: Path | None) -> None:
    """Fit from the checkpoint; InputError where it belongs to another model."""
    if checkpoint is not None:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        sizes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        if {name: tensor.shape for name, tensor in weights.items()} != sizes:
            raise InputError(f"{checkpoint} holds a model of other sizes than train.json: train anew with --overwrite")
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)


def _build(options: ClassifyOptions, splits: Splits) -> TextClassifier:
    tokenizer = train_tokenizer(splits.train.texts)
    config = TextClassifierConfig(
        labels=splits.labels,
        vocab_size=tokenizer.get_vocab_size(),
        embedding_size=options.embedding_size,
        hidden_size=options.hidden_size,
        dropout=options.dropout,
    )
    return TextClassifier(config, tokenizer)


def _trainer(options: ClassifyOptions, callbacks: list[Callback]) -> Trainer:
    return Trainer(
        max_epochs=options.epochs,
        callbacks=callbacks,
        gradient_clip_val=1.0,
        deterministic=True,
        logger=False,  # History is the log
        enable_checkpointing=True,
        enable_progress_bar=False,  # EpochBar is ours
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


class _Patience(EarlyStopping):
    """Early stopping on validation accuracy that also ends a resumed run which had already run out of patience."""

    def __init__(self, patience: int) -> None:
        super().__init__("validation_accuracy", mode="max", patience=patience, check_on_train_epoch_end=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where the checkpoint says so."""
        trainer.should_stop = self.wait_count >= self.patience


def _readable(checkpoint: Path) -> Path | None:
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


def _describe(splits: Splits, model: TextClassifier, console: Console) -> None:
    weights = sum(parameter.numel() for parameter in model.parameters())
    console.print(
        f"{len(splits.train):,} texts to train on, {len(splits.validation):,} to validate, {len(splits.test):,} "
        f"to test; labels: {', '.join(splits.labels)}; {model.config.vocab_size:,} tokens; {weights:,} weights",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    # Lightning tells at level INFO which accelerators there are and which seed it set: the commands say what matters.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Rows are in memory and batches are made in microseconds: worker processes would only cost.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # Lightning 2.6 asks torch's pytree in a way that torch 2.13 deprecates: theirs to mend.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
        yield
