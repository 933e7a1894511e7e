"""A layer of ours and torch's with the same weights, and the comparison of all that they compute."""

import torch
from torch import Tensor

import fastgru

T, B, I, H = 6, 3, 5, 7

Layer = torch.nn.GRU | fastgru.GRU


def twins(**options: bool | int) -> tuple[fastgru.GRU, torch.nn.GRU]:
    """Our layer and torch's, with the same weights."""
    ours, theirs = fastgru.GRU(I, H, **options), torch.nn.GRU(I, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def warm(layer: Layer) -> None:
    """Call it where no gradient is wanted, so that packed weights are kept."""
    with torch.no_grad():
        for _ in range(2):
            layer(torch.randn(T, B, layer.input_size).to(layer.weight_ih_l0))


def outcome(layer: Layer, x: Tensor) -> list[Tensor]:
    """y and h_n with and without gradients wanted, and the gradients of all that asks for one."""
    x = x.clone().requires_grad_()
    with torch.no_grad():
        results = [*layer(x)]
    outputs = layer(x)
    leaves = [x, *(p for p in layer.parameters() if p.requires_grad)]
    return [*results, *outputs, *torch.autograd.grad(outputs, leaves, [torch.ones_like(t) for t in outputs])]


def same(ours: Layer, theirs: Layer) -> None:
    x = torch.randn(T, B, I).to(theirs.weight_ih_l0)
    for got, expected in zip(outcome(ours, x), outcome(theirs, x), strict=True):
        torch.testing.assert_close(got, expected)
