"""A frozen model gives the same numbers, and an error where its weights change."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import fastgru
from fastgru import _native
from fastgru.common.errors import InputError

CHANGED = "the weights of a frozen layer have changed; call fastgru.unfreeze"

LAYERS: dict[str, Callable[[], fastgru.GRU]] = {
    "plain": lambda: fastgru.GRU(5, 7),
    "stack": lambda: fastgru.GRU(5, 33, 3, bias=False),
    "bidirectional": lambda: fastgru.GRU(5, 7, 2, bidirectional=True),
    "reset before": lambda: fastgru.GRU(5, 7, reset_after=False),
    "layer norm": lambda: fastgru.GRU(5, 7, layer_norm=True),
    "zoneout": lambda: fastgru.GRU(5, 7, 2, zoneout=0.2, dropout=0.1, recurrent_dropout=0.5),
    "sizes": lambda: fastgru.GRU(5, [7, 4], learn_initial_state=True),
    "double": lambda: fastgru.GRU(5, 7, dtype=torch.float64),
    "half": lambda: fastgru.GRU(5, 7, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("isa", [None, "generic"])
@pytest.mark.parametrize("name", LAYERS)
def test_numbers_are_those_of_the_layer(name: str, isa: str | None) -> None:
    gru = LAYERS[name]().eval()
    frozen = fastgru.freeze(copy.deepcopy(gru))
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    dtype = gru.weights()[0].dtype
    tolerance = {torch.float32: 2e-6, torch.float64: 1e-14, torch.bfloat16: 0.0}[dtype]
    try:
        _native.force_instruction_set(isa or "")  # of other kernels than those that packed
        for steps, batch in ((1, 1), (1, 2), (1, 40), (6, 1), (6, 3), (1, 80)):
            x, lengths = torch.randn(steps, batch, 5, dtype=dtype), torch.randint(0, steps + 1, (batch,))
            for given in ({}, {"lengths": lengths}):
                with torch.no_grad():
                    for ours, theirs in zip(frozen(x, **given), gru(x, **given), strict=True):
                        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
            if not gru.bidirectional:
                state = torch.randn(gru.spec.states_shape(batch), dtype=dtype)
                with torch.no_grad():
                    for ours, theirs in zip(frozen.step(x[0], state), gru.step(x[0], state), strict=True):
                        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    finally:
        _native.force_instruction_set("")


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"layer_norm": True}, {"dtype": torch.float64}])
def test_a_cell_is_frozen_too(options: dict[str, Any]) -> None:
    cell = fastgru.GRUCell(5, 7, **options)
    frozen = fastgru.freeze(copy.deepcopy(cell))
    for batch in (1, 3, 70):
        x, h = torch.randn(2, batch, 7, dtype=cell.weight_ih.dtype)
        with torch.no_grad():
            torch.testing.assert_close(frozen(x[:, :5], h), cell(x[:, :5], h))
            torch.testing.assert_close(frozen(x[:, :5]), cell(x[:, :5]))


def test_gradients_of_inputs_are_there() -> None:
    gru = fastgru.GRU(5, 7)
    frozen = fastgru.freeze(copy.deepcopy(gru))
    x = torch.randn(4, 2, 5, requires_grad=True)
    for loss in (lambda layer: layer(x)[0].square().sum(), lambda layer: layer(x[:1])[1].square().sum()):
        torch.testing.assert_close(torch.autograd.grad(loss(frozen), x), torch.autograd.grad(loss(gru), x))


def test_it_stays_in_eval_and_copies_are_not_frozen() -> None:
    model = fastgru.freeze(torch.nn.Sequential(fastgru.GRU(5, 7, zoneout=0.5)))
    model.train()
    assert (model.training, model[0].training) == (True, False)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            torch.testing.assert_close(other(torch.ones(2, 1, 5))[0], model(torch.ones(2, 1, 5))[0])
            other[0].weight_hh_l0.zero_()
            other(torch.randn(2, 1, 5))
        assert other.train()[0].training


CHANGES: dict[str, Callable[[fastgru.GRU], object]] = {
    "in place": lambda gru: gru.weight_hh_l0.mul_(1.01),
    "one number": lambda gru: gru.bias_ih_l0[3].add_(1),
    "load_state_dict": lambda gru: gru.load_state_dict(fastgru.GRU(5, 7).state_dict()),
    "reset_parameters": lambda gru: gru.reset_parameters(),
    "assignment": lambda gru: setattr(gru, "weight_ih_l0", torch.nn.Parameter(torch.zeros(21, 5))),
    "data assigned": lambda gru: setattr(gru.weight_ih_l0, "data", torch.zeros(21, 5)),
    "another dtype": lambda gru: gru.double(),
}


@pytest.mark.parametrize("is_step", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_an_error_at_the_next_call(change: str, is_step: bool) -> None:
    gru = fastgru.freeze(fastgru.GRU(5, 7))
    with torch.no_grad():
        CHANGES[change](gru)
        x = torch.randn(1 if is_step else 3, 1, 5, dtype=gru.weight_hh_l0.dtype)
        with pytest.raises(RuntimeError, match=CHANGED):
            gru(x)
        fastgru.freeze(fastgru.unfreeze(gru))
        torch.testing.assert_close(gru(x)[0], copy.deepcopy(gru)(x)[0])


@pytest.mark.parametrize("is_step", [False, True])
def test_a_change_that_nobody_counts_is_an_error_soon(is_step: bool) -> None:
    for name in ("weight_ih_l0", "weight_hh_l0_reverse", "bias_hh_l0"):
        gru = fastgru.freeze(fastgru.GRU(50, 70, bidirectional=True))
        getattr(gru, name).data[7] += 1
        x = torch.randn(1 if is_step else 3, 1, 50)

        def calls(gru: fastgru.GRU = gru, x: torch.Tensor = x) -> None:
            for _ in range(64):
                gru(x)

        with pytest.raises(RuntimeError, match=CHANGED):
            calls()


def test_a_frozen_cell_finds_a_change() -> None:
    cell = fastgru.freeze(fastgru.GRUCell(5, 7))
    with torch.no_grad():
        cell.weight_hh.zero_()
        with pytest.raises(RuntimeError, match=CHANGED):
            cell(torch.randn(1, 5))


def test_the_same_weights_once_more_are_no_change() -> None:
    gru = fastgru.freeze(fastgru.GRU(5, 7))
    gru.load_state_dict({name: value.clone() for name, value in gru.state_dict().items()}, assign=True)
    with torch.no_grad():
        gru(torch.randn(3, 1, 5))
    gru.float()
    gru(torch.randn(1, 1, 5))


def test_it_compiles_and_is_swapped_as_before() -> None:
    gru = fastgru.freeze(fastgru.GRU(5, 7))
    x = torch.randn(3, 2, 5)
    compiled = torch.compile(gru, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x)[0], gru(x)[0])
    fastgru.to_torch(gru)
    assert type(gru) is torch.nn.GRU
    assert "_frozen" not in vars(gru)
    fastgru.accelerate(gru)
    with torch.no_grad():
        gru.weight_hh_l0.zero_()
    gru(x)


def test_what_cannot_be_frozen_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module, got int"):
        fastgru.freeze(1)  # type: ignore[type-var]
    with pytest.raises(InputError, match=r"Linear has no GRU or GRUCell of fastgru in it; fastgru.accelerate\(model\)"):
        fastgru.freeze(torch.nn.Linear(2, 2))
    gru = fastgru.GRU(5, 7)
    torch.nn.utils.parametrizations.weight_norm(gru, "weight_hh_l0")
    with pytest.raises(InputError, match="GRU has weights that are computed of others"):
        fastgru.freeze(gru)
    assert gru.weight_ih_l0.requires_grad


def test_threads_may_share_a_frozen_layer() -> None:
    gru = fastgru.freeze(fastgru.GRU(64, 64))
    x = torch.randn(20, 4, 64)
    expected = gru(x)[0]
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: gru(x)[0], range(40)):
            assert torch.equal(y, expected)


def test_a_wrong_owner_in_a_native_step_is_an_error() -> None:
    gru = fastgru.freeze(fastgru.GRU(5, 7, 2))
    x, weights, own = torch.zeros(1, 5), gru.weights(), gru._frozen
    assert own is not None
    for frozen in ([None, None], own[:1], [1, 2], own[::-1], 3):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            _native.step(x, None, weights, 2, 1.0, frozen)  # type: ignore[arg-type]
