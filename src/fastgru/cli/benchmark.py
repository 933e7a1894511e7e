"""LSTM, torch.nn.GRU and fastgru.GRU side by side: parameters, gates, time, and memory kept for backward."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import fastgru
from fastgru.cli.bars import Bar, draw_bars
from fastgru.nn import GRU


@dataclass(frozen=True)
class Shape:
    """The problem to be timed, in the letters used everywhere: I, H, B, T, D."""

    input_size: int = 256
    hidden_size: int = 256
    batch: int = 32
    steps: int = 100
    directions: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.directions > 2:
            raise ValueError(f"directions must be 1 or 2, got {self.directions}")

    def __str__(self) -> str:
        sizes = f"I={self.input_size} H={self.hidden_size} B={self.batch} T={self.steps}"
        return sizes + (" bidirectional" if self.directions == 2 else "")


@dataclass(frozen=True)
class Row:
    """What was measured of one module.

    gates: sigmoid gates a unit has; the candidate state is not one.
    forward_ms: inference, median over the rounds; training_ms: forward and backward, every gradient taken.
    forward_spread, training_spread: the first and the third quartile, in ms: half of the rounds lie between them.
    saved_bytes: kept from forward for backward, beyond input, output and parameters.
    """

    name: str
    parameters: int
    gates: int
    forward_ms: float
    training_ms: float
    saved_bytes: int
    forward_spread: tuple[float, float]
    training_spread: tuple[float, float]


def compare(shape: Shape, rounds: int = 30) -> list[Row]:
    """Measure the three modules, one call of each in turn, so that a busy machine hits them alike.

    rounds: how often each is called, after one call to warm up; the medians are taken over them.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    modules: dict[str, torch.nn.RNNBase] = {
        name: kind(shape.input_size, shape.hidden_size, batch_first=True, bidirectional=shape.directions == 2)
        for name, kind in (("LSTM", torch.nn.LSTM), ("torch.nn.GRU", torch.nn.GRU), ("fastgru.GRU", GRU))
    }
    x = torch.randn(shape.batch, shape.steps, shape.input_size, requires_grad=True)
    forward = _interleaved({name: partial(_infer, module, x) for name, module in modules.items()}, rounds)
    training = _interleaved({name: partial(_train, module, x) for name, module in modules.items()}, rounds)
    return [
        Row(
            name=name,
            parameters=sum(weight.numel() for weight in module.parameters()),
            gates=module.get_parameter("weight_hh_l0").size(0) // shape.hidden_size - 1,
            forward_ms=statistics.median(forward[name]),
            training_ms=statistics.median(training[name]),
            saved_bytes=saved_bytes(module, x),
            forward_spread=quartiles(forward[name]),
            training_spread=quartiles(training[name]),
        )
        for name, module in modules.items()
    ]


def saved_bytes(module: torch.nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for backward, beyond input, output and parameters; each memory block once."""
    blocks: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        blocks[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y, _ = module(x)
    counted_elsewhere = {t.untyped_storage().data_ptr() for t in (x, y, *module.parameters())}
    return sum(block.nbytes() for address, block in blocks.items() if address not in counted_elsewhere)


def machine() -> str:
    """The conditions of a measurement in one line."""
    return (
        f"fastgru {fastgru.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{_processor()}, Python {platform.python_version()}"
    )


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third: a quarter of the values is below, and a quarter above."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def plot(rows: list[Row], shape: Shape, path: Path, rounds: int | None = None) -> None:
    """Draw the rows as bars into an image file; the suffix of `path` says which kind. rounds: of `compare`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 2.7), layout="constrained")
    panels: dict[str, list[tuple[float, tuple[float, float] | None]]] = {
        "inference": [(row.forward_ms, row.forward_spread) for row in rows],
        "training (forward + backward)": [(row.training_ms, row.training_spread) for row in rows],
        "memory kept for backward": [(row.saved_bytes / 1e6, None) for row in rows],
    }
    names = [row.name for row in rows]
    for number, (axes, (title, values)) in enumerate(zip(figure.subplots(1, len(panels)), panels.items(), strict=True)):
        base = dict(zip(names, values, strict=True))["torch.nn.GRU"][0]
        bars = [
            Bar(name, value, _label(name, value, base, is_time=spread is not None), spread)
            for name, (value, spread) in zip(names, values, strict=True)
        ]
        furthest = max(value if spread is None else max(value, spread[1]) for value, spread in values)
        draw_bars(axes, bars, title, 1.9 * furthest)
        if number:
            axes.set_yticks([])
    calls = f"medians of {rounds} rounds, with quartiles; ratios are to torch.nn.GRU; " if rounds else ""
    figure.suptitle(
        f"One layer, {shape}: shorter is better",
        fontsize=12,
        x=0.01,
        ha="left",
        weight="bold",
    )
    figure.supxlabel(f"{calls}{machine()}", fontsize=8, color="#70757d", x=0.01, ha="left")
    figure.savefig(path, dpi=150)


def _label(name: str, value: float, base: float, is_time: bool) -> str:
    """What stands behind a bar: ms or MB, and of fastgru's how it compares with torch.nn.GRU's."""
    amount = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    if not is_time:
        return f"{amount} MB" + (f", {value / base:.2f}x" if name.startswith("fastgru") and base else "")
    return f"{amount} ms" + (f", {base / value:.1f}x as fast" if name.startswith("fastgru") else "")


def _infer(module: torch.nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        module(x)


def _train(module: torch.nn.Module, x: Tensor) -> None:
    y, _ = module(x)
    torch.autograd.grad(y, [x, *module.parameters()], torch.ones_like(y))


def _interleaved(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """The times of each call in ms, the calls taken in turn; a first round is not timed."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number > 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
