"""Training one step a call, against torch.nn: `python -m benchmarks.steps`, also `make bench`.

Chains of 60 steps over a cell, as decoders and world models have them, with and without dot-product attention between
the steps; 40 calls of a GRU over one step; one such call. Each is a forward and a backward pass. Gradients must agree
before anything is timed. Both run in turns, in short bursts; the figures are medians.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import fastgru
from benchmarks.layers import medians
from benchmarks.rivals import timed
from fastgru.cli.benchmark import machine

CHAINS = [(128, 128, 1), (256, 256, 1), (512, 512, 4), (24, 384, 1), (33, 70, 3), (100, 200, 16), (64, 256, 32)]
ATTENDING = [(128, 128, 1), (256, 256, 2)]
STACKS = [(128, 128, 1, 3, 1), (256, 256, 1, 2, 1)]
SINGLE = [
    *[(1, 1, 1, 1, 1), (4, 8, 1, 1, 1), (16, 16, 1, 1, 1), (16, 16, 100, 1, 1), (8, 32, 4, 2, 2)],
    *[(128, 128, 1, 1, 1), (128, 128, 1, 3, 2), (24, 384, 1, 3, 2), (64, 64, 16, 1, 2), (64, 64, 33, 1, 1)],
    *[(100, 200, 50, 1, 1), (256, 256, 1, 1, 1), (256, 256, 8, 2, 1), (256, 256, 64, 1, 1), (256, 256, 100, 1, 1)],
    *[(512, 512, 1, 1, 1), (512, 512, 2, 1, 2), (600, 600, 1, 1, 1), (600, 600, 32, 1, 1), (600, 600, 100, 2, 1)],
]
KEYS = 30


@dataclass(frozen=True)
class Case:
    """Steps of one of torch's modules and of ours, with the same weights. `run` makes the loss of either."""

    name: str
    theirs: torch.nn.Module
    ours: torch.nn.Module
    run: Callable[[Any], Tensor]

    def gradients(self, module: torch.nn.Module) -> list[Tensor]:
        """Of all weights."""
        module.zero_grad(set_to_none=True)
        self.run(module).backward()  # type: ignore[no-untyped-call]
        return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]

    def check(self, bound: float = 1e-4) -> None:
        """Raise RuntimeError where they differ: relative L2 error of each gradient, whose roundings steps let grow."""
        for own, expected in zip(self.gradients(self.ours), self.gradients(self.theirs), strict=True):
            error = ((own - expected).norm() / expected.norm()).item()
            if not error <= bound:
                raise RuntimeError(f"{self.name}: a gradient's relative error is {error:.1e}")


def chain(input_size: int, hidden_size: int, batch: int, attends: bool = False, steps: int = 60) -> Case:
    """Steps over a cell; attends: what a dot-product attention over KEYS states gives is added to the state."""
    theirs, ours = torch.nn.GRUCell(input_size, hidden_size), fastgru.GRUCell(input_size, hidden_size)
    inputs, keys = torch.randn(steps, batch, input_size), torch.randn(batch, KEYS, hidden_size)

    def run(cell: Any) -> Tensor:
        h = torch.zeros(batch, hidden_size)
        for x in inputs:
            h = cell(x, h)
            if attends:
                scores = torch.bmm(keys, h.unsqueeze(2)).softmax(dim=1)
                h = h + (scores * keys).sum(dim=1)
        return h.sum()

    name = f"{steps} steps of a cell{', attending' if attends else ''}, I={input_size} H={hidden_size} B={batch}"
    return case_of(name, theirs, ours, run)


def stack(input_size: int, hidden_size: int, batch: int, layers: int, directions: int, calls: int) -> Case:
    """Calls of a GRU over one step each."""
    options = {"num_layers": layers, "bidirectional": directions == 2}
    theirs = torch.nn.GRU(input_size, hidden_size, **options)  # type: ignore[arg-type]
    ours = fastgru.GRU(input_size, hidden_size, **options)  # type: ignore[arg-type]
    inputs, start = torch.randn(calls, 1, batch, input_size), torch.randn(layers * directions, batch, hidden_size)

    def run(gru: Any) -> Tensor:
        h = start  # of zeros, one call would have no gradient of W_hh
        for x in inputs:
            y, h = gru(x, h)
        loss: Tensor = y.sum()
        return loss

    sizes = f"I={input_size} H={hidden_size} B={batch} L={layers}{' bidirectional' if directions == 2 else ''}"
    return case_of(f"{calls} call{'s' if calls > 1 else ''} of a GRU over one step, {sizes}", theirs, ours, run)


def case_of(name: str, theirs: torch.nn.Module, ours: torch.nn.Module, run: Callable[[Any], Tensor]) -> Case:
    """A case whose modules have the same weights."""
    ours.load_state_dict(theirs.state_dict())
    return Case(name, theirs, ours, run)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from (chain(*sizes) for sizes in CHAINS)
    yield from (chain(*sizes, attends=True) for sizes in ATTENDING)
    yield from (stack(*sizes, calls=40) for sizes in STACKS)
    yield from (stack(*sizes, calls=1) for sizes in SINGLE)


def measure(case: Case, threads: int, seconds: float) -> tuple[float, float]:
    """Medians of torch's time and ours, in seconds."""
    torch.set_num_threads(threads)
    case.check()
    runs = {
        name: lambda count, module=module: timed(lambda: case.gradients(module), count)  # type: ignore[misc]
        for name, module in (("theirs", case.theirs), ("ours", case.ours))
    }
    found = medians(runs, seconds)
    return found["theirs"], found["ours"]


def compare(title: str, cases: Iterable[Case], description: str | None) -> None:
    """Measure and print a table, as the command line says."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each of the two and each case")
    options = parser.parse_args()
    print(f"{machine()}. Medians in ms; in brackets, torch's time over ours.\n")
    heads = [f"{threads} thread{'s' if threads > 1 else ''}: torch.nn, fastgru" for threads in options.threads]
    print(f"| {title} | {' | '.join(heads)} |\n|--|{'--|' * len(heads)}")
    for case in cases:
        cells = []
        for threads in options.threads:
            theirs, ours = measure(case, threads, options.seconds)
            cells.append(f"{theirs * 1e3:.2f}, {ours * 1e3:.2f} ({theirs / ours:.2f})")
        print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    compare("training, one step a call", cases(), __doc__)
