"""GRU and GRUCell: torch.nn's modules of these names, on fastgru's backends.

`GRU` extends `torch.nn.RNNBase`, which brings parameters, initialisation, state_dict, repr and checks; not
`torch.nn.GRU`, for torch.compile refuses every subclass of that.
"""

from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastgru import ops
from fastgru.backends import check_name, pick
from fastgru.spec import GRUSpec


class GRU(torch.nn.RNNBase):
    """A stack of gated recurrent units over sequences, in place of `torch.nn.GRU`.

        r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z  = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n  = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    Args:
        input_size: I, the features of the input.
        hidden_size: H, the features of the state.
        num_layers: L, the layers of the stack.
        bias: without it there are no `b_i*` and `b_h*`.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; h0 and h_n do not change.
        dropout: the probability with which outputs between layers are zeroed in training.
        bidirectional: D = 2, a second GRU runs from the end to the start; its outputs and states come second.
        device, dtype: of the parameters.
        backend: who computes it: "auto", or a name that `fastgru.info()` lists.

    Parameters have torch's names, shapes and order (`weight_ih_l0 [3H, I]`, `weight_hh_l0 [3H, H]`, `bias_ih_l0 [3H]`,
    `bias_hh_l0 [3H]`, `..._l0_reverse`, ...), rows in the order r, z, n, so a state_dict goes both ways; they are drawn
    from U(-1/sqrt(H), 1/sqrt(H)) as in torch.

    Raises what torch.nn.GRU raises, and ValueError for an unknown backend.
    Source: Cho et al. 2014, arXiv:1406.1078, in the reset-after form that cuDNN and torch compute.
    """

    backend: str = "auto"  # on the class too: modules pickled by torch.nn.RNNBase's rules may lack it

    @overload
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None: ...

    @overload
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __init__(self, *args: Any, backend: str = "auto", **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        check_name(backend)
        super().__init__("GRU", *args, **kwargs)
        self.backend = backend

    @property
    def spec(self) -> GRUSpec:
        """This layer as a backend sees it, at this moment."""
        return GRUSpec(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.bias,
            self.bidirectional,
            self.dropout,
            self.training,
        )

    @overload
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run the whole sequences.

        input: `[T, B, I]`, `[B, T, I]` with batch_first, `[T, I]` for one sequence, or a PackedSequence.
        hx: the initial states `[L*D, B, H]`, `[L*D, H]` for one sequence; zeros where it is None.

        Returns the output, `[T, B, D*H]` in the form of the input, and the final states h_n in the form of hx.
        """
        self._update_flat_weights()
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"GRU: Expected input to be 2D or 3D, got {input.dim()}D instead")
        is_batched = input.dim() == 3
        if hx is not None and hx.dim() != input.dim():
            kind = f"{'' if is_batched else 'un'}batched {input.dim()}-D"
            raise RuntimeError(f"For {kind} input, hx should also be {input.dim()}-D but got {hx.dim()}-D tensor")
        batch_dim = 0 if self.batch_first else 1
        x = input if is_batched else input.unsqueeze(batch_dim)
        h0 = hx if is_batched or hx is None else hx.unsqueeze(1)
        self._check(x, h0, None)
        y, h_n = self._run(x.transpose(0, 1) if self.batch_first else x, h0, None)
        if self.batch_first:
            y = y.transpose(0, 1)
        if not is_batched:
            return y.squeeze(batch_dim), h_n.squeeze(1)
        return y, h_n

    def _forward_packed(self, input: PackedSequence, hx: Tensor | None) -> tuple[PackedSequence, Tensor]:
        x, batch_sizes, sorted_indices, unsorted_indices = input
        h0 = None if hx is None else self.permute_hidden(hx, sorted_indices)
        self._check(x, h0, batch_sizes)
        y, h_n = self._run(x, h0, batch_sizes)
        h_n = self.permute_hidden(h_n, unsorted_indices)
        return PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices), h_n

    def _check(self, x: Tensor, h0: Tensor | None, batch_sizes: Tensor | None) -> None:
        self.check_input(x, batch_sizes)
        if h0 is not None:
            self.check_hidden_size(h0, self.get_expected_hidden_size(x, batch_sizes))

    def _run(self, x: Tensor, h0: Tensor | None, batch_sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        weights: list[Tensor] = self._flat_weights  # type: ignore[assignment]
        return ops.gru(pick(self.backend, x, h0, weights), self.spec, x, h0, weights, batch_sizes)

    def extra_repr(self) -> str:
        """torch's, and the backend where one was asked for."""
        return super().extra_repr() + ("" if self.backend == "auto" else f", backend={self.backend!r}")


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
    """

    backend: str = "auto"

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
        is_batched = input.dim() == 2
        x = input if is_batched else input.unsqueeze(0)
        if hx is None:
            h = x.new_zeros(x.size(0), self.hidden_size)
        else:
            h = hx if is_batched else hx.unsqueeze(0)
        weights = [self.weight_ih, self.weight_hh]
        if self.bias:
            weights += [self.bias_ih, self.bias_hh]
        h = ops.cell(pick(self.backend, x, h, weights), x, h, weights)
        return h if is_batched else h.squeeze(0)

    def extra_repr(self) -> str:
        """torch's, and the backend where one was asked for."""
        return super().extra_repr() + ("" if self.backend == "auto" else f", backend={self.backend!r}")
