"""What happens to weights between two calls, after which nothing of the old ones may be left."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor


def edit(layer: torch.nn.Module, kind: str, rng: Random) -> None:
    """Change one weight in the way that is named, or all of them."""
    name, weight = rng.choice([*layer.named_parameters()])
    with torch.no_grad():
        EDITS[kind](layer, name, weight)


def _swap(weight: Tensor) -> None:
    first, last = (0,) * weight.dim(), (-1,) * weight.dim()
    kept = weight[first].clone()
    weight[first] = weight[last]
    weight[last] = kept


def _through_numpy(weight: Tensor) -> None:
    data = weight.data
    if data.is_neg() or data.dtype is torch.bfloat16:
        data[(0,) * data.dim()] += 0.25
    else:
        data.numpy()[(0,) * data.dim()] += 0.25


def _replace(layer: torch.nn.Module, name: str, weight: Tensor) -> None:
    setattr(layer, name, torch.nn.Parameter(weight * -0.5, requires_grad=weight.requires_grad))


def _assign(layer: torch.nn.Module) -> None:
    wanted = {name: weight.requires_grad for name, weight in layer.named_parameters()}
    layer.load_state_dict({name: value * 0.75 for name, value in layer.state_dict().items()}, assign=True)
    for name, weight in layer.named_parameters():
        weight.requires_grad_(wanted[name])


def _optimise(layer: torch.nn.Module) -> None:
    for weight in layer.parameters():
        weight.add_(torch.linspace(-0.1, 0.1, weight.numel()).reshape(weight.shape).to(weight))


EDITS: dict[str, Callable[[torch.nn.Module, str, Tensor], object]] = {
    "none": lambda layer, name, weight: None,
    "in place": lambda layer, name, weight: weight.mul_(0.5),
    "one element": lambda layer, name, weight: weight[(-1,) * weight.dim()].add_(0.25),
    "two elements swapped": lambda layer, name, weight: _swap(weight),
    "through data": lambda layer, name, weight: weight.data.mul_(-1),
    "data replaced": lambda layer, name, weight: setattr(weight, "data", weight.data * 0.5),
    "through NumPy": lambda layer, name, weight: _through_numpy(weight),
    "a new parameter": _replace,
    "load_state_dict": lambda layer, name, weight: layer.load_state_dict(
        {key: value * 0.5 for key, value in layer.state_dict().items()}
    ),
    "load_state_dict, assigned": lambda layer, name, weight: _assign(layer),
    "an optimiser's step": lambda layer, name, weight: _optimise(layer),
}
