from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest
import torch

from fastgru.data.bucketing import Batching
from fastgru.training.batches import MicroBatch, TrainBatches, ValidationBatches, in_memory

LENGTHS = [length % 13 + 1 for length in range(0, 410, 7)]


@dataclass
class Rows:
    """Rows whose batch is their numbers."""

    lengths: list[int] = field(default_factory=lambda: list(LENGTHS))
    first: int = 0

    def __getitem__(self, rows: list[int]) -> list[int]:
        return [self.first + row for row in rows]

    def weight(self, rows: list[int]) -> float:
        return float(sum(self.lengths[row] for row in rows))


def batches_of(rank: int = 0, world: int = 1, accumulate: int = 1, **batching: Any) -> TrainBatches:
    kind = Batching(**{"batch_size": 8, "bucket": 3, **batching})
    return TrainBatches(in_memory(Rows()), kind, seed=1, accumulate=accumulate, rank=rank, world=world)


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 3), (3, 2)])
def test_shares_make_up_the_batches_of_one_process(world: int, accumulate: int) -> None:
    whole = [share.batch for share in batches_of()]
    parts = [list(batches_of(rank, world, accumulate)) for rank in range(world)]
    for step, batch in enumerate(whole):
        shares = [share for part in parts for share in part[step * accumulate : (step + 1) * accumulate]]
        assert sorted(share.part for share in shares) == [*range(world * accumulate)]
        assert sorted(row for share in shares if share.weight for row in share.batch) == sorted(batch)


@pytest.mark.parametrize("parts", [1, 3, 11])
def test_scaled_mean_losses_have_the_whole_batchs_mean(parts: int) -> None:
    losses = torch.rand(len(LENGTHS), dtype=torch.float64)
    weights = torch.tensor(LENGTHS, dtype=torch.float64)

    def mean(rows: list[int]) -> float:
        return float((losses[rows] * weights[rows]).sum() / weights[rows].sum())

    shares = list(batches_of(accumulate=parts))
    for step, whole in enumerate(batches_of()):
        of_step = shares[step * parts : (step + 1) * parts]
        assert sum(share.scale * mean(share.batch) for share in of_step) / parts == pytest.approx(mean(whole.batch))


def test_a_part_without_rows_counts_nothing() -> None:
    last = [share for share in batches_of(accumulate=11) if not share.weight]
    assert last
    assert all(share.scale == 0 and len(share.batch) == 1 for share in last)


def test_epochs_hold_every_row_once_and_differ() -> None:
    batches = batches_of()
    first, second = ([share.batch for share in batches] for _ in range(2))
    assert first != second
    assert sorted(chain(*first)) == sorted(chain(*second)) == [*range(len(LENGTHS))]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert list(batches_of()) == list(batches_of())
    other = batches_of()
    other.seed = 2
    assert list(batches_of()) != list(other)


def test_rows_of_a_batch_have_like_lengths() -> None:
    lengths = [length for length in range(1, 26) for _ in range(10)]
    batches = Batching(8, bucket=10).shuffled(lengths, torch.Generator().manual_seed(0))
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches]
    assert sum(spread) / len(spread) < 4


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_start_inside_an_epoch_gives_what_follows(accumulate: int) -> None:
    whole, resumed = batches_of(accumulate=accumulate), batches_of(accumulate=accumulate)
    list(whole)
    second: list[MicroBatch] = list(whole)
    resumed.start = (1, 3)
    assert list(resumed) == second[3 * accumulate :]
    assert list(resumed) == list(whole)


def test_a_budget_of_tokens_counts_the_padding() -> None:
    shares = list(batches_of(batch_tokens=40))
    sizes = [len(share.batch) for share in shares]
    padded = [len(share.batch) * max(LENGTHS[row] for row in share.batch) for share in shares]
    assert max(padded) <= 40
    assert min(sizes) <= 3 < 8 <= max(sizes)
    assert sorted(row for share in shares for row in share.batch) == [*range(len(LENGTHS))]


def test_a_row_beyond_the_budget_is_a_batch_of_its_own() -> None:
    batches = Batching(batch_size=4, batch_tokens=10).shuffled([3, 30, 3, 3], torch.Generator())
    assert sorted(map(sorted, batches)) == [[0, 2, 3], [1]]


def test_windows_follow_each_other() -> None:
    halves = [Rows(LENGTHS[:30]), Rows(LENGTHS[30:], first=30)]
    batches = TrainBatches(lambda order: halves, Batching(8), seed=0, accumulate=1, rank=0, world=1)
    rows = [row for share in batches for row in share.batch]
    assert sorted(rows[:30]) == [*range(30)]
    assert sorted(rows[30:]) == [*range(30, len(LENGTHS))]


@pytest.mark.parametrize("world", [1, 2, 100])
def test_validation_sees_every_row_once(world: int) -> None:
    rows = Rows(LENGTHS * 9)
    seen = [row for rank in range(world) for batch in ValidationBatches(rows, rank=rank, world=world) for row in batch]
    assert sorted(seen) == [*range(len(LENGTHS) * 9)]
