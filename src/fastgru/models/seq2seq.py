"""Seq2Seq: a GRU encoder and a GRU decoder with attention, which write one sequence of tokens from another."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fastgru.core.noise import dropout
from fastgru.inference.batches import Ids
from fastgru.inference.generation import Alignment, Array, Step
from fastgru.inference.seq2seq_config import SOURCE_TOKENIZER, TARGET_TOKENIZER, Seq2SeqConfig
from fastgru.inference.tokens import PAD_ID, encode_texts
from fastgru.models.decoder import BahdanauDecoder, GNMTDecoder, GRUDecoder, Source
from fastgru.models.generation import TorchTextGenerator
from fastgru.models.ngrams import set_ngrams, token_embedding
from fastgru.models.pretrained import Pretrained
from fastgru.models.tokens import pad_ids
from fastgru.nn import GRU

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL_CARD = """---
{{ card_data }}
---

A sequence-to-sequence model on GRUs, made with fastgru. Install `fastgru[train]`, then

    from fastgru.models import Seq2Seq

    model = Seq2Seq.from_pretrained("this folder, or its name on the Hub")
    model.predict(["a source"])
"""


class Seq2Seq(Pretrained, TorchTextGenerator, model_card_template=MODEL_CARD, library_name="fastgru"):
    """Writes one sequence of tokens from another: a GRU that reads, and one that writes, with attention.

        p(y | x) = product over t of softmax(W f_t + b),  f_t: the decoder's features after y_1 ... y_{t-1}

    `source_tokenizer`, `target_tokenizer`: as `fastgru.inference.tokens` trains them. The folder of a model holds both,
    config.json, model.safetensors and a model card.

    >>> from fastgru.models import Seq2Seq, Seq2SeqConfig
    >>> from fastgru.inference.tokens import source_tokenizer, target_tokenizer
    >>> letters, sounds = source_tokenizer("characters", "act", fold=True), target_tokenizer("words", ["AE", "K", "T"])
    >>> model = Seq2Seq(Seq2SeqConfig(source_size=6, target_size=7), letters, sounds)
    >>> (written,) = model.predict(["cat"], best=3)
    >>> len(written)
    3
    """

    config_type = Seq2SeqConfig
    source_tokenizer: "Tokenizer"
    target_tokenizer: "Tokenizer"

    def __init__(self, config: Seq2SeqConfig, source_tokenizer: "Tokenizer", target_tokenizer: "Tokenizer") -> None:
        super().__init__()
        self.config = config
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        memory_size = config.memory_size
        self.source_embedding = token_embedding(
            config.source_size,
            config.embedding_size,
            ngrams=config.ngrams,
            longest=config.longest_ngram,
            dropout=config.dropout,
        )
        self.target_embedding = nn.Embedding(config.target_size, config.embedding_size)
        self.encoder = GRU(
            config.embedding_size,
            config.encoder_size,
            config.encoder_layers,
            batch_first=True,
            bidirectional=config.bidirectional,
            dropout=config.dropout if config.encoder_layers > 1 else 0.0,
            variational=True,
        )
        self.bridge = None
        if config.bridge:
            states = config.encoder_layers * memory_size
            self.bridge = nn.Linear(states, config.decoder_layers * config.decoder_size)
        self.decoder: GRUDecoder | GNMTDecoder | BahdanauDecoder
        if config.attention == "bahdanau":
            self.decoder = BahdanauDecoder(config.embedding_size, config.decoder_size, memory_size)
        elif config.attention == "gnmt":
            self.decoder = GNMTDecoder(
                config.embedding_size, config.decoder_size, config.decoder_layers, memory_size, config.dropout
            )
        else:
            looked_at = memory_size if config.attention == "luong" else 0
            self.decoder = GRUDecoder(
                config.embedding_size, config.decoder_size, config.decoder_layers, looked_at, config.dropout
            )
        self.output = nn.Linear(self.decoder.feature_size, config.target_size)

    def forward(self, source_ids: Tensor, source_lengths: Tensor, target_ids: Tensor, target_lengths: Tensor) -> Tensor:
        """Give logits `[B, T, V]` of the token after each step of the target (teacher forcing).

        `source_ids [B, S]`, `target_ids [B, T] int64`: token ids; the target begins with `[BOS]`.
        `source_lengths [B]`, `target_lengths [B] int64`: tokens of each, at least 1; what stands beyond them changes
        nothing, and logits there mean nothing.
        """
        source, state = self.encode(source_ids, source_lengths)
        logits, _, _ = self.decode(target_ids, target_lengths, state, source)
        return logits

    def encode(self, ids: Tensor, lengths: Tensor) -> tuple[Source, Tensor]:
        """Read the sources: what the decoder looks at, and the state that it starts from `[L, B, H]`."""
        padding = torch.arange(ids.shape[1], device=ids.device) >= lengths[:, None]
        x = self.source_embedding(ids.masked_fill(padding, PAD_ID))
        memory, h_n = self.encoder(self._drop(x), lengths=lengths)
        memory = self._drop(memory)
        source = Source(memory, self.decoder.keys(memory), padding)
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
        return dropout(x, self.config.dropout, self.training)

    @property
    def attends(self) -> bool:
        """Whether the decoder looks at the source."""
        return bool(self.config.attends)

    def set_ngrams(self, codes: Tensor) -> None:
        """Tell which n-grams of the source have a vector: `codes [config.ngrams] int64`.

        `fastgru.models.ngrams.frequent_ngrams` gives them. ValueError for more or fewer.
        """
        set_ngrams(self.source_embedding, codes)

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each target, begin and end included; InputError for what is no text."""
        return encode_texts(self.target_tokenizer, texts)

    def start(self, ids: Array, lengths: Array, beam: int) -> Step:
        """Read the sources, and give one step of the search."""
        device = self.output.weight.device
        source, state = self.encode(torch.as_tensor(ids, device=device), torch.as_tensor(lengths, device=device))
        source, state = source.repeat(beam), state.repeat_interleave(beam, 1)

        def step(tokens: Ids, came_from: Ids) -> Tensor:
            nonlocal state
            read, before = torch.as_tensor(tokens, device=device), torch.as_tensor(came_from, device=device)
            logits, state, _ = self.decode(read[:, None], None, state[:, before], source)
            return logits[:, 0].log_softmax(1)

        return step

    def align(self, source: str, target: str) -> Alignment:
        """Give what the decoder looks at while it writes `target`; without attention the weights are empty."""
        read, written = self.source_tokenizer.encode(source), self.target_tokenizer.encode(target)
        device = self.output.weight.device
        with self.answering():
            ids, lengths = pad_ids([read.ids])
            encoded, state = self.encode(ids.to(device), lengths.to(device))
            _, _, weights = self.decode(torch.tensor([written.ids[:-1]], device=device), None, state, encoded)
        return Alignment(read.tokens, written.tokens[1:], weights[0].tolist())

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        self.source_tokenizer.save(str(save_directory / SOURCE_TOKENIZER))
        self.target_tokenizer.save(str(save_directory / TARGET_TOKENIZER))
