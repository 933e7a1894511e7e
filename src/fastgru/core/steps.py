"""Steps: which steps each sequence of a batch has, and where one starts anew; the same word in every room."""

from typing import NamedTuple

import torch
from torch import Tensor

from fastgru.core.torch_internals import tracing_state


class Steps(NamedTuple):
    """At most one of the first three; with none of them every sequence has all steps of x [T, B, I].

    batch_sizes [T] int64 on the CPU: x holds the packed steps [sum(batch_sizes), I] of torch's PackedSequence; how
        many sequences reach each step, at least 1 and never growing.
    offsets [B + 1] int64 or int32: x holds the sequences one after the other, [N, I]; sequence b has the rows from
        offsets[b] to offsets[b + 1], none where these are the same. From 0 to N, never falling.
    lengths [B] int64 or int32: sequence b has the first lengths[b] of the steps of x [T, B, I]; 0 is allowed.
    resets [T, B] bool, or [N] with offsets: where it is true a new segment begins: the forward direction's step t, and
        the reverse direction's step t - 1, find a state of zero.
    """

    batch_sizes: Tensor | None = None
    offsets: Tensor | None = None
    lengths: Tensor | None = None
    resets: Tensor | None = None

    @property
    def rows_dim(self) -> int:
        """The dimension of x and y that counts sequences or, in one row after the other, steps of sequences."""
        return 1 if self.batch_sizes is None and self.offsets is None else 0


PLAIN = Steps()


def batch_of(steps: Steps, x: Tensor) -> int:
    """B, the sequences of x."""
    if steps.batch_sizes is not None:
        first = steps.batch_sizes[0]
        return int(first) if tracing_state() is None else first  # type: ignore[return-value] # a traced size is a tensor
    return x.size(1) if steps.offsets is None else steps.offsets.size(0) - 1


def step_of_rows(steps: Steps, x: Tensor) -> Tensor:
    """Which step each row of x is: t [N], or [T, 1] where x has steps [T, B, I]."""
    if steps.offsets is not None:
        offsets = steps.offsets.to(x.device, torch.int64)
        first = offsets[:-1].repeat_interleave(offsets.diff(), output_size=x.size(0))
        return torch.arange(x.size(0), device=x.device) - first
    if steps.batch_sizes is not None:
        sizes = steps.batch_sizes.to(x.device)
        return torch.arange(sizes.size(0), device=x.device).repeat_interleave(sizes, output_size=x.size(0))
    return torch.arange(x.size(0), device=x.device)[:, None]
