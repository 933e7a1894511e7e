"""Counters of FLOPs that go by a module's exact class: after accelerate they count what they counted before.

None of them is installed for the tests: here are their rules, each of one table.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from grid import B, H, I, T
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastgru
from fastgru.ops.counters import TABLES


def products(module: Any, inputs: tuple[Any, ...]) -> int:
    """As they compute it: from sizes or weights, from the input's sizes, and by isinstance."""
    assert isinstance(module, nn.GRU | nn.GRUCell)
    if isinstance(module, nn.GRUCell):
        return inputs[0].size(0) * sum(module.__getattr__(name).numel() for name in ("weight_ih", "weight_hh"))
    found = 0
    for layer in range(module.num_layers):
        found += sum(module.__getattr__(f"{name}_l{layer}").numel() for name in ("weight_ih", "weight_hh"))
    if isinstance(inputs[0], nn.utils.rnn.PackedSequence):
        return found * int(inputs[0].batch_sizes.sum())
    return found * inputs[0].size(0) * inputs[0].size(1) * (2 if module.bidirectional else 1)


def in_an_attribute(module: Any, inputs: tuple[Any, ...], _: Any) -> None:
    module.__flops__ += products(module, inputs)


def in_a_buffer(module: Any, inputs: tuple[Any, ...], _: Any) -> None:
    module.total_ops += torch.tensor([products(module, inputs)], dtype=torch.float64)


Count = Callable[..., int]


def counter(table: dict[type, Any], hook: Any) -> Count:
    """What a counter does with a model: it goes through it by apply, twice, and runs it."""

    def count(model: nn.Module, *inputs: Any, **named: Any) -> int:
        handles, counted = [], []

        def prepare(module: nn.Module) -> None:
            if hook is in_a_buffer:
                module.register_buffer("total_ops", torch.zeros(1, dtype=torch.float64))
            elif type(module) in table:
                module.__flops__ = 0

        def watch(module: nn.Module) -> None:
            if type(module) in table:
                counted.append(module)
                handles.append(module.register_forward_hook(table[type(module)]))

        model.apply(prepare)
        model.apply(watch)
        model(*inputs, **named)
        found = sum(int(module.total_ops) if hook is in_a_buffer else module.__flops__ for module in counted)
        for module in model.modules():
            module._buffers.pop("total_ops", None)
            vars(module).pop("__flops__", None)
        for handle in handles:
            handle.remove()
        return found

    return count


@pytest.fixture(
    params=[(name, hook) for name in TABLES for hook in (in_an_attribute, in_a_buffer)],
    ids=lambda pair: f"{pair[0]} {pair[1].__name__}",
)
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Count:
    """A counter that is imported."""
    name, hook = request.param
    tool = ModuleType(name)
    table = {nn.GRU: hook, nn.GRUCell: hook}
    setattr(tool, TABLES[name], table)
    monkeypatch.setitem(sys.modules, name, tool)
    return counter(table, hook)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(I, H, 2, batch_first=True)
        self.cell = nn.GRUCell(H, H)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(self.gru(x)[0][:, -1])


def test_an_accelerated_model_counts_as_before(count: Count) -> None:
    model, x = Model(), torch.randn(B, T, I)
    expected = count(model, x)
    assert expected == B * T * 3 * H * (I + 3 * H) + B * 3 * H * 2 * H
    fastgru.accelerate(model)
    keys = [set(vars(module)) - {"_kept"} for module in model.modules()]
    assert count(model, x) == expected
    assert count(model, x) == expected
    assert [set(vars(module)) - {"_kept"} for module in model.modules()] == keys
    assert not list(model.buffers())


def test_every_form_of_input_is_counted(count: Count) -> None:
    gru = fastgru.GRU(I, H, zoneout=0.1, bias=False)
    step = 3 * H * (I + H)
    assert count(gru, torch.randn(T, B, I)) == T * B * step
    assert count(gru, torch.randn(T, I)) == T * step
    assert count(gru, torch.randn(7, I), cu_seqlens=torch.tensor([0, 3, 7])) == 7 * step
    assert (
        count(gru, torch.nested.nested_tensor([torch.randn(3, I), torch.randn(1, I)], layout=torch.jagged)) == 4 * step
    )
    assert count(gru, pack_padded_sequence(torch.randn(3, 2, I), torch.tensor([3, 2]))) == 5 * step
    gru.batch_first = True
    assert count(gru, torch.randn(T, I)) == T * step


@pytest.mark.filterwarnings("ignore:test_counters cannot count:UserWarning")
def test_layers_of_different_sizes_are_said_not_to_be_counted(count: Count) -> None:
    gru = fastgru.GRU(I, [H, 2 * H])
    with pytest.warns(UserWarning, match=rf"cannot count a GRU with hidden_size=\({H}, {2 * H}\)"):
        assert count(gru, torch.randn(T, B, I)) == 0


class Theirs(nn.GRU):
    """A user's own."""


def test_what_was_not_counted_before_is_not_counted(count: Count) -> None:
    class Ours(fastgru.GRU):
        """A user's own."""

    gru, x = Theirs(I, H), torch.randn(T, B, I)
    for swap in (False, True):
        fastgru.accelerate(gru, subclasses=swap)
        assert count(gru, x) == 0
    assert count(Ours(I, H), x) == 0


def test_the_tables_own_entries_stay(count: Count) -> None:
    name = next(name for name in TABLES if isinstance(sys.modules.get(name), ModuleType))
    table, given = getattr(sys.modules[name], TABLES[name]), lambda *_: None
    table[fastgru.GRU] = given
    table[Theirs] = table[nn.GRU]
    gru, x = Theirs(I, H), torch.randn(T, B, I)
    expected = count(gru, x)
    fastgru.accelerate(gru, subclasses=True)
    assert count(gru, x) == expected > 0
    count(fastgru.GRU(I, H), x)
    assert table[fastgru.GRU] is given
