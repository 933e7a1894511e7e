"""Second derivatives, against torch.nn: `python -m benchmarks.second_derivatives`, also `make bench`.

A gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028): the gradient of the input, of which a function is
differentiated with respect to the weights, once more. Gradients must agree before anything is timed.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

import fastgru
from benchmarks.steps import Case, case_of, compare

SIZES = [(64, 64, 16, 20), (24, 24, 32, 24), (128, 128, 8, 10)]  # I, H, B, T


def penalty(module: Any, x: Tensor) -> Tensor:
    """How far the norms of the gradients of x are from 1."""
    x = x.clone().requires_grad_()
    output = module(x)
    y = output[0] if isinstance(output, tuple) else output
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    loss: Tensor = (dx.flatten(-1).norm(dim=-1) - 1).square().mean()
    return loss


def layer(input_size: int, hidden_size: int, batch: int, steps: int, layers: int, directions: int) -> Case:
    """A GRU over whole sequences."""
    options: dict[str, Any] = {"num_layers": layers, "bidirectional": directions == 2}
    x = torch.randn(steps, batch, input_size)
    name = f"GRU, I={input_size} H={hidden_size} B={batch} T={steps} L={layers} D={directions}"
    theirs, ours = (kind(input_size, hidden_size, **options) for kind in (torch.nn.GRU, fastgru.GRU))
    return case_of(name, theirs, ours, lambda module: penalty(module, x))


def cell(input_size: int, hidden_size: int, batch: int) -> Case:
    """One step of a GRUCell."""
    x, h = torch.randn(batch, input_size), torch.randn(batch, hidden_size)
    theirs, ours = (kind(input_size, hidden_size) for kind in (torch.nn.GRUCell, fastgru.GRUCell))
    name = f"GRUCell, I={input_size} H={hidden_size} B={batch}"
    return case_of(name, theirs, ours, lambda module: penalty(lambda given: module(given, h), x))


def cases() -> Iterator[Case]:
    """All of them."""
    yield from (layer(*sizes, *form) for sizes, form in product(SIZES, product((1, 2), (1, 2))))
    yield from (cell(*sizes[:3]) for sizes in SIZES)


if __name__ == "__main__":
    compare("a gradient penalty, forward and backward", cases(), __doc__)
