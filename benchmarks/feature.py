"""One row of the features' table: who runs it, on what, and that all give the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import fastgru
from benchmarks.layers import medians
from benchmarks.rivals import timed
from fastgru.cli.benchmark import Shape

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Feature:
    """A feature, who runs it: ours first, then the plain kernel, then what users do today; and where they differ.

    real [T, B] bool: the steps whose outputs must agree, but for the plain kernel's.
    """

    name: str
    x: Tensor
    real: Tensor
    runs: dict[str, tuple[torch.nn.Module, Run]]
    modes: Sequence[str] = ("inference", "training")

    def check(self) -> None:
        """Raise AssertionError where an output, in eval, is another's."""
        for layer, _ in self.runs.values():
            layer.eval()
        ours, _, *others = (run(self.x)[self.real] for _, run in self.runs.values())
        for other in others:
            torch.testing.assert_close(other, ours, rtol=1e-4, atol=1e-5)

    def times(self, mode: str, seconds: float) -> dict[str, float]:
        """The medians."""
        run = {"inference": _infer, "training": _train}[mode]
        for layer, _ in self.runs.values():
            layer.train(mode == "training")
        return medians({name: partial(run, self.x, *each) for name, each in self.runs.items()}, seconds)


def _infer(x: Tensor, layer: torch.nn.Module, run: Run, count: int) -> list[float]:
    with torch.no_grad():
        return timed(lambda: run(x), count)


def _train(x: Tensor, layer: torch.nn.Module, run: Run, count: int) -> list[float]:
    leaves = [x.detach().requires_grad_(), *layer.parameters()]
    return timed(lambda: torch.autograd.grad(run(leaves[0]).sum(), leaves), count)


def pair(shape: Shape, **own: Any) -> tuple[fastgru.GRU, torch.nn.GRU, Tensor]:
    """Our layer with options of its own, torch's with the same weights, and an input."""
    torch.manual_seed(0)
    options = {"bidirectional": shape.directions == 2}
    ours = fastgru.GRU(shape.input_size, shape.hidden_size, **options, **own)
    theirs = torch.nn.GRU(shape.input_size, shape.hidden_size, **options)
    theirs.load_state_dict({name: weight for name, weight in ours.state_dict().items() if "gain" not in name})
    return ours, theirs, torch.randn(shape.steps, shape.batch, shape.input_size)
