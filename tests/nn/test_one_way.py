"""One way from `gru(x)` to the kernel: how many Python functions a call enters, and that it makes one description."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest
import torch

import fastgru

T, B, I, H = 5, 3, 16, 16


def functions(call: Callable[[], object]) -> list[str]:
    """The Python functions that a call enters, but for itself and torch's `Module.__call__`."""
    entered: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_qualname
        if event == "call" and frame.f_code is not call.__code__ and not name.endswith("_call_impl"):
            entered.append(name)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered


@pytest.mark.parametrize(("with_lengths", "grad", "most"), [(False, False, 18), (False, True, 28), (True, True, 34)])
def test_a_call_enters_few_functions(with_lengths: bool, grad: bool, most: int) -> None:
    gru, x = fastgru.GRU(I, H), torch.randn(T, B, I)
    given = {"lengths": torch.tensor([3, 5, 0])} if with_lengths else {}
    with torch.set_grad_enabled(grad):
        gru(x, **given)  # makes the description
        entered = functions(lambda: gru(x, **given))
    assert "CpuBackend.forward" in entered
    assert len(entered) <= most, entered


def test_backward_enters_few_functions() -> None:
    gru, x = fastgru.GRU(I, H), torch.randn(T, B, I)
    gru(x)[0].sum().backward()
    loss = gru(x)[0].sum()
    entered = functions(lambda: loss.backward())
    assert "CpuBackend.backward" in entered
    assert len(entered) <= 22, entered


def test_the_description_is_made_once_until_an_option_changes() -> None:
    gru = fastgru.GRU(I, H, zoneout=0.1).eval()
    first = gru._stack()
    gru(torch.randn(T, B, I))
    assert gru._stack() is first
    gru.zoneout = 0.2
    assert gru._stack().variant.keep == 0.8
    assert gru._stack().packed is first.packed
    gru.train()
    assert gru._stack().spec.training
    assert gru.spec == gru._stack().spec


def test_a_probability_that_is_annealed_leaves_nothing_behind() -> None:
    gru, x = fastgru.GRU(8, 8, zoneout=0.1), torch.randn(2, 2, 8)
    gru(x)
    before = len(vars(gru))
    for i in range(100):
        gru.zoneout = i / 1000
        gru(x)
        assert gru._kept is not None
        assert gru._kept[1].spec.zoneout == i / 1000
    assert len(vars(gru)) == before
