"""Beam search: the likeliest sequences that a model writes, for a whole batch at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgru.inference.tokens import PAD_ID

Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[Any]

# Takes the tokens [N] that the hypotheses end in, and which of those before each came from [N]; gives the K likeliest
# tokens of each to go on with: their log-probabilities [N, K] and ids [N, K]. The model's state is its own affair.
Step = Callable[[Ids, Ids], tuple[Scores, Ids]]


@dataclass(frozen=True)
class Hypothesis:
    """A sequence that was written: its tokens without begin and end, and its log-probability with the end."""

    tokens: list[int]
    score: float


def beam_search(
    step: Step, batch: int, begin: int, end: int, *, beam: int, wanted: int, max_length: int
) -> list[list[Hypothesis]]:
    """Find for each of `batch` B sequences the `wanted` likeliest outputs, best first; `beam` 1 is greedy search.

    `step`: one step of the model, for N = B * beam hypotheses, those of one sequence side by side. It gives each one's
    `beam` likeliest tokens, or all that there are: no other can be among the `beam` likeliest of all.
    `begin`, `end`: token ids; 0 is the padding.
    `max_length`: tokens of an output, its end included; one that has not ended by then is cut.

    A hypothesis that has ended stays in the beam with its score. The search ends when the `wanted` best of each
    sequence have: scores only fall, so no other can pass them. Fewer are given where there are no more.
    """
    scores: Scores = np.full((batch, beam), -np.inf, np.float32)
    scores[:, 0] = 0  # all hypotheses are equal at first: one of them counts
    tokens, came_from = np.full(batch * beam, begin, np.int64), np.arange(batch * beam)
    written, ended = np.empty((batch * beam, 0), np.int64), np.zeros(batch * beam, bool)
    first, rows = came_from[::beam, None], np.arange(batch)[:, None]
    for _ in range(max_length):
        likely, ids = _stay(*step(tokens, came_from), ended)
        if beam == 1:  # nothing to choose among, which would take half of a short word's time
            scores, tokens = scores + likely, ids[:, 0]
            written = np.concatenate([written, ids], axis=1)
            ended = ended | (tokens == end)
        else:
            candidates = (scores.reshape(-1, 1) + likely).reshape(batch, -1)
            best = np.argsort(-candidates, axis=1, kind="stable")[:, :beam]
            scores = candidates[rows, best]
            came_from = (first + best // likely.shape[1]).ravel()
            tokens = ids.reshape(batch, -1)[rows, best].ravel()
            written = np.concatenate([written[came_from], tokens[:, None]], axis=1)
            ended = ended[came_from] | (tokens == end)
        if ended.reshape(batch, beam)[:, :wanted].all():
            break
    return [
        [
            Hypothesis(_before(end, row), score)
            for row, score in zip(rows[:wanted], best_scores[:wanted], strict=True)
            if score > -np.inf
        ]
        for rows, best_scores in zip(written.reshape(batch, beam, -1).tolist(), scores.tolist(), strict=True)
    ]


def _stay(likely: Scores, ids: Ids, ended: npt.NDArray[np.bool_]) -> tuple[Scores, Ids]:
    """A hypothesis that has ended goes on with padding, at no cost."""
    if ended.any():
        likely, ids = likely.copy(), ids.copy()
        likely[ended], ids[ended] = -np.inf, PAD_ID
        likely[ended, 0] = 0
    return likely, ids


def _before(end: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
