"""GRUCell: torch.nn's module of this name, on fastgru's backends."""

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from fastgru import ops
from fastgru.backends import check_name
from fastgru.backends.cpu import packed_weights
from fastgru.core.spec import GRUSpec
from fastgru.core.stack import Stack, stack_of

_WEIGHTS = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


class GRUCell(torch.nn.RNNCellBase):
    """One step of a GRU, in place of `torch.nn.GRUCell`: the equations of `GRU` for one layer.

    Args:
        input_size: I, the features of the input.
        hidden_size: H, the features of the state.
        bias: without it there are no `bias_ih` and `bias_hh`.
        device, dtype: of the parameters.
        backend: who computes it: "auto", or a name that `fastgru.info()` lists.

    Parameters as in torch: `weight_ih [3H, I]`, `weight_hh [3H, H]`, `bias_ih [3H]`, `bias_hh [3H]`.
    Raises what torch.nn.GRUCell raises, and ValueError for an unknown backend.

    >>> import torch, fastgru
    >>> cell, state = fastgru.GRUCell(input_size=10, hidden_size=20), torch.zeros(3, 20)
    >>> for x_t in torch.randn(6, 3, 10):
    ...     state = cell(x_t, state)
    >>> state.shape
    torch.Size([3, 20])
    """

    backend: str = "auto"

    _kept: Stack | None = None  # the description of the sizes that it last ran with

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "auto",
    ) -> None:
        check_name(backend)
        super().__init__(input_size, hidden_size, bias, num_chunks=3, device=device, dtype=dtype)
        self.backend = backend

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """One step.

        input: `[B, I]` or `[I]`; hx: the state `[B, H]` or `[H]`, zeros where it is None.
        Returns the next state in the form of the input.
        """
        if input.dim() not in (1, 2):
            raise ValueError(f"GRUCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if hx is not None and hx.dim() not in (1, 2):
            raise ValueError(f"GRUCell: Expected hidden to be 1D or 2D, got {hx.dim()}D instead")
        weights = self._weights()
        if self.backend in ("auto", "cpu"):
            found = ops.cell_step(input, hx, weights)
            if found is not None:
                return found
        is_batched = input.dim() == 2
        x = input if is_batched else input.unsqueeze(0)
        if hx is None:
            h = torch.zeros(x.size(0), self.hidden_size, dtype=x.dtype, device=x.device)  # dense, though x were sparse
        else:
            h = hx if is_batched else hx.unsqueeze(0)
        h = ops.cell(self.backend, self._stack(), x, h, weights)
        return h if is_batched else h.squeeze(0)

    def _stack(self) -> Stack:
        """This cell as a backend sees it; made anew where a size has changed."""
        spec = GRUSpec(self.input_size, self.hidden_size, bias=self.bias)
        if is_compiling():
            return stack_of(spec)
        kept = self._kept
        if kept is None or kept.spec != spec:
            kept = stack_of(spec, packed_weights(1))
            self.__dict__["_kept"] = kept
        return kept

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: without what is kept for this very module."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name != "_kept"}

    def _weights(self) -> list[Tensor]:
        """The weights as they are now; a look at the parameters takes a tenth of the attributes' time."""
        parameters = self._parameters
        if self.bias and list(parameters) == _WEIGHTS:
            return list(parameters.values())  # type: ignore[arg-type]
        return [getattr(self, name) for name in (_WEIGHTS if self.bias else _WEIGHTS[:2])]

    def extra_repr(self) -> str:
        """torch's, and the backend where one was asked for."""
        return super().extra_repr() + ("" if self.backend == "auto" else f", backend={self.backend!r}")
