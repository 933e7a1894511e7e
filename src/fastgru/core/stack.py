"""Stack: the one description of a GRU, and its layers one after the other: which part of the tensors is whose."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgru.core import noise
from fastgru.core.layer import Layer
from fastgru.core.noise import NO_NOISE
from fastgru.core.spec import GRUSpec, Variant
from fastgru.core.steps import Steps


class Stack(NamedTuple):
    """A GRU besides its tensors; a module makes it once, and keeps it until one of its options changes.

    spec: the options; variant: what of them matters to each layer; shapes: those of all weights, in torch's order;
    each: how many weights a layer has; is_noisy: whether this mode draws masks;
    trains_steps: whether a single step of it, of which gradients are wanted, is one call of a kernel;
    packed: each layer's PackedWeights, or None (`fastgru.core.layer.Layer`).
    """

    spec: GRUSpec
    variant: Variant
    shapes: tuple[tuple[int, ...], ...]
    each: int
    is_noisy: bool
    trains_steps: bool
    packed: Sequence[Any]


def stack_of(spec: GRUSpec, packed: Sequence[Any] | None = None) -> Stack:
    """The description of a GRU of these options."""
    masks_state = bool(spec.recurrent_dropout or spec.zoneout)
    masks_more = bool((spec.dropout and spec.num_layers > 1) or spec.weight_dropout)
    is_simple = isinstance(spec.hidden_size, int) and spec.memory == "gates"
    return Stack(
        spec,
        spec.variant,
        tuple(spec.weight_shapes),
        spec.directions * spec.weights_per_direction,
        spec.training and (masks_state or masks_more),
        is_simple and not (spec.training and (masks_more or (masks_state and spec.num_layers > 1))),
        (None,) * spec.num_layers if packed is None else packed,
    )


def run_layers(
    compute: Callable[[Layer], tuple[Tensor, Tensor]],
    stack: Stack,
    x: Tensor,
    h0: Tensor | None,
    initial: Tensor | None,
    weights: Sequence[Tensor],
    steps: Steps,
) -> tuple[list[Tensor], Tensor]:
    """The output of every layer, and the final states h_n in the form of h0.

    compute: gives y and h_n [D, B, H] of one layer.
    h0 [L*D, B, H], [D, B, sum(H)] where the layers' H differ, or None: zeros.
    initial [L*D, H], [D, sum(H)] where they differ, or None: zeros; the states that a reset leaves.
    weights: layer by layer, forward before reverse.
    """
    spec, variant = stack.spec, stack.variant
    if spec.num_layers == 1 and not stack.is_noisy:
        x, h_n = compute(Layer(variant, steps, NO_NOISE, x, h0, initial, weights, stack.packed[0]))
        return [x], h_n
    starts, fresh = _by_layer(spec, h0), _by_layer(spec, initial)
    outputs: list[Tensor] = []
    states = []
    for number in range(spec.num_layers):
        own, masks = weights[number * stack.each : (number + 1) * stack.each], NO_NOISE
        if stack.is_noisy:
            x = noise.between_layers(spec, x, steps) if number > 0 else x
            own = noise.drop_weights(spec, own)
            masks = noise.draw(spec, own[1].size(1), x, steps)
        x, h_n = compute(Layer(variant, steps, masks, x, starts[number], fresh[number], own, stack.packed[number]))
        outputs.append(x)
        states.append(h_n)
    return outputs, torch.cat(states, dim=0 if isinstance(spec.hidden_size, int) else -1)


def _by_layer(spec: GRUSpec, tensor: Tensor | None) -> Sequence[Tensor | None]:
    """Each layer's part [D, ...] of h0 or the like."""
    if tensor is None:
        return [None] * spec.num_layers
    if not isinstance(spec.hidden_size, int):
        return torch.split(tensor, list(spec.hidden_size), dim=-1)
    first = range(0, spec.num_layers * spec.directions, spec.directions)
    return [tensor] if spec.num_layers == 1 else [tensor[i : i + spec.directions] for i in first]
