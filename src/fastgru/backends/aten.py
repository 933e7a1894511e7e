"""Torch's own GRU operators: ATen's on a CPU, cuDNN's on a GPU. Never worse than torch.nn.GRU, for it is the same."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgru.spec import GRUSpec


class AtenBackend:
    """`torch.gru` and `torch.gru_cell`; they differentiate themselves and check their own sizes."""

    name = "aten"

    def why_not(self, spec: GRUSpec, x: Tensor) -> str | None:
        """Whatever torch.nn.GRU takes."""
        return None

    def forward(
        self, spec: GRUSpec, x: Tensor, h0: Tensor, weights: Sequence[Tensor], batch_sizes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Call torch.gru."""
        layer = (list(weights), spec.bias, spec.num_layers, spec.dropout, spec.training, spec.bidirectional)
        if batch_sizes is None:
            return torch.gru(x, h0, *layer, batch_first=False)
        return torch.gru(x, batch_sizes, h0, *layer)

    def cell(
        self, x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
    ) -> Tensor:
        """Call torch.gru_cell."""
        return torch.gru_cell(x, h, w_ih, w_hh, b_ih, b_hh)
