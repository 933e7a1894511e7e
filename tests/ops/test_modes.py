"""Tools of torch that look at what runs, or take it apart: counters, profilers, checkpoints, hooks, fake tensors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import fastgru

T, B, I, H = 6, 3, 5, 7
LAYERS = {"one": {}, "stack": {"num_layers": 2, "bidirectional": True}, "no bias": {"bias": False}}


def flops(layer: fastgru.GRU, *inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        y, h_n = layer(*inputs)
        if h_n.requires_grad:
            torch.autograd.backward((y, h_n), (torch.ones_like(y), torch.ones_like(h_n)))
    return counter.get_total_flops()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_flops_are_those_of_the_definitions_products(options: dict[str, Any], training: bool) -> None:
    layer = fastgru.GRU(I, H, **options)
    exact = fastgru.GRU(I, H, **options, backend="reference")
    x = torch.randn(T, B, I, requires_grad=training)
    h0 = torch.randn(layer.spec.num_layers * layer.spec.directions, B, H, requires_grad=training)
    with torch.set_grad_enabled(training):
        assert flops(layer, x, h0) == flops(exact, x, h0) > 0


def test_flops_of_gradients_that_nobody_wants_are_not_counted() -> None:
    layer = fastgru.GRU(I, H)
    exact = fastgru.GRU(I, H, backend="reference")
    x, h0 = torch.randn(T, B, I), torch.randn(1, B, H, requires_grad=True)
    for one in (layer, exact):
        one.weight_hh_l0.requires_grad_(False)
    assert flops(layer, x, h0) == flops(exact, x, h0)


def test_flops_of_packed_sequences_leave_out_the_padding() -> None:
    layer, lengths = fastgru.GRU(I, H).requires_grad_(False), torch.tensor([6, 4, 1])
    packed = pack_padded_sequence(torch.randn(T, B, I), lengths)
    assert flops(layer, packed) == 2 * 11 * 3 * H * (I + H)


def test_flops_are_counted_under_transforms_and_in_a_backward_alone() -> None:
    layer, xs = fastgru.GRU(I, H), torch.randn(4, T, B, I)
    forward = 2 * T * B * 3 * H * (I + H)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.func.vmap(lambda x: layer(x)[0])(xs)
    assert counter.get_total_flops() == 4 * forward
    y, _ = layer(xs[0].requires_grad_())
    with FlopCounterMode(display=False) as counter:
        y.sum().backward()
    assert counter.get_total_flops() == 2 * forward


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpoint_gives_the_same_gradients(dropout: float, use_reentrant: bool) -> None:
    layer = fastgru.GRU(I, H, 2, bidirectional=True, dropout=dropout)
    x = torch.randn(T, B, I, requires_grad=True)
    found = []
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=use_reentrant)):
        torch.manual_seed(3)
        y, h_n = run(x)
        layer.zero_grad()
        x.grad = None
        torch.autograd.backward((y, h_n), (torch.ones_like(y), torch.ones_like(h_n)))
        found.append([y, h_n, x.grad, *(weight.grad for weight in layer.parameters())])
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def test_saved_tensors_may_go_elsewhere_and_come_back() -> None:
    layer = fastgru.GRU(I, H, 2)
    x = torch.randn(T, B, I, requires_grad=True)
    expected = torch.autograd.grad(layer(x)[0].sum(), [x, *layer.parameters()])
    kept: list[Any] = []

    def away(tensor: Tensor) -> int:
        kept.append(tensor.detach().numpy().copy())
        return len(kept) - 1

    with torch.autograd.graph.saved_tensors_hooks(away, lambda place: torch.from_numpy(kept[place].copy())):
        y = layer(x)[0].sum()
    assert (T * B, 4 * H) in [array.shape[1:] for array in kept]
    for got, want in zip(torch.autograd.grad(y, [x, *layer.parameters()]), expected, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("training", [False, True])
def test_profilers_see_the_layers(training: bool) -> None:
    layer, x = fastgru.GRU(I, H, 2), torch.randn(T, B, I)
    expected = layer(x)[0]
    for profiler in (torch.autograd.profiler.profile(), torch.profiler.profile()):
        with profiler, torch.set_grad_enabled(training):
            y, _ = layer(x)
            if training:
                y.sum().backward()
        calls = {event.key: event.count for event in profiler.key_averages()}
        assert calls["fastgru::layer"] == 2
        assert calls.get("fastgru::layer_backward", 0) == (2 if training else 0)
        assert torch.equal(y, expected)


TRACES: dict[str, Callable[[fastgru.GRU, Tensor], Tensor]] = {
    "gradient": lambda layer, x: torch.func.grad(lambda x: layer(x)[0].sin().sum())(x),
    "vmap": lambda layer, x: torch.func.vmap(lambda x: layer(x)[0])(x),
    "sample gradients": lambda layer, x: torch.func.vmap(torch.func.grad(lambda x: layer(x)[0].sin().sum()))(x),
}


@pytest.mark.parametrize("trace", TRACES)
def test_tracers_see_operators_under_transforms(trace: str) -> None:
    layer = fastgru.GRU(I, H).requires_grad_(False)
    x, other = torch.randn(2, T, B, I) if trace == "gradient" else torch.randn(2, 4, T, B, I)
    graph = make_fx(lambda x: TRACES[trace](layer, x))(x)
    targets = [str(node.target) for node in graph.graph.nodes]
    assert targets.count("fastgru.layer.default") == 1
    assert targets.count("fastgru.layer_backward.default") == (0 if trace == "vmap" else 1)
    torch.testing.assert_close(graph(other), TRACES[trace](layer, other))
