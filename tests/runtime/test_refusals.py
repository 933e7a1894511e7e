"""What does not fit is refused in words, and nothing that is given can make the kernels read beyond it."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from fastgru import _native, runtime
from fastgru.common.errors import InputError
from fastgru.runtime import fallback


def weights(inputs: int = 3, hidden: int = 4, layers: int = 1, **options: Any) -> dict[str, Any]:
    return {n: p.detach().numpy() for n, p in torch.nn.GRU(inputs, hidden, layers, **options).named_parameters()}


def zeros(*shape: int, dtype: Any = "f4") -> Any:
    return np.zeros(shape, dtype)


CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "x of float64": (
        {"x": zeros(5, 2, 3, dtype="f8")},
        TypeError,
        "x must be float32, as the weights are, got float64",
    ),
    "x of integers": ({"x": zeros(5, 2, 3, dtype="i8")}, TypeError, "got int64; convert it: x.astype('float32')"),
    "x complex": ({"x": zeros(5, 2, 3, dtype="c8")}, TypeError, "got complex64"),
    "x of the other byte order": ({"x": zeros(5, 2, 3, dtype=">f4")}, TypeError, "got >f4"),
    "x of objects": ({"x": [[None]]}, TypeError, "got object"),
    "other features": ({"x": zeros(5, 2, 4)}, ValueError, "x must be [T, B, 3] or [T, 3], got [5, 2, 4]"),
    "four dimensions": ({"x": zeros(1, 5, 2, 3)}, ValueError, "got [1, 5, 2, 3]"),
    "one dimension": ({"x": zeros(3)}, ValueError, "got [3]"),
    "no steps": ({"x": zeros(0, 2, 3)}, ValueError, "x must have at least one step"),
    "h0 of other layers": ({"h0": zeros(2, 2, 4)}, ValueError, "h0 must be [1, 2, 4], got [2, 2, 4]"),
    "h0 of float64": ({"h0": zeros(1, 2, 4, dtype="f8")}, TypeError, "h0 must be float32"),
    "h0 without a batch": ({"h0": zeros(1, 4)}, ValueError, "h0 must be [1, 2, 4], got [1, 4]"),
    "lengths of floats": ({"lengths": [1.0, 2.0]}, TypeError, "lengths must be integers, got float64"),
    "three lengths": ({"lengths": [1, 2, 3]}, ValueError, "lengths must be [2], got [3]"),
    "a length of 6": ({"lengths": [1, 6]}, ValueError, "lengths must be from 0 to T=5, got [1, 6]"),
    "a length of -1": ({"lengths": [1, -1]}, ValueError, "lengths must be from 0 to T=5, got [1, -1]"),
    "lengths of one sequence": ({"x": zeros(5, 3), "lengths": [5]}, ValueError, "leave them out beside one sequence"),
    "resets of integers": (
        {"resets": zeros(5, 2, dtype="i8")},
        ValueError,
        "resets must be [5, 2] bool, got [5, 2] int64",
    ),
    "resets the other way": ({"resets": zeros(2, 5, dtype="?")}, ValueError, "resets must be [5, 2] bool, got [2, 5]"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_that_does_not_fit_is_refused(case: str) -> None:
    given, error, words = CALLS[case]
    gru = runtime.GRU(weights())
    with pytest.raises(error, match=re.escape(words)):
        gru(**{"x": zeros(5, 2, 3), **given})


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in weights().items() if name not in names}


WEIGHTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "none": ({}, {}, "there is no GRU under '': no weight_hh_l0"),
    "another prefix": ({"rnn.weight_hh_l0": zeros(12, 4)}, {}, "give prefix, of 'rnn.'"),
    "no input weights": (without("weight_ih_l0"), {}, "weight_ih_l0 must be a matrix, got none"),
    "one bias": (without("bias_ih_l0"), {}, "bias_ih_l0 must be [12], got none"),
    "other rows": ({**weights(), "weight_ih_l0": zeros(11, 3)}, {}, "weight_ih_l0 must be [12, 3], got [11, 3]"),
    "a vector": ({**weights(), "weight_hh_l0": zeros(12)}, {}, "weight_hh_l0 must be a matrix, got [12]"),
    "empty": (
        {"weight_ih_l0": zeros(0, 3), "weight_hh_l0": zeros(0, 0)},
        {},
        "weight_ih_l0 must be a matrix, got [0, 3]",
    ),
    "a layer left out": ({**weights(), "weight_hh_l2": zeros(12, 4)}, {}, "no part of a GRU: weight_hh_l2"),
    "a linear layer": ({**weights(), "linear.weight": zeros(2, 4)}, {}, "no part of a GRU: linear.weight"),
    "gains": ({**weights(), "gain_ih_l0": zeros(12)}, {}, "with layer_norm=True there are gains"),
    "no gains": (weights(), {"layer_norm": True}, "gain_ih_l0 must be [12], got none"),
    "an LSTM": (dict(torch.nn.LSTM(3, 4).named_parameters()), {}, "weight_ih_l0 must be [12, 3], got [16, 3]"),
    "integers": ({name: value.astype("i8") for name, value in weights().items()}, {}, "float16, got int64"),
    "complex": ({name: value.astype("c8") for name, value in weights().items()}, {}, "float16, got complex64"),
    "two dtypes": ({**weights(), "bias_hh_l0": zeros(12, dtype="f8")}, {}, "bias_hh_l0 must be float32 as the other"),
    "nan": ({**weights(), "bias_hh_l0": np.full(12, np.nan, "f4")}, {}, "bias_hh_l0 holds numbers that are not finite"),
    "inf": ({**weights(), "bias_hh_l0": np.full(12, np.inf, "f4")}, {}, "bias_hh_l0 holds numbers that are not finite"),
    "an unknown option": (
        weights(),
        {"dropout": 0.5},
        "options must be of reset_after, layer_norm, zoneout, got dropout",
    ),
    "a zoneout of 2": (weights(), {"zoneout": 2}, "zoneout must be a probability from 0 to 1, got 2"),
    "a word for an option": (weights(), {"reset_after": "no"}, "reset_after must be True or False, got 'no'"),
    "a form that is none": (weights(), {"reset_after": False, "layer_norm": True}, "leave reset_after=True"),
    "an initial state": ({**weights(), "initial_state": zeros(2, 4)}, {}, "initial_state must be [1, 4], got [2, 4]"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_are_refused(case: str) -> None:
    given, options, words = WEIGHTS[case]
    own = {name: value.detach().numpy() if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    with pytest.raises(InputError, match=re.escape(words)):
        runtime.GRU(own, **options)


STEPS: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "a list": (([0.0] * 6,), TypeError, "x must be an"),
    "float64": ((zeros(2, 3, dtype="f8"),), TypeError, "x must be"),
    "one row": ((zeros(1, 3),), ValueError, "x must be [2, 3]"),
    "a vector of many": ((zeros(3),), ValueError, "x must be [2, 3]"),
    "other features": ((zeros(2, 4),), ValueError, "x must be [2, 3]"),
    "out of one row": ((zeros(2, 3), zeros(1, 4)), ValueError, "out must be [2, 4]"),
    "out of float64": ((zeros(2, 3), zeros(2, 4, dtype="f8")), TypeError, "out must be"),
}


@pytest.mark.parametrize("engine", [_native, fallback])
@pytest.mark.parametrize("case", STEPS)
def test_a_step_that_does_not_fit_is_refused_and_leaves_the_state(
    case: str, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastgru.runtime.gru._engine", lambda: engine)
    arguments, error, words = STEPS[case]
    stream = runtime.GRU(weights()).stream(2)
    stream.step(np.ones((2, 3), "f4"))
    before = stream.state
    with pytest.raises(error, match=re.escape(words)):
        stream.step(*arguments)
    np.testing.assert_array_equal(stream.state, before)


def test_arrays_that_cannot_be_written_or_overlap_are_refused() -> None:
    stream, memory = runtime.GRU(weights(4, 4)).stream(2), zeros(4, 4)
    with pytest.raises(ValueError, match="out must not overlap x"):
        stream.step(memory[:2], memory[1:3])
    stream.step(memory[:2], memory[2:])
    memory.flags.writeable = False
    with pytest.raises(TypeError, match="out must be a writable array"):
        stream.step(zeros(2, 4), memory[2:])
    with pytest.raises(ValueError, match="x must lie in one piece: give a copy of it"):
        stream.step(zeros(2, 8)[:, ::2])


@pytest.mark.parametrize("rows", [3, -1, [0, 2], [[0]], "1", 0.5, [True]])
def test_rows_that_are_not_there_are_refused(rows: Any) -> None:
    with pytest.raises((IndexError, TypeError), match="rows must be"):
        runtime.GRU(weights()).stream(2).reset(rows)


def test_a_state_that_does_not_fit_is_refused() -> None:
    stream = runtime.GRU(weights()).stream(2)
    for state, error in ((zeros(1, 1, 4), ValueError), (zeros(1, 2, 4, dtype="f8"), TypeError)):
        with pytest.raises(error, match="state must be"):
            stream.state = state


NETWORK = (3, [4], 1, True, True, False, 0.0, [*weights().values()], None)


@pytest.mark.parametrize("place", range(len(NETWORK)))
@pytest.mark.parametrize(
    "value", [None, -1, 0, 2**62, 7, 0.5, "x", [], [0], [2**62], [zeros(12)] * 4, [None] * 4, zeros(3), float("nan")]
)
def test_no_argument_of_the_native_network_can_crash_it(place: int, value: Any) -> None:
    arguments: Any = [*NETWORK]
    arguments[place] = value
    try:
        network = _native.Network(*arguments)
    except (TypeError, ValueError):
        return
    x, y, h_n = zeros(2, 1, 3), zeros(2, 1, 4), zeros(1, 1, 4)
    network.forward(x, y, h_n, None, None, None, False, 1)
    assert np.isfinite(y).all()


CALL = (
    zeros(5, 2, 3),
    zeros(5, 2, 4),
    zeros(1, 2, 4),
    zeros(1, 2, 4),
    np.array([5, 3]),
    zeros(5, 2, dtype="?"),
    False,
    1,
)


@pytest.mark.parametrize("place", range(len(CALL)))
@pytest.mark.parametrize(
    "value",
    [
        *(None, -1, 0, "x", b"", [], zeros(0), zeros(5, 2), zeros(5, 2, 3, dtype="f8"), zeros(0, 2, 3), zeros(5, 0, 3)),
        *(zeros(5, 2, 4, 1), zeros(5, 2, 8)[:, :, ::2], np.broadcast_to(zeros(1), (5, 2, 3)), np.array([9, -1])),
        *(np.array([1]), np.array([1, 2], "i4"), zeros(2, 5, dtype="?"), zeros(1, 2, 8)[:, :, ::2], memoryview(b"abc")),
        np.zeros(30, [("a", "f4"), ("b", "i1")])["a"].reshape(5, 2, 3),
    ],
)
def test_no_argument_of_the_native_forward_can_crash_it(place: int, value: Any) -> None:
    arguments = [array.copy() if isinstance(array, np.ndarray) else array for array in CALL]
    arguments[place] = value
    network = _native.Network(*NETWORK)
    try:
        network.forward(*arguments)
    except (TypeError, ValueError):
        return
    assert np.isfinite(arguments[1]).all()
