"""TaskData: the batches of any task's training, as a Lightning data module, for one process or several."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from lightning.pytorch import LightningDataModule

from fastgru.data.bucketing import Batching
from fastgru.training.options import TrainOptions

VALIDATION_ROWS = 256  # of one batch in validation


class Encoded(Protocol):
    """Rows of a task that batches are made of. `lengths [N]`: how long each row is, in tokens or steps."""

    lengths: list[int]

    def __getitem__(self, rows: list[int]) -> Any:
        """Give the batch of these rows."""

    def weight(self, rows: list[int]) -> float:
        """Give how much these rows count in a mean loss: what the loss divides by (rows, tokens, weights)."""


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Windows = Callable[[int], Iterable[Encoded]]


@runtime_checkable
class Streamed(Protocol[T_co]):
    """Rows that are read anew for each epoch, a window of them at a time."""

    def windows(self, order: int) -> Iterator[T_co]:
        """Give all rows as the number `order` shuffles them."""


class MicroBatch(NamedTuple):
    """What one process computes at a time: a micro-batch, a part of a step's batch.

    `batch`: the task's own. `weight`: of its rows, 0 where there are fewer rows than parts; then the batch is a row
    that another part has, and must not count. `scale`: what the part's mean loss is multiplied with so that the mean
    over all parts is the batch's mean loss. `part`: its number among the batch's parts.
    """

    batch: Any
    weight: float
    scale: float
    part: int


class TrainBatches:
    """The training batches of this process; every iteration is the next epoch.

    A step's batch is the same for any number of processes and of accumulated parts: process r of W computes parts
    r, r + W, ... of it. The order is a function of the seed and the epoch alone, so that a resumed training sees the
    same batches. `windows(order)`: the rows, those that are in memory at a time, as the number `order` shuffles them.
    `start`: the epoch and the step in it to begin with.
    """

    def __init__(
        self, windows: Windows, batching: Batching, *, seed: int, accumulate: int, rank: int, world: int
    ) -> None:
        self.windows = windows
        self.batching = batching
        self.seed = seed
        self.parts = range(rank, accumulate * world, world)
        self.total_parts = accumulate * world
        self.start = (0, 0)

    def __iter__(self) -> Iterator[MicroBatch]:
        epoch, done = self.start
        for window, rows in islice(self._batches(epoch), done, None):
            whole = window.weight(rows)
            for part in self.parts:
                yield self._micro_batch(window, rows, part, whole)
        self.start = (epoch + 1, 0)

    def _batches(self, epoch: int) -> Iterator[tuple[Encoded, list[int]]]:
        order = self.seed * 1_000_003 + epoch
        generator = torch.Generator().manual_seed(order)
        for window in self.windows(order):
            for rows in self.batching.shuffled(window.lengths, generator):
                yield window, rows

    def _micro_batch(self, window: Encoded, rows: list[int], part: int, whole: float) -> MicroBatch:
        own = rows[part :: self.total_parts]
        weight = window.weight(own) if own else 0.0
        return MicroBatch(window[own or rows[:1]], weight, weight / whole * self.total_parts, part)


class ValidationBatches:
    """The validation batches of this process, from short to long rows."""

    def __init__(self, rows: Encoded, *, rank: int, world: int) -> None:
        self.rows = rows
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[Any]:
        order = sorted(range(len(self.rows.lengths)), key=self.rows.lengths.__getitem__)
        for first in range(0, len(order), VALIDATION_ROWS):
            own = order[first : first + VALIDATION_ROWS][self.rank :: self.world]
            if own:
                yield self.rows[own]


class TaskData(LightningDataModule):
    """Batches of the training part, shuffled anew every epoch, and of the validation part.

    `train`: the rows, by windows. `rows`: how many these are. The place in the epoch is part of a checkpoint.
    """

    def __init__(self, train: Windows, validation: Encoded, options: TrainOptions, *, rows: int) -> None:
        super().__init__()
        self.train = train
        self.validation = validation
        self.options = options
        self.rows = rows
        self._start = (0, 0)

    def train_dataloader(self) -> TrainBatches:
        """Give the training batches."""
        batches = TrainBatches(
            self.train,
            self._batching,
            seed=self.options.seed,
            accumulate=self.options.accumulate,
            rank=self._trainer.global_rank,
            world=self._trainer.world_size,
        )
        batches.start = self._start
        return batches

    def val_dataloader(self) -> ValidationBatches:
        """Give the validation batches."""
        return ValidationBatches(self.validation, rank=self._trainer.global_rank, world=self._trainer.world_size)

    @cached_property
    def steps(self) -> int:
        """Steps of an epoch: exact for batches of so many rows that are in memory, otherwise about."""
        if self.options.batch_tokens is None:
            return -(-self.rows // self.options.batch_size)
        first = next(iter(self.train(0)))
        batches = self._batching.shuffled(first.lengths, torch.Generator().manual_seed(0))
        return -(-len(batches) * self.rows // len(first.lengths))

    @property
    def _batching(self) -> Batching:
        return Batching(self.options.batch_size, self.options.batch_tokens)

    @property
    def _trainer(self) -> Any:
        return self.trainer

    def state_dict(self) -> dict[str, Any]:
        """Give the place in the training, for the checkpoint."""
        loop = self._trainer.fit_loop
        epoch = loop.epoch_progress.current
        ready = loop.epoch_loop.batch_progress.current.ready if epoch.started > epoch.processed else 0
        return {"epoch": epoch.processed, "step": ready // self.options.accumulate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the place of a checkpoint."""
        self._start = (state_dict["epoch"], state_dict["step"])


def encoded(rows: T | Streamed[T], encode: Callable[[T], Encoded]) -> Windows:
    """Give rows as what batches are made of: all at once, or those of a stream window by window."""
    if isinstance(rows, Streamed):
        return lambda order: map(encode, rows.windows(order))
    return in_memory(encode(rows))


def in_memory(encoded: Encoded) -> Windows:
    """Give rows that are all in memory as one window."""
    return lambda order: [encoded]
