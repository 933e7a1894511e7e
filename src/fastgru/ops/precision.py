"""Half precision: what torch.autocast makes of a layer's inputs, and how kernels that have no half dtype take them.

Under autocast a layer is the layer whose inputs and weights were cast, as torch's own products are: its outputs are
half, its parameters and their gradients keep their dtype. (torch.nn.GRU gives float32 under autocast on a CPU.)

A kernel takes a half layer in float32: products of half inputs and weights are exact there, and sums, gates and the
carried state are float32, as the definition has it. Where the definition rounds each product's result, and the state
before each product, a kernel does not: its only rounding to half is that of the outputs. With one exception: where the
processor multiplies bfloat16, the kernels of a bfloat16 layer round what they multiply, the state and the gates'
gradients among it (`Variant.bf16`); single steps, which wait for memory, they leave as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgru.core.layer import Layer
from fastgru.core.noise import Noise
from fastgru.core.stack import Stack

HALF = frozenset((torch.float16, torch.bfloat16))


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is on where x is; float64 it never touches."""
    return torch.is_autocast_enabled(x.device.type) and x.dtype is not torch.float64


def lowered(x: Tensor, h0: Tensor | None, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """A layer's tensors in autocast's dtype."""
    return cast(torch.get_autocast_dtype(x.device.type), x, h0, weights)


def cast(
    dtype: torch.dtype, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """A layer's tensors in another dtype; gradients come back in their own."""
    return x.to(dtype), None if h0 is None else h0.to(dtype), [weight.to(dtype) for weight in weights]


def cast_layer(dtype: torch.dtype, given: Layer) -> Layer:
    """A layer in another dtype; gradients come back in their own."""
    x, h0, weights = cast(dtype, given.x, given.h0, given.weights)
    initial = None if given.initial is None else given.initial.to(dtype)
    noise = Noise(*(None if mask is None else mask.to(dtype) for mask in given.noise))
    packed = None if given.packed is None else given.packed.of_copies
    variant = given.variant._replace(bf16=dtype is torch.float32 and given.x.dtype is torch.bfloat16)
    return given._replace(variant=variant, x=x, h0=h0, initial=initial, weights=weights, noise=noise, packed=packed)


def of_copies(stack: Stack) -> Stack:
    """The stack as one whose weights are copies, made for one call: kernels then keep nothing by their addresses."""
    return stack._replace(packed=[None if packed is None else packed.of_copies for packed in stack.packed])
