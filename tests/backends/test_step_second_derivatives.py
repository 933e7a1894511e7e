"""The native second derivatives of single steps on every instruction set, against the definition in float64."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from grid import relative_error
from torch import Tensor

from fastgru import _native
from fastgru.core.layer import FIXED, Layer
from fastgru.core.noise import NO_NOISE
from fastgru.core.spec import Variant
from fastgru.core.steps import PLAIN
from fastgru.ops import definition

BOUNDS = {torch.float32: 3e-6, torch.float64: 1e-13}  # as those of gradients in test_cpu_numerics.py
SIZES = [(7, 1, 1), (1, 3, 5), (2, 16, 8), (3, 17, 33), (8, 7, 64), (9, 5, 15), (40, 33, 31)]  # B, I, H
VARIANTS = [Variant(), Variant(bias=False), Variant(bidirectional=True)]
Maybe = Tensor | None


@pytest.fixture(params=_native.instruction_sets())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _native.force_instruction_set(request.param)
    yield request.param
    _native.force_instruction_set("")


def drawn_layer(variant: Variant, batch: int, inputs: int, hidden: int, with_h0: bool = True) -> Layer:
    """One step, in float64, of numbers that float32 holds exactly."""

    def drawn(*shape: int, scale: float = 1) -> Tensor:
        return (torch.randn(shape) * scale).double()

    forms = ((inputs,), (hidden,), *(((), ()) if variant.bias else ()))
    weights = [drawn(3 * hidden, *form, scale=hidden**-0.5) for _ in range(variant.directions) for form in forms]
    h0 = drawn(variant.directions, batch, hidden) if with_h0 else None
    return Layer(variant, PLAIN, NO_NOISE, drawn(1, batch, inputs), h0, None, weights)


def like(tensors: Sequence[Maybe]) -> list[Maybe]:
    return [None if tensor is None else torch.randn(tensor.shape).double() for tensor in tensors]


def outputs_like(given: Layer) -> list[Tensor]:
    rows, hidden, directions = given.x.size(1), given.hidden_size, given.variant.directions
    return [torch.randn(1, rows, directions * hidden).double(), torch.randn(directions, rows, hidden).double()]


def native(
    given: Layer,
    outer: Sequence[Maybe],
    cotangents: Sequence[Maybe],
    wanted: Sequence[bool] | None = None,
    dtype: torch.dtype = torch.float64,
    threads: int = 1,
) -> list[Maybe]:
    """The second gradients: of dy, dh_n, x, h0 and the weights."""

    def cast(tensors: Sequence[Maybe]) -> list[Any]:
        return [None if tensor is None else tensor.to(dtype) for tensor in tensors]

    x, h0, *weights = cast([given.x, given.h0, *given.weights])
    used: Any = _native.StepWeights(given.variant, 1, weights, False)
    _, _, saved, _ = used.forward(x, h0, None, threads)
    dy, dh_n = cast(outer)
    everything = [True] * (4 + len(weights))
    chosen = everything if wanted is None else wanted
    found: list[Maybe] = used.double_backward(x, h0, saved, dy, dh_n, cast(cotangents), chosen, threads)
    return found


def defined(given: Layer, outer: Sequence[Maybe], cotangents: Sequence[Maybe]) -> list[Maybe]:
    """The same by the definition."""
    v_x, v_h0, *v = cotangents
    wanted = [leaf is not None for leaf in given.leaves]
    ddy, ddh_n, dx, dh0, _, *dw = definition.second_gradients(
        given.variant, given.tensors[:FIXED], None, wanted, [*outer, *given.leaves], [v_x, v_h0, None, *v]
    )
    return [ddy, ddh_n, dx, dh0, *dw]


def assert_near(found: Sequence[Maybe], expected: Sequence[Maybe], bound: float) -> None:
    for number, (got, other) in enumerate(zip(found, expected, strict=True)):
        if got is None or other is None:
            assert got is other, number
        else:
            assert got.shape == other.shape, number
            assert relative_error(got, other) <= bound, number


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.usefixtures("isa")
def test_they_are_the_definitions_at_every_size(variant: Variant, dtype: torch.dtype) -> None:
    for number, (batch, inputs, hidden) in enumerate(SIZES):
        given = drawn_layer(variant, batch, inputs, hidden, with_h0=number % 2 == 0)
        outer, cotangents = outputs_like(given), like([given.x, given.h0, *given.weights])
        found = native(given, outer, cotangents, dtype=dtype)
        assert_near(found, defined(given, outer, cotangents), BOUNDS[dtype])


def test_cotangents_that_are_none_are_zeros() -> None:
    given = drawn_layer(Variant(), 5, 6, 9)
    dy, dh_n = outputs_like(given)
    whole = like([given.x, given.h0, *given.weights])
    for outer in ([dy, None], [None, dh_n]):
        for kept in range(len(whole)):
            alone = [tensor if i == kept else None for i, tensor in enumerate(whole)]
            others = [None if i == kept else tensor for i, tensor in enumerate(whole)]
            for cotangents in (alone, others):
                assert_near(native(given, outer, cotangents), defined(given, outer, cotangents), 1e-13)


def test_what_is_not_wanted_is_none_and_changes_nothing() -> None:
    given = drawn_layer(Variant(), 5, 6, 9)
    outer, cotangents = outputs_like(given), like([given.x, given.h0, *given.weights])
    whole = native(given, outer, cotangents)
    for left in range(len(whole)):
        wanted = [i != left for i in range(len(whole))]
        for number, (got, expected) in enumerate(zip(native(given, outer, cotangents, wanted), whole, strict=True)):
            assert (got is None) == (number == left)
            assert got is None or expected is None or torch.equal(got, expected)


@pytest.mark.parametrize("variant", [Variant(), Variant(bidirectional=True)], ids=str)
def test_threads_change_no_more_than_the_last_bits(variant: Variant) -> None:
    given = drawn_layer(variant, 50, 40, 72)
    outer, cotangents = outputs_like(given), like([given.x, given.h0, *given.weights])
    expected = native(given, outer, cotangents)
    for threads in (2, 3):
        assert_near(native(given, outer, cotangents, threads=threads), expected, 1e-14)


def test_tensors_that_lie_elsewise_give_the_same_bits() -> None:
    given = drawn_layer(Variant(), 4, 6, 9)
    outer, cotangents = outputs_like(given), like([given.x, given.h0, *given.weights])
    expected = native(given, outer, cotangents)

    def apart(tensor: Maybe) -> Any:
        return None if tensor is None else torch.stack([tensor, tensor], -1)[..., 0]

    moved = given._replace(x=apart(given.x), h0=apart(given.h0), weights=[apart(weight) for weight in given.weights])
    found = native(moved, [apart(tensor) for tensor in outer], [apart(tensor) for tensor in cotangents])
    for got, other in zip(found, expected, strict=True):
        assert got is not None
        assert other is not None
        assert torch.equal(got, other)
