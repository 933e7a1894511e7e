"""The definition itself as a backend: slow, exact, and willing to run anywhere."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.spec import NORM_NEEDS_RESET_AFTER
from fastgru.core.stack import Stack
from fastgru.core.steps import Steps


class ReferenceBackend:
    """`fastgru.core.reference`."""

    name = "reference"
    composed: Literal[True] = True
    why_not_auto = None

    def why_not(
        self, stack: Stack, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """It takes everything that makes sense."""
        if stack.spec.layer_norm and not stack.spec.reset_after:
            return NORM_NEEDS_RESET_AFTER
        return None if steps.batch_sizes is None else reference.why_not_packed(x, steps.batch_sizes)

    def layer(self, given: Layer) -> tuple[Tensor, Tensor]:
        """Run the definition of one layer."""
        return reference.layer(given)

    def cell(self, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Check sizes in torch's words, then run the definition's step."""
        reference.check_cell(x, h, weights)
        return reference.gru_cell(x, h, *weights)
