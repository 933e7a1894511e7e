"""Layers that multiply bfloat16, where a processor does: beside the definition with its products rounded."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import fastgru
from fastgru import _native
from fastgru.backends.cpu import CpuBackend
from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.noise import Noise
from fastgru.core.spec import Variant
from fastgru.core.steps import Steps

ROUNDS = "avx512+bf16"
pytestmark = pytest.mark.skipif(
    ROUNDS not in _native.low_precision_sets(), reason="this processor has no instruction that multiplies bfloat16"
)
# I, H, B, T: the edges of vectors, pairs and tiles; states and weights beyond a block and a chunk.
SIZES = [
    (1, 1, 1, 2),
    (3, 5, 2, 40),
    (16, 16, 9, 7),
    (33, 17, 3, 5),
    (40, 64, 17, 20),
    (20, 257, 8, 4),
    (7, 96, 130, 3),
]
VARIANTS: dict[str, Variant] = {
    "plain": Variant(),
    "without biases": Variant(bias=False),
    "bidirectional": Variant(bidirectional=True),
    "reverse": Variant(reverse=True),
    "reset_after=False": Variant(reset_after=False),
    "layer_norm": Variant(layer_norm=True),
    "zoneout": Variant(keep=0.75),
    "tbptt": Variant(tbptt=2),
}
# Sums in another order, and numbers on the edge between two of bfloat16 that fall to the other side: of 1,344 such
# layers the largest distance was 1.8e-3, the largest median of one parameter set 5.5e-5. Without rounding their
# medians are 4e-4 to 3e-3.
MEDIAN, MOST = 1e-4, 3e-3


class RoundedProduct(torch.autograd.Function):
    """v W^T with all factors rounded to bfloat16, forward and backward."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(rounded(v), rounded(w))
        return rounded(v) @ rounded(w).T

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, Tensor]:
        v, w = ctx.saved_tensors
        rows = rounded(d).flatten(0, -2)
        return rounded(d) @ w, rows.T @ v.flatten(0, -2)


def rounded(tensor: Tensor) -> Tensor:
    return tensor.float().bfloat16().double()


def linear(v: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    product = RoundedProduct.apply(v, w)
    return product if b is None else product + b


def drawn(variant: Variant, size: tuple[int, int, int, int], seed: int) -> tuple[Layer, list[Tensor]]:
    """A layer, and the cotangents of its outputs."""
    inputs, hidden, batch, steps = size
    random, directions = torch.Generator().manual_seed(seed), variant.directions

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=random)

    own = [(3 * hidden, inputs), (3 * hidden, hidden)] + [(3 * hidden,)] * (variant.weights_per_direction - 2)
    weights = [draw(*shape, scale=hidden**-0.5) for _ in range(directions) for shape in own]
    lengths = torch.randint(0, steps + 1, (batch,), generator=random) if seed % 2 else None
    resets = torch.rand(steps, batch, generator=random) < 0.2 if seed % 3 == 1 else None
    recurrent = (torch.rand(directions, batch, hidden, generator=random) < 0.7) / 0.7 if seed % 3 == 2 else None
    given = Layer(
        variant,
        Steps(lengths=lengths, resets=resets),
        Noise(recurrent, None),
        draw(steps, batch, inputs),
        draw(directions, batch, hidden),
        draw(directions, hidden) if resets is not None else None,
        weights,
    )
    return given, [draw(steps, batch, directions * hidden), draw(directions, batch, hidden)]


def computed(given: Layer, cotangents: list[Tensor]) -> list[Tensor]:
    """Outputs and gradients of the kernels."""
    backend = CpuBackend()
    y, h_n, saved = backend.forward(given, save=True)
    wanted = [leaf is not None for leaf in given.leaves]
    gradients = backend.backward(given, y, saved, *cotangents, wanted)
    return [y, h_n, *(gradient for gradient in gradients if gradient is not None)]


def defined(given: Layer, cotangents: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Outputs and gradients of the definition with rounded products."""

    def double(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.double().requires_grad_()

    recurrent = given.noise.recurrent
    twin = given._replace(
        x=double(given.x),
        h0=double(given.h0),
        initial=double(given.initial),
        weights=[double(weight) for weight in given.weights],
        noise=Noise(None if recurrent is None else recurrent.double(), None),
    )
    monkeypatch.setattr(reference, "F", SimpleNamespace(linear=linear))
    outputs = reference.layer(twin)
    leaves = [leaf for leaf in twin.leaves if leaf is not None]
    return [*outputs, *torch.autograd.grad(outputs, leaves, [c.double() for c in cotangents], materialize_grads=True)]


def distances(found: list[Tensor], expected: list[Tensor]) -> Tensor:
    pairs = zip(found, expected, strict=True)
    return torch.stack([(one.double() - want).norm() / want.norm().clamp(min=1e-3) for one, want in pairs])


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_layer_is_the_definition_with_rounded_products(
    size: tuple[int, int, int, int], variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, unrounded = [], []
    for seed in range(6):
        given, cotangents = drawn(variant, size, seed)
        expected = defined(given, cotangents, monkeypatch)
        rounding = given._replace(variant=variant._replace(bf16=True))
        found.append(distances(computed(rounding, cotangents), expected))
        unrounded.append(distances(computed(given, cotangents), expected))
    assert torch.cat(found).max() <= MOST
    assert torch.cat(found).median() <= MEDIAN
    assert torch.cat(found).mean() < torch.cat(unrounded).mean() / 4


@pytest.mark.parametrize("variant", [VARIANTS["plain"], VARIANTS["reset_after=False"]], ids=["after", "before"])
def test_rows_have_the_same_bits_on_any_threads_and_in_any_company(variant: Variant) -> None:
    given, cotangents = drawn(variant._replace(bf16=True), (40, 64, 17, 20), 0)
    expected, threads = computed(given, cotangents), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        others = computed(given, cotangents)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(expected[:4], others[:4], strict=True))  # y h_n dx dh0
    alone = given._replace(x=given.x[:, 4:7].contiguous(), h0=given.h0[:, 4:7].contiguous())
    found = computed(alone, [cotangent[:, 4:7].contiguous() for cotangent in cotangents])
    assert all(torch.equal(one[:, 4:7], other) for one, other in zip(expected[:4], found[:4], strict=True))


def test_other_kernels_take_the_products_as_they_are() -> None:
    given, cotangents = drawn(Variant(), (33, 17, 3, 5), 0)
    expected = computed(given, cotangents)
    _native.force_low_precision_set("avx512")
    try:
        found = computed(given._replace(variant=Variant(bf16=True)), cotangents)
    finally:
        _native.force_low_precision_set("")
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("how", ["module", "autocast", "float16", "float32"])
def test_bfloat16_layers_alone_are_rounded(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    forward, backward = CpuBackend.forward, CpuBackend.backward
    monkeypatch.setattr(CpuBackend, "forward", lambda *a, **k: (asked.append(a[1].variant.bf16), forward(*a, **k))[1])
    monkeypatch.setattr(CpuBackend, "backward", lambda *a, **k: (asked.append(a[1].variant.bf16), backward(*a, **k))[1])
    dtype = {"module": torch.bfloat16, "float16": torch.float16}.get(how, torch.float32)
    gru, x = fastgru.GRU(6, 8, 2, dtype=dtype), torch.randn(5, 3, 6, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        y, _ = gru(x)
    y.sum().backward()
    assert asked == [how in ("module", "autocast")] * 4


def test_frozen_layer_is_rounded_as_before() -> None:
    gru, x = fastgru.GRU(6, 24, bidirectional=True, dtype=torch.bfloat16).eval(), torch.randn(5, 3, 6).bfloat16()
    with torch.no_grad():
        expected = gru(x)[0]
        assert torch.equal(fastgru.freeze(gru)(x)[0], expected)
