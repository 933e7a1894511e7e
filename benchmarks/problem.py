"""The problem that every contender solves: a shape, an input, a layer's weights, and the numbers that must come out."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastgru.cli.benchmark import Shape


@dataclass(frozen=True)
class Problem:
    """A shape, an input x [T, B, I] in time-major order, and the layer with the weights that every contender gets."""

    shape: Shape
    x: Tensor
    layer: torch.nn.GRU
    threads: int

    @classmethod
    def draw(cls, shape: Shape, threads: int, seed: int = 0) -> "Problem":
        """Seeded weights and input."""
        torch.manual_seed(seed)
        layer = torch.nn.GRU(shape.input_size, shape.hidden_size, bidirectional=shape.directions == 2)
        return cls(shape, torch.randn(shape.steps, shape.batch, shape.input_size), layer, threads)

    def expected(self) -> tuple[Tensor, Tensor]:
        """y and the gradient of x for a cotangent of ones, in float64."""
        exact = torch.nn.GRU(self.shape.input_size, self.shape.hidden_size, bidirectional=self.shape.directions == 2)
        exact.load_state_dict(self.layer.state_dict())
        x = self.x.double().requires_grad_()
        y, _ = exact.double()(x)
        (dx,) = torch.autograd.grad(y.sum(), x)
        return y.detach(), dx


def zrn(weight: Tensor) -> np.ndarray:
    """Rows r, z, n to rows z, r, n."""
    r, z, n = weight.detach().chunk(3)
    return torch.cat([z, r, n]).numpy()
