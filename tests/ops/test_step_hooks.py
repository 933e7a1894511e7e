"""Hooks on what a chain of steps is made of: they are called as often, and with the same, as with torch's cell."""

from typing import Any

import pytest
import torch
from step_chains import (
    TOLERANCES,
    Cell,
    Found,
    Situations,
    chain,
    gradients,
    leaves,
    run,
)
from torch import Tensor

situation = Situations()


@situation()
def hooks_on_parameters(cell: Cell) -> Found:
    called = []

    def double(gradient: Tensor) -> Tensor:
        called.append("gradient")
        return 2 * gradient

    cell.weight_hh.register_hook(double)
    cell.weight_ih.register_post_accumulate_grad_hook(lambda _: called.append("accumulated"))
    return [*run(cell, leaves(cell)), sorted(called)]


@situation()
def a_hook_on_all_gradients(cell: Cell) -> Found:
    called = []
    torch.autograd.graph.register_multi_grad_hook(
        [*cell.parameters()], lambda found: called.append([gradient is not None for gradient in found])
    )
    return [*run(cell, leaves(cell)), called]


@situation()
def hooks_on_states(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    states, called = chain(cell, x, h), []

    def lessen(gradient: Tensor, t: int) -> Tensor:
        called.append(t)
        return 0.9 * gradient

    for t, state in enumerate(states):
        state.register_hook(lambda gradient, t=t: lessen(gradient, t))
    states[-1].sum().backward()
    return [called, *gradients(cell, x, h)]


@situation()
def hooks_on_the_module(cell: Cell) -> Found:
    seen: list[Tensor] = []

    def double(_: object, of_inputs: tuple[Tensor, Tensor], of_outputs: tuple[Tensor]) -> tuple[Tensor, Tensor]:
        seen.extend([*of_inputs, *of_outputs])
        return 2 * of_inputs[0], of_inputs[1]

    def halve(_: object, of_outputs: Any) -> tuple[Tensor]:
        return (of_outputs[0] / 2,)

    cell.register_full_backward_hook(double)
    cell.register_full_backward_pre_hook(halve)
    return [*run(cell, leaves(cell)), *seen]


@situation()
def hooks_on_nodes(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    states = chain(cell, x, h)
    node: Any = states[5].grad_fn
    node.register_prehook(lambda found: (2 * found[0],))
    states[-1].sum().backward()
    return gradients(cell, x, h)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", situation.known)
def test_hooks_see_torchs_gradients(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    situation.compare(name, dtype, monkeypatch)
