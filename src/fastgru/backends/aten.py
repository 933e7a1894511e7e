"""Torch's own GRU operators: ATen's on a CPU, cuDNN's on a GPU. Never worse than torch.nn.GRU, for it is the same."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.spec import GRUSpec
from fastgru.core.stack import Stack
from fastgru.core.steps import Steps
from fastgru.core.torch_internals import are_transforms_active, has_batched_tangents, is_vmapped, transforms


class AtenBackend:
    """`torch.gru` and `torch.gru_cell`; they differentiate themselves and check their own sizes."""

    name = "aten"
    composed: Literal[True] = True

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
        layer = (list(weights), spec.bias, spec.num_layers, spec.dropout, spec.training, spec.bidirectional)
        if steps.batch_sizes is None:
            return torch.gru(x, h0, *layer, batch_first=False)
        return torch.gru(x, steps.batch_sizes, h0, *layer)

    def layer(self, given: Layer) -> tuple[Tensor, Tensor]:
        """Call torch.gru for one layer."""
        variant = given.variant
        training = torch.is_grad_enabled()  # cuDNN's backward needs it; without dropout it changes no number
        spec = GRUSpec(given.x.size(-1), given.hidden_size, 1, variant.bias, variant.bidirectional, training=training)
        return self.gru(spec, given.x, given.h0, given.weights, given.steps)

    def cell(self, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Call torch.gru_cell."""
        return torch.gru_cell(x, h, *weights)
