"""Layer: all that one layer's output depends on, in one record that the rooms above pass on."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from fastgru.noise import Noise
from fastgru.spec import Variant
from fastgru.steps import Steps


class Layer(NamedTuple):
    """One layer.

    x [T, B, I], or rows [N, I] where `steps` says so; h0 [D, B, H] or None: zeros; initial [D, H] or None: zeros, the
    state that a reset leaves; weights: for each direction w_ih [3H, I], w_hh [3H, H] and, with bias, b_ih, b_hh
    [3H].
    """

    variant: Variant
    steps: Steps
    noise: Noise
    x: Tensor
    h0: Tensor | None
    initial: Tensor | None
    weights: Sequence[Tensor]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.weights[1].size(1)
