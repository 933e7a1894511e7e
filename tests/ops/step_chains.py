"""Chains of single steps of a cell, ours or torch's: what they run on, which way they take, and what they leave."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import fastgru
from fastgru import ops
from fastgru.ops import definition, step_training

T, B, I, H = 12, 3, 5, 7
Cell = torch.nn.RNNCellBase
Found = Sequence[object]  # tensors, and whatever else a situation tells
Situation = Callable[[Cell], Found]

TOLERANCES = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}


def cell_of(kind: type[Cell], dtype: torch.dtype = torch.float64, features: int = I, bias: bool = True) -> Any:
    """A cell with the same weights for every kind."""
    torch.manual_seed(0)
    drawn = torch.nn.GRUCell(features, H, bias=bias, dtype=dtype)
    cell = kind(features, H, bias=bias, dtype=dtype)  # type: ignore[call-arg]
    cell.load_state_dict(drawn.state_dict())
    return cell


class Leaves(NamedTuple):
    """x [T, B, I] and h [B, H], which want gradients, and the cotangents [T, B, H] of the states."""

    x: Tensor
    h: Tensor
    cotangents: Tensor


def leaves(cell: Cell, steps: int = T, batch: int = B, seed: int = 1) -> Leaves:
    """The same ones at every call."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=cell.weight_hh.dtype)

    x, h, cotangents = draw(steps, batch, cell.input_size), draw(batch, H), draw(steps, batch, H)
    return Leaves(x.requires_grad_(), h.requires_grad_(), cotangents)


def chain(cell: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, state: Tensor | None) -> list[Tensor]:
    """The states after every step."""
    states = []
    for x_t in x:
        state = cell(x_t, state)
        states.append(state)
    return states


def weighed(states: Sequence[Tensor], cotangents: Tensor) -> Tensor:
    """A loss in which every state has its own part."""
    return (torch.stack([*states]) * cotangents[: len(states)]).sum()


def gradients(cell: Cell, *inputs: Tensor) -> list[Tensor | None]:
    """Those of the cell's parameters, and of inputs."""
    return [leaf.grad for leaf in (*cell.parameters(), *inputs)]


def run(cell: Cell, given: Leaves) -> list[Tensor | None]:
    """A chain and its backward pass: the states, and all gradients."""
    states = chain(cell, given.x, given.h)
    weighed(states, given.cotangents).backward()
    return [*states, *gradients(cell, given.x, given.h)]


def note_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that later steps take.

    Forward "kernel", or "other" where there is nothing to train or a mode of torch forbids it; "layer" for each whose
    backward is differentiated or called by hand, "definition" where it is traced, transformed or batched.
    """
    ways: list[str] = []
    trained_step, step_gradients = ops.trained_step, definition.step_gradients
    layer_gradients = step_training.step_gradients

    def noted_step(*arguments: Any, **options: Any) -> Any:
        found = trained_step(*arguments, **options)
        ways.append("other" if found is None else "kernel")
        return found

    def noted_gradients(*arguments: Any) -> Any:
        ways.append("definition")
        return step_gradients(*arguments)

    def noted_layer_gradients(*arguments: Any) -> Any:
        ways.append("layer")
        return layer_gradients(*arguments)

    monkeypatch.setattr(step_training, "step_gradients", noted_layer_gradients)
    monkeypatch.setattr(ops, "trained_step", noted_step)
    monkeypatch.setattr(definition, "step_gradients", noted_gradients)
    return ways


def living_graphs() -> int:
    return len([*step_training._graphs.values()])


def assert_nothing_is_left() -> None:
    """No backward pass has left anything with a graph that lives."""
    assert not any(graph.passes for graph in step_training._graphs.values())


def assert_same(got: Found, expected: Found, rtol: float, atol: float) -> None:
    """Tensors as close as that, NaN at the same places, and everything else equal."""
    assert len(got) == len(expected) > 0
    for one, other in zip(got, expected, strict=True):
        if isinstance(other, Tensor):
            torch.testing.assert_close(one, other, rtol=rtol, atol=atol, equal_nan=True)
        else:
            assert one == other


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's own small products take a hundred times as long with two threads where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Situations:
    """Situations by their names, and the ways that steps take in each."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Situation, set[str]]] = {}

    def __call__(self, *ways: str) -> Callable[[Situation], Situation]:
        """Decorate one; without words, its steps take the kernel, forward and back."""

        def know(situation: Situation) -> Situation:
            self.known[situation.__name__] = situation, set(ways or ("kernel",))
            return situation

        return know

    def compare(self, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hold fastgru.GRUCell to torch's in one of them."""
        situation, expected_ways = self.known[name]
        with one_thread():
            expected = situation(cell_of(torch.nn.GRUCell, dtype))
            ways = note_ways(monkeypatch)
            got = situation(cell_of(fastgru.GRUCell, dtype))
        assert_same(got, expected, **TOLERANCES[dtype])
        assert set(ways) == expected_ways
        assert_nothing_is_left()
