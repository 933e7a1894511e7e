"""What works with a GRU class: a small probe for each capability.

A probe is given torch.nn.GRU or fastgru.GRU. It returns nothing where the capability is there, with the numbers that
torch.nn.GRU has outside of any mode; words where there is more to say; and raises where it is not there.
"""

from collections.abc import Callable

import torch
from torch import Tensor

import fastgru

T, B, I, H = 5, 3, 4, 6

Kind = type[torch.nn.GRU] | type[fastgru.GRU]
Layer = torch.nn.GRU | fastgru.GRU
Probe = Callable[[Kind], str | None]
KINDS: tuple[Kind, Kind] = (torch.nn.GRU, fastgru.GRU)

COMPILE, EXPORT, FUNC, AUTOGRAD = "torch.compile", "torch.export and ONNX", "torch.func", "Autograd"
PRECISION, MODULE, PROCESSES, INPUT = "Precision", "The module and its weights", "Several processes", "Input"

SECTIONS: dict[str, dict[str, Probe]] = {
    section: {} for section in (COMPILE, EXPORT, FUNC, AUTOGRAD, PRECISION, MODULE, PROCESSES, INPUT)
}


def probe(section: str, capability: str) -> Callable[[Probe], Probe]:
    """Put a function into a section, under the words for what it tries."""

    def register(function: Probe) -> Probe:
        SECTIONS[section][capability] = function
        return function

    return register


def build(kind: Kind, **options: object) -> Layer:
    torch.manual_seed(0)
    return kind(I, H, **{"num_layers": 2, "bidirectional": True, **options})


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An input [T, B, I], or of another shape."""
    torch.manual_seed(1)
    return torch.randn(*(shape or (T, B, I)), dtype=dtype)


def same(got: object, expected: object, **tolerance: float) -> None:
    """Raise AssertionError where numbers differ."""
    torch.testing.assert_close(got, expected, **tolerance)


def as_torch(layer: torch.nn.Module, **options: object) -> torch.nn.GRU:
    """torch's layer with a layer's weights."""
    theirs = build(torch.nn.GRU, **options)
    theirs.load_state_dict(layer.state_dict(), assign=True)
    return theirs


def results(layer: torch.nn.Module, x: Tensor) -> list[Tensor]:
    """y, h_n and the gradients of x and the weights."""
    x = x.detach().requires_grad_()
    y, h_n = layer(x)
    value = y.square().sum() + h_n.sin().sum()
    return [y.detach(), h_n.detach(), *torch.autograd.grad(value, [x, *layer.parameters()])]
