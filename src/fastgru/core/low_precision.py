"""Weights of few bits, in inference: what they are, and the definition of their products, in plain torch.

int8: a weight is values * scale of its row, values whole numbers from -127 to 127. Each row x [K] that is multiplied
becomes whole numbers too, halves rounded to even:

    most = max(max |x|, 1e-30)        q = round(x * (127 / most))

    W x + b = (values q) * scale * (most / 127) + b

The sums of whole numbers are exact. A row that holds a number that is not finite has products of NaN. State, gates,
biases and gains are float32. bf16: weights are bfloat16, and products those of float32; where a processor multiplies
bfloat16 itself, x is rounded to that, which this definition does not say.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST = 1e-30  # below this a row is zeros


class LowWeight(NamedTuple):
    """A matrix: values [3H, K] int8 or bfloat16; scale [3H] float32, of int8 alone."""

    values: Tensor
    scale: Tensor | None

    def rows(self, begin: int | None, end: int | None) -> "LowWeight":
        """Those rows of it."""
        return LowWeight(self.values[begin:end], None if self.scale is None else self.scale[begin:end])

    def product(self, v: Tensor) -> Tensor:
        """v [..., K] float32 times its rows: [..., 3H]."""
        if self.scale is None:
            return F.linear(v, self.values.to(v.dtype))
        whole, worth = whole_numbers(v)
        sums = F.linear(whole.double(), self.values.double())  # exact
        return sums.to(v.dtype) * self.scale * worth


def whole_numbers(v: Tensor) -> tuple[Tensor, Tensor]:
    """q [..., K], whole numbers, and what one is worth [..., 1], NaN where the row is not finite."""
    most = v.abs().amax(-1, keepdim=True).clamp_min(_LEAST)
    is_finite = most.isfinite()
    whole = torch.where(is_finite, (v * (127 / most)).round(), 0)
    return whole, torch.where(is_finite, most / 127, torch.nan)


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """An int8 weight and the scale of its rows, of weight [3H, K] in floating point and finite."""
    exact = weight.double()
    scale = (exact.abs().amax(1) / 127).float()
    scale = torch.where(scale > 0, scale, 1)
    return (exact / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def matrices_of(weights: Sequence[Tensor]) -> tuple[list[LowWeight], Sequence[Tensor]]:
    """One direction's two matrices, and its other weights: they come as w_ih, w_hh, of int8 their scales, others."""
    is_int8 = weights[0].dtype is torch.int8
    scales = weights[2:4] if is_int8 else (None, None)
    matrices = [LowWeight(w, scale) for w, scale in zip(weights[:2], scales, strict=True)]
    return matrices, weights[4 if is_int8 else 2 :]


def is_low(weights: Sequence[Tensor], x: Tensor) -> bool:
    """Whether these are weights of few bits beside the input x."""
    dtype = weights[0].dtype
    return dtype is torch.int8 or (dtype is torch.bfloat16 and x.dtype is torch.float32)
