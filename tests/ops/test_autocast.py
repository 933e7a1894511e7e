"""Half precision on a CPU: modules of bfloat16 and float16, torch.autocast, and GradScaler."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastgru
from fastgru import _native

T, B, I, H = 9, 3, 6, 8
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture
def unrounded() -> Iterator[None]:
    """Products of halves as they are, on processors that would round to bfloat16 too (tests/backends has those)."""
    sets = _native.low_precision_sets()
    _native.force_low_precision_set("avx512" if "avx512" in sets else "")
    yield
    _native.force_low_precision_set("")


def run(layer: fastgru.GRU, x: Tensor, h0: Tensor, dy: Tensor, dh_n: Tensor) -> dict[str, Tensor]:
    """Outputs and all gradients."""
    leaves = {"x": x, "h0": h0, **dict(layer.named_parameters())}
    y, h_n = layer(x, h0)
    found = torch.autograd.grad((y, h_n), list(leaves.values()), (dy.to(y.dtype), dh_n.to(y.dtype)))
    return {"y": y, "h_n": h_n, **{f"d{name}": one for name, one in zip(leaves, found, strict=True)}}


def halves(dtype: torch.dtype, directions: int, layers: int = 1) -> tuple[Tensor, ...]:
    """x, h0 and the cotangents of y and h_n."""
    x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    h0 = torch.randn(layers * directions, B, H, dtype=dtype, requires_grad=True)
    return x, h0, torch.randn(T, B, directions * H, dtype=dtype), torch.randn_like(h0)


def exact(layer: fastgru.GRU, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """What the same numbers give in float64."""
    twin = copy.deepcopy(layer).double()
    twin.backend = "reference"
    return run(twin, *(tensor.detach().double().requires_grad_() for tensor in tensors))


@pytest.mark.usefixtures("unrounded")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_one_half_layer_is_the_exact_one_rounded_once(dtype: torch.dtype, bidirectional: bool) -> None:
    layer = fastgru.GRU(I, H, bidirectional=bidirectional, dtype=dtype, backend="cpu")
    tensors = halves(dtype, 2 if bidirectional else 1)
    expected = exact(layer, tensors)
    for name, got in run(layer, *tensors).items():
        want = expected[name]
        assert got.dtype == dtype
        # Rounding to nearest is off by eps / 2 of the number at most (below the normal numbers, of the smallest of
        # them). Before it all is float32, whose own error is held to 1e-5 of the largest number elsewhere; two passes
        # with sums over T * B = 27 terms have less.
        limits = torch.finfo(dtype)
        bound = limits.eps / 2 * want.abs().clamp(min=limits.tiny) + 1e-5 * want.abs().max()
        assert ((got.double() - want).abs() <= bound).all(), name


@pytest.mark.usefixtures("unrounded")
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_stacks_are_nearer_to_the_exact_ones_than_the_definition(dtype: torch.dtype) -> None:
    squares: dict[str, list[float]] = {}  # of eight stacks: of one alone, a tensor's rounding may be the luckier one
    for _ in range(8):
        layer = fastgru.GRU(I, H, 3, bidirectional=True, dtype=dtype, backend="cpu")
        definition = copy.deepcopy(layer)
        definition.backend = "reference"
        tensors = halves(dtype, 2, layers=3)
        expected = exact(layer, tensors)
        for at, found in enumerate((run(layer, *tensors), run(definition, *tensors))):
            for name, want in expected.items():
                squares.setdefault(name, [0.0, 0.0])[at] += (found[name].double() - want).square().sum().item()
    for name, (error, allowed) in squares.items():
        assert error <= 0.9 * allowed, name


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_autocast_is_the_half_layer_on_cast_inputs(dtype: torch.dtype) -> None:
    layer = fastgru.GRU(I, H, 2, bidirectional=True)
    half = copy.deepcopy(layer).to(dtype)
    x, h0, dy, dh_n = halves(torch.float32, 2, layers=2)
    with torch.autocast("cpu", dtype=dtype):
        got = run(layer, x, h0, dy, dh_n)
        assert fastgru.info(layer, x).backend == "cpu"
    expected = run(half, x.detach().to(dtype).requires_grad_(), h0.detach().to(dtype).requires_grad_(), dy, dh_n)
    for name, want in expected.items():
        assert got[name].dtype == (dtype if name in ("y", "h_n") else torch.float32)
        assert torch.equal(got[name], want.to(got[name].dtype)), name


@pytest.mark.parametrize("backend", ["cpu", "aten", "reference"])
def test_autocast_gives_its_dtype_on_every_backend(backend: str) -> None:
    layer, x = fastgru.GRU(I, H, backend=backend), torch.randn(T, B, I)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for one in (x, x.bfloat16()):
            for got, want in zip(layer(one), expected, strict=True):
                assert got.dtype is torch.bfloat16
                torch.testing.assert_close(got.float(), want, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_leaves_alone_what_torchs_leaves_alone(dtype: torch.dtype) -> None:
    layer, x = fastgru.GRU(I, H, dtype=dtype), torch.randn(T, B, I, dtype=dtype)
    expected = layer(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=dtype is torch.float64):
        got = layer(x)[0]
    assert torch.equal(got, expected)


def test_autocast_still_refuses_sizes_in_torchs_words() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(RuntimeError, match=r"input\.size\(-1\) must be equal to input_size\. Expected 6, got 5"):
            fastgru.GRU(I, H)(torch.randn(T, B, 5))
        with pytest.raises(RuntimeError, match="hidden0 has inconsistent hidden_size: got 7, expected 8"):
            fastgru.GRUCell(I, H)(torch.randn(B, I), torch.randn(B, 7))


def test_autocast_of_packed_sequences_equals_that_of_each() -> None:
    layer, lengths = fastgru.GRU(I, H, bidirectional=True), [4, 9, 1]
    x = torch.randn(T, B, I)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, h_n = layer(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))
        assert isinstance(output, PackedSequence)
        assert output.data.dtype is torch.bfloat16
        for b, length in enumerate(lengths):
            assert torch.equal(h_n[:, b], layer(x[:length, b])[1])


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_autocast_of_a_cell_is_a_step_of_the_layer(dtype: torch.dtype) -> None:
    cell, layer = fastgru.GRUCell(I, H), fastgru.GRU(I, H)
    for weight, own in zip(layer.parameters(), cell.parameters(), strict=True):
        weight.data = own.data
    x, h = torch.randn(B, I), torch.randn(B, H)
    with torch.autocast("cpu", dtype=dtype):
        got = cell(x, h)
        assert got.dtype is dtype
        assert torch.equal(got, layer(x[None], h[None])[1][0])


def scaled_step(layer: fastgru.GRU, x: Tensor, scale: float) -> tuple[torch.amp.GradScaler, list[Tensor]]:
    """One step of SGD under float16 autocast, and the unscaled gradients that it took."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.float16):
        loss = layer(x)[0].square().mean()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    gradients = [weight.grad.clone() for weight in layer.parameters()]
    scaler.step(optimizer)
    scaler.update()
    return scaler, gradients


def test_grad_scaler_saves_small_gradients_and_skips_infinite_ones() -> None:
    layer, x = fastgru.GRU(I, H), torch.randn(T, B, I)
    before = [weight.detach().clone() for weight in layer.parameters()]
    expected = torch.autograd.grad(layer(x)[0].square().mean(), list(layer.parameters()))
    _, gradients = scaled_step(layer, x, 2.0**10)
    for got, want, old, new in zip(gradients, expected, before, layer.parameters(), strict=True):
        # eps of float16 for each of: inputs and weights, outputs, cotangents, gradients, and a few for their sums
        assert (got - want).norm() <= 8 * torch.finfo(torch.float16).eps * want.norm()
        torch.testing.assert_close(new, old - 0.1 * got)
    stepped = [weight.detach().clone() for weight in layer.parameters()]
    scaler, gradients = scaled_step(layer, x, 2.0**40)
    assert not all(gradient.isfinite().all() for gradient in gradients)
    assert scaler.get_scale() == 2.0**39
    for old, new in zip(stepped, layer.parameters(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.usefixtures("unrounded")
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_layers_work_under_transforms(dtype: torch.dtype) -> None:
    layer, xs = fastgru.GRU(I, H, dtype=dtype), torch.randn(4, T, B, I, dtype=dtype)
    p = {name: weight.detach() for name, weight in layer.named_parameters()}

    def loss(p: dict[str, Any], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, p, (x,))[0].sum()

    samples = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(p, xs)
    for i, x in enumerate(xs):
        (gradient,) = torch.autograd.grad(layer(x)[0].sum(), [layer.weight_hh_l0])
        torch.testing.assert_close(samples["weight_hh_l0"][i], gradient)
