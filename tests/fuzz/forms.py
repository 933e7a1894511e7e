"""The forms of an input, and the one [T, B, ...] with lengths that the definition takes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastgru.core.steps import Steps
from fuzz.layer_case import LayerCase


class Form:
    """Sequences of a case: how x is given, how results come back.

    steps: as the definition takes them. places: where t and b of each row of x lie, if x has rows.
    """

    def __init__(self, case: LayerCase, generator: torch.Generator) -> None:
        self.case, self.name = case, case.form
        self.batch_first = bool(case.options.get("batch_first")) and case.entry == "forward"
        lengths = [case.T] * case.B if case.lengths is None else [*case.lengths]
        if case.form == "packed" and case.is_sorted:
            lengths.sort(reverse=True)
        resets = None if case.resets is None else torch.rand(case.T, case.B, generator=generator) < case.resets
        own = torch.tensor(lengths, dtype=torch.int32 if case.int32 else torch.int64)
        self.steps = Steps(lengths=None if case.lengths is None else own, resets=resets)
        self.order = own.argsort(descending=True, stable=True)
        self.places = self._places(lengths)
        self.given = self._arguments()

    def _places(self, lengths: list[int]) -> tuple[Tensor, Tensor] | None:
        if self.name == "packed":
            order = self.order.tolist()
            rows = [(t, b) for t in range(max(lengths)) for b in order if lengths[b] > t]
        elif self.name in ("cu_seqlens", "nested"):
            rows = [(t, b) for b, length in enumerate(lengths) for t in range(length)]
        else:
            return None
        times, sequences = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        return times, sequences

    def _arguments(self) -> dict[str, Tensor]:
        """The tensors that say which steps there are."""
        lengths, resets = self.steps.lengths, self.steps.resets
        given: dict[str, Tensor] = {}
        if self.name == "packed":
            assert self.places is not None
            given["batch_sizes"] = self.places[0].bincount()
            if not self.case.is_sorted:
                given |= {"sorted_indices": self.order, "unsorted_indices": self.order.argsort()}
        elif self.places is not None:
            assert lengths is not None
            given["cu_seqlens"] = torch.cat([lengths.new_zeros(1), lengths.cumsum(0, dtype=lengths.dtype)])
        elif lengths is not None:
            given["lengths"] = lengths
        if resets is not None:
            given["resets"] = self.raw(resets).contiguous()
        return given

    def canonical(self, x: Tensor) -> Tensor:
        """[T, B, ...] of what is given."""
        if self.places is not None:
            return x.new_zeros(self.case.T, self.case.B, *x.shape[1:]).index_put(self.places, x)
        if self.name == "unbatched":
            return x.unsqueeze(1)
        return x.transpose(0, 1) if self.batch_first else x

    def raw(self, y: Tensor) -> Tensor:
        """What comes back for [T, B, ...]."""
        if self.places is not None:
            return y[self.places]
        if self.name == "unbatched":
            return y.squeeze(1)
        return y.transpose(0, 1) if self.batch_first else y

    def states(self, h: Tensor) -> Tensor:
        """h0 or h_n as it is given, of [.., B, H]."""
        return h.squeeze(1) if self.name == "unbatched" else h

    def canonical_states(self, h: Tensor) -> Tensor:
        """[.., B, H] of what is given."""
        return h.unsqueeze(1) if self.name == "unbatched" else h

    def call(self, layer: Any, x: Tensor, h0: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Forward: the outputs of the layers that it returns, as `raw` has them, and h_n."""
        if self.name == "packed":
            given = self.given
            indices = given.get("sorted_indices"), given.get("unsorted_indices")
            y, h_n = layer(PackedSequence(x, given["batch_sizes"], *indices), h0)
        elif self.name == "nested":
            y, h_n = layer(torch.nested.nested_tensor_from_jagged(x, self.given["cu_seqlens"].long()), h0)
        else:
            y, h_n = layer(x, h0, **self.given)
        return [self._tensor(one) for one in (y if type(y) is list else [y])], h_n

    def _tensor(self, y: Any) -> Tensor:
        if isinstance(y, PackedSequence):
            return y.data
        return y.values() if y.is_nested else y
