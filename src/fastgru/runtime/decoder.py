"""The decoders of `fastgru.models.decoder`, step by step and without torch: their equations stand there.

Letters: B sources of S steps, K hypotheses of each, which are N = B * K rows side by side, so that a product is made
for all hypotheses of a source at once. M features of the memory, E of an embedding, F that the last layer sees.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastgru.inference.batches import Ids
from fastgru.inference.seq2seq_config import Seq2SeqConfig
from fastgru.runtime.functions import Linear, Vectors, Weights, softmax
from fastgru.runtime.gru import GRU, Stream

# Takes embeddings [N, E] of the tokens, and which hypotheses they go on with [N], where that is not each its own; gives
# the features [N, F], and the attention [B, K, S], without attention [B, K, 0].
Step = Callable[[Vectors, Ids | None], tuple[Vectors, Vectors]]


class Source(NamedTuple):
    """What a decoder looks at: `memory [B, S, M]`, and `floor [B, 1, S]`: 0, and -inf beyond a source's length."""

    memory: Vectors
    floor: Vectors


def _attend(states: Vectors, keys: Vectors, source: Source) -> tuple[Vectors, Vectors]:
    """The contexts `[N, M]` that states `[N, H]` see by dot products with keys `[B, H, S]`, and the weights."""
    scores = states.reshape(len(keys), -1, states.shape[1]) @ keys
    return _look(scores, source)


def _look(scores: Vectors, source: Source) -> tuple[Vectors, Vectors]:
    weights = softmax(scores + source.floor)  # [B, K, S]
    context = weights @ source.memory
    return context.reshape(-1, context.shape[2]), weights


def _begin(gru: GRU, state: Vectors, beam: int) -> Stream:
    stream = gru.stream(state.shape[1] * beam)
    stream.state = np.repeat(state, beam, 1)
    return stream


def _go_on(came_from: Ids | None, *streams: Stream) -> None:
    """Each hypothesis goes on from the state of the one that it came from."""
    for stream in streams if came_from is not None else ():
        stream.state = stream.state[:, came_from]


class GRUDecoder:
    """GRU, then Luong's attention, or none."""

    def __init__(self, config: Seq2SeqConfig, weights: Weights, threads: int) -> None:
        self.gru = GRU(weights, prefix="decoder.gru.", threads=threads)
        self.attends = config.attends
        if self.attends:
            self.score, self.combine = (Linear(weights, f"decoder.attention.{name}") for name in ("score", "combine"))

    def start(self, source: Source, state: Vectors, beam: int) -> Step:
        """Give a step of all hypotheses, which begin with their source's `state [L, B, H]`."""
        stream = _begin(self.gru, state, beam)
        keys = self.score(source.memory).swapaxes(1, 2) if self.attends else None
        nothing = np.zeros((state.shape[1], beam, 0), np.float32)

        def step(x: Vectors, came_from: Ids | None) -> tuple[Vectors, Vectors]:
            _go_on(came_from, stream)
            y = stream.step(x)
            if keys is None:
                return y, nothing
            context, attention = _attend(y, keys, source)
            return np.tanh(self.combine(np.concatenate([context, y], axis=1))), attention

        return step


class GNMTDecoder:
    """The first layer looks at the source, and the layers above it are told what it saw."""

    def __init__(self, config: Seq2SeqConfig, weights: Weights, threads: int) -> None:
        self.first, self.above = (
            GRU(weights, prefix=f"decoder.{name}.", threads=threads) for name in ("first", "above")
        )
        self.score = Linear(weights, "decoder.score")

    def start(self, source: Source, state: Vectors, beam: int) -> Step:
        """As GRUDecoder.start."""
        first, above = _begin(self.first, state[:1], beam), _begin(self.above, state[1:], beam)
        keys = self.score(source.memory).swapaxes(1, 2)

        def step(x: Vectors, came_from: Ids | None) -> tuple[Vectors, Vectors]:
            _go_on(came_from, first, above)
            u = first.step(x)
            context, attention = _attend(u, keys, source)
            y = above.step(np.concatenate([u, context], axis=1))
            return np.concatenate([y, context], axis=1), attention

        return step


class BahdanauDecoder:
    """The GRU takes the context that the state before it chose."""

    def __init__(self, config: Seq2SeqConfig, weights: Weights, threads: int) -> None:
        self.cell = GRU(weights, prefix="decoder.cell.", threads=threads)
        self.query, self.score, self.sum = (
            Linear(weights, f"decoder.attention.{name}") for name in ("query", "score", "sum")
        )
        self.combine = Linear(weights, "decoder.combine")

    def start(self, source: Source, state: Vectors, beam: int) -> Step:
        """As GRUDecoder.start."""
        stream = _begin(self.cell, state, beam)
        keys: Any = self.score(source.memory)[:, None]  # [B, 1, S, H]

        def step(x: Vectors, came_from: Ids | None) -> tuple[Vectors, Vectors]:
            _go_on(came_from, stream)
            query = self.query(stream.state[0]).reshape(len(keys), beam, 1, -1)
            context, attention = _look(self.sum(np.tanh(query + keys))[..., 0], source)
            h = stream.step(np.concatenate([x, context], axis=1))
            return np.tanh(self.combine(np.concatenate([h, x, context], axis=1))), attention

        return step


Decoder = GRUDecoder | GNMTDecoder | BahdanauDecoder


def decoder_of(config: Seq2SeqConfig, weights: Weights, threads: int) -> Decoder:
    """Make the decoder that the configuration names."""
    kinds: dict[str, type[Decoder]] = {"bahdanau": BahdanauDecoder, "gnmt": GNMTDecoder}
    return kinds.get(config.attention, GRUDecoder)(config, weights, threads)
