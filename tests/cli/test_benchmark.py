"""The comparison of LSTM, torch.nn.GRU and fastgru.GRU."""

import time
from functools import partial
from pathlib import Path

import pytest
import torch

import fastgru
from fastgru.cli import benchmark
from fastgru.cli.benchmark import Shape

SMALL = Shape(input_size=3, hidden_size=4, batch=2, steps=5)


def test_compare_measures_the_three_modules() -> None:
    rows = benchmark.compare(SMALL, rounds=2)
    assert [row.name for row in rows] == ["LSTM", "torch.nn.GRU", "fastgru.GRU"]
    assert [row.gates for row in rows] == [3, 2, 2]
    lstm, theirs, ours = rows
    assert lstm.parameters == sum(p.numel() for p in torch.nn.LSTM(3, 4).parameters())
    assert theirs.parameters == ours.parameters == sum(p.numel() for p in torch.nn.GRU(3, 4).parameters())
    assert all(row.forward_ms > 0 and row.training_ms > 0 and row.saved_bytes > 0 for row in rows)


def test_compare_runs_bidirectional() -> None:
    rows = benchmark.compare(Shape(3, 4, 2, 5, directions=2), rounds=1)
    assert rows[2].parameters == sum(p.numel() for p in fastgru.GRU(3, 4, bidirectional=True).parameters())


def test_saved_bytes_counts_each_block_once_and_nothing_that_lives_anyway() -> None:
    class Squares(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            middle = x * x
            return middle * middle + x, None

    x = torch.ones(100, requires_grad=True)
    assert benchmark.saved_bytes(Squares(), x) == 400  # `middle`, kept twice


def test_interleaved_skips_the_first_call() -> None:
    pauses = iter([0.05, 0.001, 0.02, 0.001])
    times = benchmark._interleaved({"pause": lambda: time.sleep(next(pauses))}, rounds=3)
    assert len(times["pause"]) == 3
    assert max(times["pause"]) < 45


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"steps": -1}, {"directions": 3}], ids=str)
def test_shape_refuses_sizes_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} must be .*, got {next(iter(wrong.values()))}"):
        Shape(**wrong)


def test_compare_refuses_no_rounds() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        benchmark.compare(SMALL, rounds=0)


def test_plot_writes_an_image(tmp_path: Path) -> None:
    draw = partial(benchmark.plot, benchmark.compare(SMALL, rounds=1), SMALL)
    draw(tmp_path / "benchmark.png")
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
