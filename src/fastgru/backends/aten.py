"""Torch's own GRU operators: ATen's on a CPU, cuDNN's on a GPU. Never worse than torch.nn.GRU, for it is the same."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.spec import GRUSpec
from fastgru.core.stack import Stack
from fastgru.core.steps import Steps, batch_of
from fastgru.core.torch_internals import (
    are_transforms_active,
    has_batched_tangents,
    is_vmapped,
    tracing_state,
    transforms,
)


class AtenBackend:
    """`torch.gru` and `torch.gru_cell`; they differentiate themselves and check their own sizes."""

    name = "aten"
    composed: Literal[True] = True
    why_not_auto = None

    def why_not(
        self, stack: Stack, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """Whatever torch.nn.GRU takes, where torch has rules for its operator in the present mode."""
        spec = stack.spec
        if not spec.reset_after:
            return "torch's operator computes the form reset_after=True alone"
        if spec.is_noisy or spec.tbptt or spec.layer_norm:
            return "torch's operator knows no recurrent_dropout, zoneout, tbptt or layer_norm"
        if steps.offsets is not None or steps.lengths is not None or steps.resets is not None:
            return "torch's operator knows no lengths, offsets or resets"
        if torch.compiler.is_compiling() and are_transforms_active():
            return "a torch.func transform is being compiled"
        levels = transforms()
        if is_vmapped():
            return "torch's operator has no rule for vmap"
        if levels and steps.batch_sizes is not None:
            return "torch's operator for packed sequences has no rule for torch.func"
        if not levels and has_batched_tangents((x, *weights) if h0 is None else (x, h0, *weights)):
            return "torch's operator has no rule for batches of tangents"
        return None

    def gru(
        self, spec: GRUSpec, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> tuple[Tensor, Tensor]:
        """Call torch.gru for all layers at once: cuDNN then overlaps them."""
        h0 = reference.zero_state(spec, x, steps) if h0 is None else h0
        dropout = spec.dropout if spec.training else 0.0
        training = spec.training or _is_differentiated()
        return _gru(x, steps, h0, weights, spec.bias, spec.num_layers, dropout, training, spec.bidirectional)

    def layer(self, given: Layer) -> tuple[Tensor, Tensor]:
        """Call torch.gru for one layer."""
        variant, x, h0 = given.variant, given.x, given.h0
        if h0 is None:
            h0 = x.new_zeros(variant.directions, batch_of(given.steps, x), given.hidden_size)
        return _gru(
            x, given.steps, h0, given.weights, variant.bias, 1, 0.0, _is_differentiated(), variant.bidirectional
        )

    def cell(self, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Call torch.gru_cell."""
        return torch.gru_cell(x, h, *weights)


def _is_differentiated() -> bool:
    """Whether to ask for training, which cuDNN's backward needs; without dropout it changes no number.

    Not while torch.jit traces: it runs a module a second time, without gradients, and both must be the same program.
    """
    return torch.is_grad_enabled() and tracing_state() is None


def _gru(x: Tensor, steps: Steps, h0: Tensor, weights: Sequence[Tensor], *options: Any) -> tuple[Tensor, Tensor]:
    """torch.gru on padded or packed steps; options: has_biases, num_layers, dropout, train, bidirectional."""
    operator: Any = torch.gru  # mypy cannot tell its overloads apart behind *options
    found: tuple[Tensor, Tensor]
    if steps.batch_sizes is None:
        found = operator(x, h0, list(weights), *options, False)
    else:
        found = operator(x, steps.batch_sizes, h0, list(weights), *options)
    return found
