"""Attention: which steps of the source a decoder looks at, by Luong's and by Bahdanau's equations.

Letters: B sequences, S steps of the source, T of the target, M features of the memory (the encoder's outputs), H of the
decoder. `padding [B, S] bool` is true where a source has ended; such steps get weight 0.
"""

import torch
from torch import Tensor, nn


def attend(states: Tensor, keys: Tensor, memory: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """What each state sees, by dot products: the contexts c `[B, T, M]` and the weights a `[B, T, S]`.

    a_t = softmax over s of h_t' k_s,  c_t = sum over s of a_ts m_s

    `states [B, T, H]`, `keys [B, S, H]`, `memory [B, S, M]`, `padding [B, S]`.
    """
    scores = torch.bmm(states, keys.transpose(1, 2))
    weights = scores.masked_fill(padding[:, None], float("-inf")).softmax(2)
    return torch.bmm(weights, memory), weights


class LuongAttention(nn.Module):
    """Global attention with the general score, for all steps of the target at once.

    score(h_t, s) = h_t' W m_s,  a_t = softmax over s,  c_t = sum over s of a_ts m_s,  h~_t = tanh(V [c_t; h_t] + b)

    Source: Luong et al. 2015, arXiv:1508.04025, eq. 5, 7 and 8, without input feeding: the states h do not depend on
    the attention, so the decoder's GRU runs over the whole target before it.
    """

    def __init__(self, memory_size: int, hidden_size: int) -> None:
        super().__init__()
        self.score = nn.Linear(memory_size, hidden_size, bias=False)
        self.combine = nn.Linear(memory_size + hidden_size, hidden_size)

    def forward(self, states: Tensor, keys: Tensor, memory: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Give the attentional states h~ `[B, T, H]` and the weights a `[B, T, S]`.

        `states [B, T, H]`, `keys [B, S, H]` (what `keys` gives), `memory [B, S, M]`, `padding [B, S]`.
        """
        context, weights = attend(states, keys, memory, padding)
        return self.combine(torch.cat([context, states], dim=2)).tanh(), weights

    def keys(self, memory: Tensor) -> Tensor:
        """W m for every step of the source `[B, S, H]`."""
        keys: Tensor = self.score(memory)
        return keys


class BahdanauAttention(nn.Module):
    """Additive attention, for one step of the target.

    score(h_{t-1}, s) = v' tanh(W h_{t-1} + U m_s),  a_t = softmax over s,  c_t = sum over s of a_ts m_s

    Source: Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2. Here W has a bias.
    """

    def __init__(self, memory_size: int, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(memory_size, hidden_size, bias=False)
        self.sum = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, state: Tensor, keys: Tensor, memory: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Give the context c_t `[B, M]` and the weights a_t `[B, S]`.

        `state [B, H]`, `keys [B, S, H]` (what `keys` gives), `memory [B, S, M]`, `padding [B, S]`.
        """
        scores = self.sum((self.query(state)[:, None] + keys).tanh())[:, :, 0]
        weights = scores.masked_fill(padding, float("-inf")).softmax(1)
        return torch.bmm(weights[:, None], memory)[:, 0], weights

    def keys(self, memory: Tensor) -> Tensor:
        """U m for every step of the source `[B, S, H]`."""
        keys: Tensor = self.score(memory)
        return keys
