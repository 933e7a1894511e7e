"""The closed form of a layer's second gradients: against the definition in float64, and differentiated once more."""

from itertools import product

import pytest
import torch
from torch import Tensor

import fastgru
from fastgru.core import reference
from fastgru.core.layer import FIXED, Layer
from fastgru.core.noise import NO_NOISE
from fastgru.core.spec import Variant
from fastgru.core.steps import PLAIN, Steps
from fastgru.ops import definition, functions, step_gradients
from fastgru.ops.second_order import is_plain_layer, plain_second_gradients

T, B, I, H = 4, 3, 2, 5
VARIANTS = [
    Variant(bias=bias, **direction)
    for bias, direction in product([True, False], [{}, {"reverse": True}, {"bidirectional": True}])
]


def layer(variant: Variant, steps: int = T, with_h0: bool = True) -> Layer:
    weights = [
        torch.randn(3 * H, *rest, dtype=torch.float64) / 2
        for _ in range(variant.directions)
        for rest in ([I], [H], *([[], []] if variant.bias else []))
    ]
    x = torch.randn(steps, B, I, dtype=torch.float64)
    h0 = torch.randn(variant.directions, B, H, dtype=torch.float64) if with_h0 else None
    return Layer(variant, PLAIN, NO_NOISE, x, h0, None, weights)


@pytest.mark.parametrize("steps", [T, 1])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_it_is_the_definitions(variant: Variant, steps: int) -> None:
    for with_h0, (with_dy, with_dh_n) in product([True, False], [(True, True), (True, False), (False, True)]):
        given = layer(variant, steps, with_h0)
        y, h_n = reference.layer(given)
        dy, dh_n = torch.randn_like(y) if with_dy else None, torch.randn_like(h_n) if with_dh_n else None
        whole = [None if leaf is None else torch.randn_like(leaf) for leaf in given.leaves]
        for kept in (range(len(whole)), *([i] for i, leaf in enumerate(whole) if leaf is not None)):
            cotangents = [leaf if i in kept else None for i, leaf in enumerate(whole)]
            found = plain_second_gradients(given, y, dy, dh_n, cotangents)
            wanted = [leaf is not None for leaf in given.leaves]
            expected = definition.second_gradients(
                variant, given.tensors[:FIXED], None, wanted, [dy, dh_n, *given.leaves], cotangents
            )
            for one, other in zip(found, expected, strict=True):
                if one is None or other is None:
                    assert one is other
                else:
                    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "changed",
    [
        {"variant": Variant(reset_after=False)},
        {"variant": Variant(keep=0.5)},
        {"variant": Variant(tbptt=2)},
        {"variant": Variant(layer_norm=True)},
        {"steps": Steps(lengths=torch.tensor([4, 2, 0]))},
        {"initial": torch.zeros(1, H)},
    ],
    ids=str,
)
def test_options_are_the_definitions_alone(changed: dict[str, object]) -> None:
    assert is_plain_layer(layer(Variant()))
    assert not is_plain_layer(layer(Variant())._replace(**changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [fastgru.GRU, fastgru.GRUCell])
def test_third_derivatives_are_right(kind: type[fastgru.GRU | fastgru.GRUCell]) -> None:
    module, name = kind(2, 3).double(), "weight_hh_l0" if kind is fastgru.GRU else "weight_hh"
    x = torch.randn(*([2, 2, 2] if kind is fastgru.GRU else [2, 2]), dtype=torch.float64, requires_grad=True)

    def first(x: Tensor, w: Tensor) -> Tensor:
        output = torch.func.functional_call(module, {name: w}, (x,))
        y = output[0] if isinstance(output, tuple) else output
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return dx

    w = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(first, (x, w), fast_mode=True)


def test_a_penalty_asks_the_definition_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the definition was asked")

    for name in ("gradients", "second_gradients", "step_gradients"):
        monkeypatch.setattr(definition, name, refuse)
    assert functions.definition is definition
    for module, x in (
        (fastgru.GRU(I, H, num_layers=2, bidirectional=True), torch.randn(T, B, I)),
        (fastgru.GRUCell(I, H), torch.randn(B, I)),
    ):
        x.requires_grad_()
        output = module(x)
        (dx,) = torch.autograd.grad(output[0].sum(), x, create_graph=True)
        dx.square().sum().backward()
        assert all(weight.grad is not None for weight in module.parameters())


@pytest.mark.parametrize("kind", [fastgru.GRU, fastgru.GRUCell])
def test_a_penalty_of_one_step_is_native(
    kind: type[fastgru.GRU | fastgru.GRUCell], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("torch's operators were asked")

    monkeypatch.setattr(step_gradients, "second_gradients", refuse)
    module = kind(I, H)
    x = torch.randn(*([1, B, I] if kind is fastgru.GRU else [B, I]), requires_grad=True)
    for _ in range(2):  # of the second step the weights are the token's
        (dx,) = torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)
        dx.square().sum().backward()
    assert all(weight.grad is not None for weight in module.parameters())
