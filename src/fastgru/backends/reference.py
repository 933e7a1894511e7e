"""The definition itself as a backend: slow, exact, and willing to run anywhere."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fastgru import reference
from fastgru.spec import GRUSpec


class ReferenceBackend:
    """`fastgru.reference` on padded sequences."""

    name = "reference"
    composed: Literal[True] = True

    def why_not(
        self, spec: GRUSpec, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], batch_sizes: Tensor | None
    ) -> str | None:
        """It takes everything that makes sense."""
        return None if batch_sizes is None else reference.why_not_packed(x, batch_sizes)

    def gru(
        self, spec: GRUSpec, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], batch_sizes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run the definition, packed steps padded before and packed again after."""
        h0 = reference.zero_state(spec, x, batch_sizes) if h0 is None else h0
        if batch_sizes is None:
            return reference.gru(spec, x, h0, weights)
        batch_sizes = batch_sizes.to(x.device)
        # real[t, b] in the order of time is the order of the packed steps
        real = torch.arange(h0.size(1), device=x.device) < batch_sizes[:, None]  # [T, B]
        padded = x.new_zeros(*real.shape, x.size(-1)).index_put((real,), x)
        y, h_n = reference.gru(spec, padded, h0, weights, lengths=real.sum(dim=0))
        return y[real], h_n

    def cell(self, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Check sizes in torch's words, then run the definition's step."""
        reference.check_cell(x, h, weights)
        return reference.gru_cell(x, h, *weights)
