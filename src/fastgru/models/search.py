"""Beam search: the likeliest sequences that a model writes, for a whole batch at once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastgru.models.tokens import PAD_ID

# Takes tokens [N] and the state [N, ...] before them; gives log-probabilities [N, V] of the next, and the state after.
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Hypothesis:
    """A sequence that was written: its tokens without begin and end, and its log-probability with the end."""

    tokens: list[int]
    score: float


def beam_search(
    step: Step, state: Tensor, begin: int, end: int, *, beam: int, wanted: int, max_length: int
) -> list[list[Hypothesis]]:
    """Find for each of the B sequences the `wanted` likeliest outputs, best first; `beam` 1 is greedy search.

    `step`: one step of the model, for N = B * beam hypotheses, those of one sequence side by side.
    `state [N, ...]`: before the first step. `begin`, `end`: token ids; 0 is the padding.
    `max_length`: tokens of an output, its end included; one that has not ended by then is cut.

    A hypothesis that has ended stays in the beam with its score. The search ends when the `wanted` best of each
    sequence have: scores only fall, so no other can pass them. Fewer are given where there are no more.
    """
    rows = state.shape[0]
    batch = rows // beam
    scores = torch.full((batch, beam), float("-inf"), device=state.device)
    scores[:, 0] = 0  # all hypotheses are equal at first: one of them counts
    tokens = torch.full((rows,), begin, device=state.device)
    written = torch.empty(rows, 0, dtype=torch.int64, device=state.device)
    ended = torch.zeros(rows, dtype=torch.bool, device=state.device)
    first = torch.arange(0, rows, beam, device=state.device)[:, None]
    for _ in range(max_length):
        log_probabilities, state = step(tokens, state)
        log_probabilities[:, [PAD_ID, begin]] = float("-inf")
        log_probabilities[ended] = float("-inf")
        log_probabilities[ended, PAD_ID] = 0  # an ended hypothesis goes on with padding, at no cost
        size = log_probabilities.shape[1]
        candidates = (scores.view(-1, 1) + log_probabilities).view(batch, beam * size)
        scores, best = candidates.topk(beam, dim=1)
        came_from = (first + best // size).view(-1)
        tokens = (best % size).view(-1)
        written = torch.cat([written[came_from], tokens[:, None]], dim=1)
        state = state[came_from]
        ended = ended[came_from] | (tokens == end)
        if ended.view(batch, beam)[:, :wanted].all():
            break
    return [
        [
            Hypothesis(_before(end, row), score)
            for row, score in zip(rows[:wanted], best[:wanted], strict=True)
            if score > float("-inf")
        ]
        for rows, best in zip(written.view(batch, beam, -1).tolist(), scores.tolist(), strict=True)
    ]


def _before(end: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
