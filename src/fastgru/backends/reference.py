"""The definition itself as a backend: slow, exact, and willing to run anywhere."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fastgru import reference
from fastgru.spec import GRUSpec
from fastgru.steps import Steps


class ReferenceBackend:
    """`fastgru.reference` on padded sequences."""

    name = "reference"
    composed: Literal[True] = True

    def why_not(
        self, spec: GRUSpec, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """It takes everything that makes sense."""
        return None if steps.batch_sizes is None else reference.why_not_packed(x, steps.batch_sizes)

    def gru(
        self, spec: GRUSpec, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> tuple[Tensor, Tensor]:
        """Run the definition, rows padded before and taken out again after."""
        h0 = reference.zero_state(spec, x, steps) if h0 is None else h0
        if steps.rows_dim == 1:
            return reference.gru(spec, x, h0, weights, steps.lengths, steps.resets)
        real, places = _places(steps, x)
        padded = x.new_zeros(*real.shape, x.size(-1)).index_put(places, x)
        resets = None if steps.resets is None else torch.zeros_like(real).index_put(places, steps.resets)
        y, h_n = reference.gru(spec, padded, h0, weights, real.sum(dim=0), resets)
        return y[places], h_n

    def cell(self, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Check sizes in torch's words, then run the definition's step."""
        reference.check_cell(x, h, weights)
        return reference.gru_cell(x, h, *weights)


def _places(steps: Steps, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The real steps [T, B] of packed or concatenated rows, and where among them each row lies."""
    if steps.offsets is None:
        assert steps.batch_sizes is not None
        sizes = steps.batch_sizes.to(x.device)
        real = torch.arange(int(sizes[0]), device=x.device) < sizes[:, None]
        return real, real.nonzero(as_tuple=True)  # by time: the order of the packed steps
    offsets = reference.check_offsets(steps.offsets, x.size(0)).to(x.device)
    lengths = offsets.diff()
    real = torch.arange(max(int(lengths.max()), 1) if len(lengths) else 1, device=x.device)[:, None] < lengths
    sequences, times = real.T.nonzero(as_tuple=True)
    return real, (times, sequences)
