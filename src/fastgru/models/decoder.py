"""The decoders of a Seq2Seq: a GRU over the target, with attention of three kinds to the source, or none."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastgru.core import noise
from fastgru.models.attention import BahdanauAttention, LuongAttention, attend
from fastgru.nn import GRU, GRUCell


@dataclass(frozen=True)
class Source:
    """An encoded source: what a decoder looks at.

    `memory [B, S, M]`: the encoder's outputs. `keys [B, S, H]`: the same as the attention compares them with its
    states (None without attention). `padding [B, S] bool`: the steps beyond each source's length.
    """

    memory: Tensor
    keys: Tensor | None
    padding: Tensor

    def repeat(self, times: int) -> "Source":
        """Give each sequence `times` times, one beside the other: `[B * times, ...]`."""
        parts = (self.memory, self.keys, self.padding)
        return Source(*(None if part is None else part.repeat_interleave(times, 0) for part in parts))  # type: ignore[arg-type]


class GRUDecoder(nn.Module):
    """Embeddings, GRU, then Luong's attention over all steps at once, or none.

    h_t = GRU(e(y_{t-1}), h_{t-1});  features: h~_t of LuongAttention, or h_t itself
    """

    def __init__(self, embedding_size: int, hidden_size: int, layers: int, memory_size: int, dropout: float) -> None:
        super().__init__()
        self.gru = GRU(embedding_size, hidden_size, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.attention = LuongAttention(memory_size, hidden_size) if memory_size else None
        self.dropout = dropout
        self.feature_size = hidden_size

    def keys(self, memory: Tensor) -> Tensor | None:
        """What the attention compares its states with `[B, S, H]`; None without attention."""
        return None if self.attention is None else self.attention.keys(memory)

    def forward(self, x: Tensor, lengths: Tensor | None, state: Tensor, source: Source) -> tuple[Tensor, ...]:
        """Give the features `[B, T, F]`, the state after each target `[L, B, H]` and the weights `[B, T, S]`.

        `x [B, T, E]`: embeddings of the target; `lengths [B]` or None for all T; `state [L, B, H]`. Without attention
        the weights have S = 0.
        """
        y, state = self.gru(x, state, lengths=lengths)
        if self.attention is None:
            return y, state, y.new_zeros(*y.shape[:2], 0)
        y = noise.dropout(y, self.dropout, self.training)
        assert source.keys is not None
        y, weights = self.attention(y, source.keys, source.memory, source.padding)
        return y, state, weights


class GNMTDecoder(nn.Module):
    """The first layer looks at the source, and the layers above it are told what it saw: all steps of a layer at once.

    u_t = GRU(e(y_{t-1}), u_{t-1});  c_t = sum over s of a_ts m_s, a_t = softmax over s of u_t' W m_s;
    h_t = GRU([u_t; c_t], h_{t-1});  features: [h_t; c_t]

    Source: Wu et al. 2016, arXiv:1609.08144, section 3, where the first layer's state attends and the others get the
    context; there it is the state of the step before, here of the same step, with Luong's general score.
    """

    def __init__(self, embedding_size: int, hidden_size: int, layers: int, memory_size: int, dropout: float) -> None:
        super().__init__()
        self.first = GRU(embedding_size, hidden_size, batch_first=True)
        self.score = nn.Linear(memory_size, hidden_size, bias=False)
        above = layers - 1
        self.above = GRU(
            hidden_size + memory_size, hidden_size, above, batch_first=True, dropout=dropout if above > 1 else 0.0
        )
        self.dropout = dropout
        self.feature_size = hidden_size + memory_size

    def keys(self, memory: Tensor) -> Tensor:
        """What the attention compares its states with `[B, S, H]`."""
        keys: Tensor = self.score(memory)
        return keys

    def forward(self, x: Tensor, lengths: Tensor | None, state: Tensor, source: Source) -> tuple[Tensor, ...]:
        """As GRUDecoder.forward, with two layers or more."""
        assert source.keys is not None
        u, first = self.first(x, state[:1], lengths=lengths)
        context, weights = attend(u, source.keys, source.memory, source.padding)
        seen = noise.dropout(torch.cat([u, context], dim=2), self.dropout, self.training)
        y, above = self.above(seen, state[1:], lengths=lengths)
        return torch.cat([y, context], dim=2), torch.cat([first, above]), weights


class BahdanauDecoder(nn.Module):
    """The GRU takes the context that the state before it chose: one step after the other.

    h_t = GRU([e(y_{t-1}); c_t], h_{t-1});  features: tanh(V [h_t; e(y_{t-1}); c_t] + b)

    Source: Bahdanau et al. 2015, arXiv:1409.0473, appendix A.2.2, with tanh where they have maxout, and one layer.
    """

    def __init__(self, embedding_size: int, hidden_size: int, memory_size: int) -> None:
        super().__init__()
        self.attention = BahdanauAttention(memory_size, hidden_size)
        self.cell = GRUCell(embedding_size + memory_size, hidden_size)
        self.combine = nn.Linear(hidden_size + embedding_size + memory_size, hidden_size)
        self.feature_size = hidden_size

    def keys(self, memory: Tensor) -> Tensor:
        """What the attention compares its states with `[B, S, H]`."""
        return self.attention.keys(memory)

    def forward(self, x: Tensor, lengths: Tensor | None, state: Tensor, source: Source) -> tuple[Tensor, ...]:
        """As GRUDecoder.forward, with `state [1, B, H]`; steps beyond `lengths` are computed and mean nothing."""
        assert source.keys is not None
        h, steps, weights = state[0], [], []
        for x_t in x.unbind(1):
            context, a = self.attention(h, source.keys, source.memory, source.padding)
            h = self.cell(torch.cat([x_t, context], dim=1), h)
            steps.append(torch.cat([h, x_t, context], dim=1))
            weights.append(a)
        return self.combine(torch.stack(steps, 1)).tanh(), h[None], torch.stack(weights, 1)
