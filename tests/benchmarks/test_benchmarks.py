"""The benchmark's own arithmetic and its refusals; the rivals themselves are checked by it before they are timed."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import features, invariance, layers, measurement, options, runtime, scaling, second_derivatives
from benchmarks import steps as single_steps
from benchmarks.feature import Feature
from benchmarks.layers import Measurement, check
from benchmarks.problem import Problem
from benchmarks.rivals import TorchModule, steps
from fastgru import _native
from fastgru.cli.benchmark import Shape

SHAPE = Shape(3, 4, 2, 5, 2)


def test_measurement_compares_with_the_best_rival() -> None:
    m = Measurement(
        SHAPE,
        1,
        "inference",
        {"fastgru.GRU avx512": 2e-6, "fastgru.GRU avx2": 1e-6, "torch.nn.GRU": 8e-6, "onednn": 3e-6},
    )
    assert m.best_rival == "onednn"
    assert m.over("torch.nn.GRU") == pytest.approx(4)
    products = 2 * (3 * 4 * (3 + 4)) * 2 * 5 * 2  # multiply and add, weights, batch, steps, directions
    assert m.gflops == pytest.approx(products / 2e-6 / 1e9)


def test_check_lets_right_numbers_pass_and_stops_wrong_ones() -> None:
    problem = Problem.draw(SHAPE, threads=1)
    contender = TorchModule("torch.nn.GRU", problem.layer, problem)
    check(contender, problem)
    right = contender.results()
    contender.results = lambda: [right[0], right[1] + np.float32(1e-3)]
    with pytest.raises(RuntimeError, match=r"torch\.nn\.GRU computes a wrong dx"):
        check(contender, problem)
    contender.results = lambda: [right[0] * np.float32("nan")]
    with pytest.raises(RuntimeError, match=r"torch\.nn\.GRU computes a wrong y"):
        check(contender, problem)


def test_gate_refuses_speeds_while_numerics_are_red(monkeypatch: pytest.MonkeyPatch) -> None:
    def red(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "pytest"]
        return subprocess.CompletedProcess(command, 1, "FAILED tests/nn/test_gru.py", "")

    monkeypatch.setattr(layers.subprocess, "run", red)
    with pytest.raises(SystemExit, match="the numerics tests are red, so no speed is shown"):
        layers.gate()


def test_tables_compare_with_the_first_contender() -> None:
    m = Measurement(SHAPE, 1, "inference", {"fastgru.GRU avx2": 2e-6, "torch.nn.GRU": 8e-6, "onednn": 3e-6})
    lines = layers.tables([m], {1: 2 * m.gflops}).splitlines()
    assert lines[0].startswith("inference, 1 thread, microkernel")
    assert lines[2].split(" | ")[0].strip("| ") == "I, H, B, T, D"
    cells = [cell.strip() for cell in lines[4].strip("| ").split(" | ")]
    assert cells == ["3, 4, 2, 5, 2", "0.002", "0.008 (4.00)", "0.003 (1.50)", "1.50 onednn", "50%"]
    assert lines[5].split()[1:3] == ["geometric", "mean"]


def test_a_step_is_timed_and_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layers, "gate", lambda: None)
    monkeypatch.setattr(layers, "contenders", steps)
    monkeypatch.setattr(layers, "SHAPES", [layers.STEP])
    monkeypatch.setattr(measurement, "PACKAGES", ["torch"])
    monkeypatch.setattr(sys, "argv", ["layers", "--threads", "1", "--seconds", "0.01", "--out", str(tmp_path)])
    layers.main()
    assert {path.name for path in tmp_path.iterdir()} == {"layers.md", "layers.csv", "layers.svg", "speed.svg"}
    assert "one step, 1 thread" in (tmp_path / "layers.md").read_text()
    rows = (tmp_path / "layers.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 + 2 + 4  # header, inference, training, one step


@pytest.mark.parametrize(
    "make",
    [
        lambda: features.lengths(SHAPE, 0.6),
        lambda: features.resets(Shape(3, 4, 2, 5), 0.2),
        lambda: features.streaming(Shape(3, 4, 1, 5)),
        lambda: features.memory(SHAPE, "checkpoint"),
        lambda: features.tbptt(Shape(3, 4, 2, 5), 2),
        *(partial(options.cells, Shape(3, 4, 2, 5), *option) for option in options.CELLS),
        lambda: options.stacks(Shape(3, 4, 2, 5), "dropout", dropout=0.3, variational=True),
        lambda: options.stacks(Shape(3, 4, 2, 5), "learned", learn_initial_state=True),
        lambda: options.stacks(Shape(3, 4, 2, 5), "all", return_all_layers=True),
        lambda: options.stacks(Shape(3, 4, 2, 5), "sizes", hidden_size=[4, 3]),
    ],
)
def test_features_are_timed_beside_the_same_numbers(make: Callable[[], Feature]) -> None:
    feature = make()
    feature.check()
    rows = [(feature.name, mode, feature.times(mode, 1e-4)) for mode in feature.modes]
    assert len(features.table(rows).splitlines()) == 2 + len(feature.modes)
    name, (layer, run) = list(feature.runs.items())[-1]
    feature.runs[name] = layer, lambda x: run(x) + 0.01
    with pytest.raises(AssertionError):
        feature.check()


def test_second_derivatives_are_those_of_torch() -> None:
    cases = list(second_derivatives.cases())
    for case in cases:
        case.check()
    theirs, ours = single_steps.measure(cases[-1], torch.get_num_threads(), 1e-4)
    assert theirs > 0
    assert ours > 0


def test_invariant_steps_are_timed_beside_the_default() -> None:
    default, invariant = invariance.measure((3, 4), 2, 1e-4)
    assert default > 0 < invariant
    assert not _native.is_batch_invariant()


def test_single_steps_are_timed_where_the_gradients_are_the_same() -> None:
    cases = list(single_steps.cases())
    for case in cases:
        case.check()
    theirs, ours = single_steps.measure(cases[-1], torch.get_num_threads(), 1e-4)
    assert theirs > 0 < ours
    with torch.no_grad():
        cases[0].ours.weight_hh += 0.01
    with pytest.raises(RuntimeError, match=r"60 steps of a cell, .* relative error is"):
        cases[0].check()


@pytest.mark.parametrize(
    ("kind", "batch", "steps"), [("step", 1, 1), ("sequence", 2, 3), ("frozen", 1, 1), ("frozen", 2, 4)]
)
def test_a_trained_gru_without_torch_is_timed_where_the_numbers_are_right(kind: str, batch: int, steps: int) -> None:
    row = runtime.measure(kind, batch, 6, steps, 1e-4)
    assert len(row.seconds) >= 2
    assert min(row.seconds.values()) > 0


def test_a_bar_that_is_not_reached_is_said() -> None:
    row = runtime.Row("step", 1, 64, {"runtime": 1e-6, "onnxruntime": 2e-6})
    assert str(row) == "| step B=1 H=64 | runtime 1.0 (1.00), onnxruntime 2.0 (2.00) | SHORT: onnxruntime 2.00 of 2.5 |"


def test_what_a_program_takes_until_it_has_a_gru(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "start", partial(runtime.start, rounds=1))
    monkeypatch.setattr(
        runtime, "PROGRAMS", {name: runtime.PROGRAMS[name] for name in ("fastgru.runtime", "onnxruntime")}
    )
    ours, theirs = ([float(cell) for cell in row.split("|")[2:5]] for row in runtime.starts())
    assert 0 < ours[0] < theirs[0]
    assert 0 < ours[2] < 300


@pytest.mark.parametrize(("kind", "batch", "hidden", "steps"), [("step", 1, 64, 1), ("step", 1, 128, 1)])
def test_a_stream_is_faster_than_onnxruntime_by_its_bar(kind: str, batch: int, hidden: int, steps: int) -> None:
    """Those bars that are reached with so much to spare that a busy machine leaves enough; the command has all."""
    row = runtime.measure(kind, batch, hidden, steps, 0.1)
    assert row.bars == {"onnxruntime": 2.5}
    assert row.over("onnxruntime") >= row.bars["onnxruntime"]


def test_scaling_is_its_formula() -> None:
    assert scaling.speed(0, 1.0, 0.0, 8, 1.0, 0.0) == 8
    assert scaling.speed(0, 3.0, 1.0, 4, 1.0, 0.0) == pytest.approx(4 / 1.75)  # what is not shared stays
    # Two processes send the gradient's bytes once over each link, and two messages.
    assert scaling.speed(100, 2.0, 0.0, 2, 50.0, 0.5) == pytest.approx(2 / (1 + 2 + 1))
