"""The barrier between the CTAs of a batch slice: right with a process for each, and what it needs is what it has."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import barrier
import pytest
import torch
from torch import Tensor

from fastgru.backends.triton.plan import Plan
from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.noise import Noise
from fastgru.core.spec import GRUSpec
from fastgru.core.steps import Steps

pytestmark = pytest.mark.usefixtures("triton_interpreter")

T, I, BOUND = 4, 3, 2e-6
CELLS = {"after": {}, "before": {"reset_after": False}, "normed": {"layer_norm": True}}
RESIDENT = {"BH": 16, "BB": 8, "K": 64, "KS": 2, "RESIDENT": True, "warps": 4}
STREAMING = {"BH": 16, "BB": 8, "K": 64, "KS": 16, "RESIDENT": False, "warps": 4}


def layer(cell: str, hidden: int, batch: int, bidirectional: bool = False) -> tuple[Layer, Tensor, Tensor]:
    """A layer with lengths, resets and a recurrent mask, and cotangents of its outputs."""
    spec = GRUSpec(I, hidden, bidirectional=bidirectional, **CELLS[cell])
    directions = spec.directions
    steps = Steps(lengths=torch.tensor([T, *[2] * (batch - 1)]), resets=torch.rand(T, batch) < 0.2)
    noise = Noise(recurrent=torch.bernoulli(torch.full((directions, batch, hidden), 0.7)) / 0.7)
    weights = [torch.randn(shape) * hidden**-0.5 for shape in spec.weight_shapes]
    leaves = [
        torch.randn(T, batch, I),
        torch.randn(directions, batch, hidden),
        torch.randn(directions, hidden),
        *weights,
    ]
    x, h0, initial, *weights = [leaf.requires_grad_() for leaf in leaves]
    given = Layer(spec.variant, steps, noise, x, h0, initial, weights)
    return given, torch.randn(T, batch, directions * hidden), torch.randn(directions, batch, hidden)


def expected(given: Layer, dy: Tensor, dh_n: Tensor) -> list[Tensor]:
    outputs = reference.layer(given)
    leaves = [leaf for leaf in given.leaves if leaf is not None]
    return [*outputs, *torch.autograd.grad(outputs, leaves, (dy, dh_n))]


def difference(found: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The largest, of the largest number of each tensor; of what was never written, infinity."""
    pairs = zip(found, right, strict=True)
    each = torch.stack([(own - other).abs().max() / other.abs().max().clamp(min=1) for own, other in pairs])
    return each.nan_to_num(float("inf")).max().item()


@pytest.mark.parametrize(
    ("cell", "how", "hidden", "batch", "bidirectional"),
    [
        ("after", RESIDENT | {"PARTS": 2, "K": 32}, 20, 9, True),
        ("after", STREAMING | {"PARTS": 3}, 40, 2, False),
        ("before", RESIDENT | {"PARTS": 3}, 40, 2, False),
        ("before", STREAMING | {"PARTS": 3}, 40, 2, False),
        ("normed", RESIDENT | {"PARTS": 3, "KS": 1}, 40, 2, False),
        ("normed", STREAMING | {"PARTS": 3}, 40, 2, False),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_triton_parts_of_a_slice_are_the_definition(
    cell: str, how: dict[str, int], hidden: int, batch: int, bidirectional: bool
) -> None:
    given, *cotangents = layer(cell, hidden, batch, bidirectional)
    with barrier.processes(barrier.now_and_then):
        found = barrier.both_passes(given, Plan(**how), *cotangents)
    assert difference(found, expected(given, *cotangents)) <= BOUND


TELL = "            tl.store(turn + tell, seen)\n            arrive(count)\n"
TURN = "turn = exchange + (2 * piece + i % 2).to(tl.int64)"
BROKEN = {
    "forward: no waiting": ("tell", "after", "forward", "            wait(count, (i * ROUNDS + 1) * PARTS)\n", ""),
    "forward: for all but one": (
        "tell",
        "after",
        "forward",
        "(i * ROUNDS + 1) * PARTS)",
        "(i * ROUNDS + 1) * PARTS - 1)",
    ),
    "forward: arrival first": ("tell", "after", "forward", TELL, "".join(reversed(TELL.splitlines(keepends=True)))),
    "forward: one buffer": ("hear", "after", "forward", TURN, "turn = exchange + (2 * piece).to(tl.int64)"),
    "forward: r h unawaited": (
        "tell",
        "before",
        "forward",
        "                wait(count, (i * ROUNDS + 2) * PARTS)\n",
        "",
    ),
    "forward: norm unawaited": ("tell", "normed", "forward", "        wait(arrived, target)\n", ""),
    "backward: no waiting": (
        "tell",
        "after",
        "backward",
        "            wait(count, (i * ROUNDS + ROUNDS) * PARTS)\n",
        "",
    ),
    "backward: one buffer": ("hear", "after", "backward", TURN, "turn = exchange + (2 * piece).to(tl.int64)"),
    "backward: n unawaited": (
        "tell",
        "before",
        "backward",
        "                wait(count, (i * ROUNDS + 1) * PARTS)\n",
        "",
    ),
}


def broken(module: str, sound: str, unsound: str, folder: Path) -> ModuleType:
    """One of the kernels' files with a line changed."""
    source = Path(importlib.util.find_spec(f"fastgru.backends.triton.{module}").origin).read_text()
    assert source.count(sound) == 1
    file = folder / f"broken_{module}.py"
    file.write_text(source.replace(sound, unsound))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_triton_broken_barrier_is_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late, cell, module, sound, unsound = BROKEN[name]
    found = broken(module, sound, unsound, tmp_path)
    kernel = f"gru_{module}"
    monkeypatch.setattr(f"fastgru.backends.triton.{module}.{kernel}", getattr(found, kernel))
    given, *cotangents = layer(cell, 40, 2)
    right = expected(given, *cotangents)
    with barrier.processes(barrier.straggler(late)):
        results = barrier.both_passes(given, Plan(**RESIDENT | {"PARTS": 3}), *cotangents, module == "backward")
    assert difference(results, right[: len(results)]) > 100 * BOUND
