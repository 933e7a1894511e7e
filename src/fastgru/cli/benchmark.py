"""LSTM, torch.nn.GRU and fastgru.GRU side by side: parameters, gates, time, and memory kept for backward."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import fastgru
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
    saved_bytes: kept from forward for backward, beyond input, output and parameters.
    """

    name: str
    parameters: int
    gates: int
    forward_ms: float
    training_ms: float
    saved_bytes: int


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
            forward_ms=forward[name],
            training_ms=training[name],
            saved_bytes=saved_bytes(module, x),
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


def plot(rows: list[Row], shape: Shape, path: Path) -> None:
    """Draw the rows as bars into an image file; the suffix of `path` says which kind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = {
        "forward, ms": [row.forward_ms for row in rows],
        "forward + backward, ms": [row.training_ms for row in rows],
        "kept for backward, MB": [row.saved_bytes / 1e6 for row in rows],
    }
    for axes, (title, values) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        bars = axes.bar([row.name for row in rows], values, color=["#9a9a9a", "#ee4c2c", "#2a6fdb"])
        axes.bar_label(bars, fmt="%.4g")
        axes.set_title(title, fontsize=10)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{shape}, {torch.get_num_threads()} threads", fontsize=10)
    figure.savefig(path, dpi=150)


def _infer(module: torch.nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        module(x)


def _train(module: torch.nn.Module, x: Tensor) -> None:
    y, _ = module(x)
    torch.autograd.grad(y, [x, *module.parameters()], torch.ones_like(y))


def _interleaved(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median time of each call in ms, the calls taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number > 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
