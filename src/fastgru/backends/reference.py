"""The definition itself as a backend: slow, exact, and willing to run anywhere."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgru import reference
from fastgru.spec import GRUSpec


class ReferenceBackend:
    """`fastgru.reference` on padded sequences."""

    name = "reference"

    def why_not(self, spec: GRUSpec, x: Tensor) -> str | None:
        """It takes everything."""
        return None

    def forward(
        self, spec: GRUSpec, x: Tensor, h0: Tensor, weights: Sequence[Tensor], batch_sizes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run the definition, packed steps padded before and packed again after."""
        if batch_sizes is None:
            return reference.gru(spec, x, h0, weights)
        batch_sizes = batch_sizes.to(x.device)
        # real[t, b] in the order of time is the order of the packed steps
        real = torch.arange(h0.size(1), device=x.device) < batch_sizes[:, None]  # [T, B]
        padded = x.new_zeros(*real.shape, x.size(-1)).index_put((real,), x)
        y, h_n = reference.gru(spec, padded, h0, weights, lengths=real.sum(dim=0))
        return y[real], h_n

    def cell(
        self, x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
    ) -> Tensor:
        """Check sizes in torch's words, then run the definition's step."""
        _check_cell(x, h, w_ih.size(1), w_hh.size(1))
        return reference.gru_cell(x, h, w_ih, w_hh, b_ih, b_hh)


def _check_cell(x: Tensor, h: Tensor, input_size: int, hidden_size: int) -> None:
    if x.size(1) != input_size:
        raise RuntimeError(f"input has inconsistent input_size: got {x.size(1)} expected {input_size}")
    if x.size(0) != h.size(0):
        raise RuntimeError(f"Input batch size {x.size(0)} doesn't match hidden0 batch size {h.size(0)}")
    if h.size(1) != hidden_size:
        raise RuntimeError(f"hidden0 has inconsistent hidden_size: got {h.size(1)}, expected {hidden_size}")
