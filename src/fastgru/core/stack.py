"""The layers of a GRU one after the other: which part of the tensors is whose, and what happens between them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastgru.core import noise
from fastgru.core.layer import Layer
from fastgru.core.spec import GRUSpec
from fastgru.core.steps import Steps


def run_layers(
    compute: Callable[[Layer], tuple[Tensor, Tensor]],
    spec: GRUSpec,
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
    each = spec.directions * spec.weights_per_direction
    starts, fresh = _by_layer(spec, h0), _by_layer(spec, initial)
    variant = spec.variant
    outputs: list[Tensor] = []
    states = []
    for number in range(spec.num_layers):
        if number > 0:
            x = noise.between_layers(spec, x, steps)
        own = noise.drop_weights(spec, weights[number * each : (number + 1) * each])
        masks = noise.draw(spec, own[1].size(1), x, steps)
        x, h_n = compute(Layer(variant, steps, masks, x, starts[number], fresh[number], own))
        outputs.append(x)
        states.append(h_n)
    if spec.num_layers == 1:
        return outputs, states[0]
    return outputs, torch.cat(states, dim=0 if isinstance(spec.hidden_size, int) else -1)


def _by_layer(spec: GRUSpec, tensor: Tensor | None) -> Sequence[Tensor | None]:
    """Each layer's part [D, ...] of h0 or the like."""
    if tensor is None:
        return [None] * spec.num_layers
    if not isinstance(spec.hidden_size, int):
        return torch.split(tensor, list(spec.hidden_size), dim=-1)
    first = range(0, spec.num_layers * spec.directions, spec.directions)
    return [tensor] if spec.num_layers == 1 else [tensor[i : i + spec.directions] for i in first]
