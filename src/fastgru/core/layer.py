"""Layer: all that one layer's output depends on, in one record that the rooms above pass on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from fastgru.core.noise import Noise
from fastgru.core.spec import Variant
from fastgru.core.steps import Steps

FIXED = len(Steps._fields) + len(Noise._fields)


class Layer(NamedTuple):
    """One layer.

    x [T, B, I], or rows [N, I] where `steps` says so; h0 [D, B, H] or None: zeros; initial [D, H] or None: zeros, the
    state that a reset leaves; weights: for each direction w_ih [3H, I], w_hh [3H, H], with bias b_ih, b_hh [3H] and,
    with layer_norm, the gains g_ih, g_hh [3H]; or of few bits, as fastgru.core.low_precision has them.
    packed: the native module's PackedWeights, where the kernels keep what they make of the weights for later calls;
    None where the layer belongs to no module. No number depends on it.

    csrc/binding/layer.cpp reads this record, field by field, and checks all of it.
    """

    variant: Variant
    steps: Steps
    noise: Noise
    x: Tensor
    h0: Tensor | None
    initial: Tensor | None
    weights: Sequence[Tensor]
    packed: Any = None

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.weights[1].size(1)

    @property
    def saved_size(self) -> int:
        """What a kernel saves of one step of one direction for backward: gru.h's saved_pitch, in numbers."""
        if self.variant.layer_norm:
            return 6 * self.hidden_size + 2
        return (4 if self.variant.reset_after else 3) * self.hidden_size

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Its tensors: FIXED without a gradient, those of steps and noise; then the leaves."""
        return (*self.steps, *self.noise, *self.leaves)

    @property
    def leaves(self) -> tuple[Tensor | None, ...]:
        """What it is differentiated for: x, h0, initial and the weights."""
        return (self.x, self.h0, self.initial, *self.weights)


def layer_of(variant: Variant, tensors: Sequence[Tensor | None]) -> Layer:
    """The layer whose `tensors` these are."""
    batch_sizes, offsets, lengths, resets, recurrent, zoneout, x, h0, initial, *weights = tensors
    steps, noise = Steps(batch_sizes, offsets, lengths, resets), Noise(recurrent, zoneout)
    return Layer(variant, steps, noise, x, h0, initial, weights)  # type: ignore[arg-type]
