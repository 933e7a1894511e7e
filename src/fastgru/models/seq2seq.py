"""Seq2Seq: a GRU encoder and a GRU decoder with attention, which write one sequence of tokens from another."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastgru.models.decoder import BahdanauDecoder, GRUDecoder, Source
from fastgru.nn import GRU

ATTENTIONS = ("luong", "bahdanau", "none")


@dataclass(frozen=True)
class Seq2SeqConfig:
    """What a Seq2Seq is besides its weights.

    `source_size`, `target_size`: tokens in the two vocabularies.
    `embedding_size` E: of both. `encoder_size`: H of each direction of the encoder; `decoder_size`: H of the decoder.
    `encoder_layers`, `decoder_layers`, `bidirectional`: the GRUs' (Bahdanau's decoder has one layer).
    `attention`: "luong", "bahdanau" or "none".
    `bridge`: the decoder starts from tanh(W h_n + b), h_n being all final states of the encoder; without it, from the
    encoder's final states themselves, whose sizes must then be the decoder's.
    `dropout`: on embeddings, between layers, on the decoder's states before and after the attention.
    """

    source_size: int
    target_size: int
    embedding_size: int = 128
    encoder_size: int = 256
    encoder_layers: int = 1
    bidirectional: bool = True
    decoder_size: int = 512
    decoder_layers: int = 1
    attention: str = "luong"
    bridge: bool = True
    dropout: float = 0.2


class Seq2Seq(nn.Module):
    """p(y | x) = product over t of softmax(W f_t + b), f_t: the decoder's features after y_1 ... y_{t-1}."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        directions = 2 if config.bidirectional else 1
        memory_size = directions * config.encoder_size
        self.source_embedding = nn.Embedding(config.source_size, config.embedding_size)
        self.target_embedding = nn.Embedding(config.target_size, config.embedding_size)
        self.encoder = GRU(
            config.embedding_size,
            config.encoder_size,
            config.encoder_layers,
            batch_first=True,
            bidirectional=config.bidirectional,
            dropout=config.dropout if config.encoder_layers > 1 else 0.0,
        )
        self.bridge = None
        if config.bridge:
            states = config.encoder_layers * memory_size
            self.bridge = nn.Linear(states, config.decoder_layers * config.decoder_size)
        self.decoder: GRUDecoder | BahdanauDecoder
        if config.attention == "bahdanau":
            self.decoder = BahdanauDecoder(config.embedding_size, config.decoder_size, memory_size)
        else:
            looked_at = memory_size if config.attention == "luong" else 0
            self.decoder = GRUDecoder(
                config.embedding_size, config.decoder_size, config.decoder_layers, looked_at, config.dropout
            )
        self.output = nn.Linear(self.decoder.feature_size, config.target_size)

    def forward(self, source_ids: Tensor, source_lengths: Tensor, target_ids: Tensor, target_lengths: Tensor) -> Tensor:
        """Give logits `[B, T, V]` of the token after each step of the target (teacher forcing).

        `source_ids [B, S]`, `target_ids [B, T] int64`: token ids; the target begins with `[BOS]`. `source_lengths [B]`,
        `target_lengths [B] int64`: tokens of each; what stands beyond them changes nothing, and logits there mean nothing.
        """
        source, state = self.encode(source_ids, source_lengths)
        logits, _, _ = self.decode(target_ids, target_lengths, state, source)
        return logits

    def encode(self, ids: Tensor, lengths: Tensor) -> tuple[Source, Tensor]:
        """Read the sources: what the decoder looks at, and the state that it starts from `[L, B, H]`."""
        memory, h_n = self.encoder(self._drop(self.source_embedding(ids)), lengths=lengths)
        memory = self._drop(memory)
        past = torch.arange(ids.shape[1], device=ids.device) >= lengths[:, None]
        source = Source(memory, self.decoder.keys(memory), past)
        return source, h_n if self.bridge is None else self._bridge(h_n)

    def _bridge(self, h_n: Tensor) -> Tensor:
        assert self.bridge is not None
        states = self.bridge(h_n.transpose(0, 1).flatten(1)).tanh()
        return states.unflatten(1, (self.config.decoder_layers, -1)).transpose(0, 1).contiguous()  # type: ignore[no-any-return]

    def decode(
        self, ids: Tensor, lengths: Tensor | None, state: Tensor, source: Source
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give logits `[B, T, V]`, the state after each target `[L, B, H]` and the attention's weights `[B, T, S]`."""
        x = self._drop(self.target_embedding(ids))
        features, state, weights = self.decoder(x, lengths, state, source)
        return self.output(self._drop(features)), state, weights

    def _drop(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.config.dropout, self.training)
