"""Seq2Seq: a GRU encoder and a GRU decoder with attention, which write one sequence of tokens from another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from fastgru.core.noise import dropout
from fastgru.models.decoder import BahdanauDecoder, GNMTDecoder, GRUDecoder, Source
from fastgru.models.generation import END_ID, Alignment, TextGenerator
from fastgru.models.ngrams import NGramEmbedding
from fastgru.models.pretrained import CONFIG, WEIGHTS, Pretrained, load_tokenizer
from fastgru.models.search import Step
from fastgru.models.tokens import PAD_ID, encode_texts, pad_ids
from fastgru.nn import GRU

ATTENTIONS = ("luong", "gnmt", "bahdanau", "none")
SOURCE_TOKENIZER, TARGET_TOKENIZER = "source_tokenizer.json", "target_tokenizer.json"
FILES = (CONFIG, WEIGHTS, SOURCE_TOKENIZER, TARGET_TOKENIZER)

MODEL_CARD = """---
{{ card_data }}
---

A sequence-to-sequence model on GRUs, made with fastgru. Install `fastgru[train]`, then

    from fastgru.models import Seq2Seq

    model = Seq2Seq.from_pretrained("this folder, or its name on the Hub")
    model.predict(["a source"])
"""


@dataclass(frozen=True)
class Seq2SeqConfig:
    """What a Seq2Seq is besides its weights.

    `source_size`, `target_size`: tokens in the two vocabularies.
    `embedding_size` E: of both. `encoder_size`: H of each direction of the encoder; `decoder_size`: H of the decoder.
    `encoder_layers`, `decoder_layers`, `bidirectional`: the GRUs' (Bahdanau's decoder has one
    layer, GNMT's two or more).
    `attention`: "luong", "gnmt", "bahdanau" or "none" (`fastgru.models.decoder`).
    `bridge`: the decoder starts from tanh(W h_n + b), h_n being all final states of the encoder; without it, from the
    encoder's final states themselves, whose sizes must then be the decoder's.
    `ngrams`: how many n-grams of the source's tokens have a vector of E / 2 features, which is added to that of the
    token in their middle (`fastgru.models.ngrams`); `longest_ngram`: tokens in the longest of them, an odd number.
    `dropout`: on embeddings, n-grams, between layers, on the decoder's states before and after the attention.

    >>> from fastgru.models import Seq2SeqConfig
    >>> Seq2SeqConfig(source_size=30, target_size=43, attention="gnmt", decoder_layers=2).encoder_size
    256
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
    ngrams: int = 0
    longest_ngram: int = 5
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """ValueError for a configuration that no model can have."""
        for name in ("encoder_size", "decoder_size", "embedding_size", "encoder_layers", "decoder_layers"):
            _check_size(name, getattr(self, name), 1)
        _check_size("source_size", self.source_size, END_ID)
        _check_size("target_size", self.target_size, END_ID + 1)
        _check_size("ngrams", self.ngrams, 0)
        _check_size("longest_ngram", self.longest_ngram, 3)
        if self.longest_ngram % 2 == 0:
            raise ValueError(f"longest_ngram must be an odd number, got {self.longest_ngram}")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}, got {self.attention!r}")
        if not isinstance(self.dropout, float | int) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a number from 0 to 1, 1 excluded, got {self.dropout!r}")
        if not isinstance(self.bidirectional, bool) or not isinstance(self.bridge, bool):
            raise ValueError("bidirectional and bridge must be true or false")
        if self.attention == "bahdanau" and self.decoder_layers != 1:
            raise ValueError(f"a decoder with Bahdanau's attention has one layer, got {self.decoder_layers}")
        if self.attention == "gnmt" and self.decoder_layers < 2:
            raise ValueError(f"a decoder with GNMT's attention has two layers or more, got {self.decoder_layers}")
        states = (self.encoder_layers * (2 if self.bidirectional else 1), self.encoder_size)
        if not self.bridge and states != (self.decoder_layers, self.decoder_size):
            raise ValueError(
                f"without a bridge the decoder starts from the encoder's {states[0]} states of {states[1]} features, "
                f"got {self.decoder_layers} layers of {self.decoder_size}"
            )


def _check_size(name: str, size: object, least: int) -> None:
    if not isinstance(size, int) or size < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {size!r}")


def _source_embedding(config: Seq2SeqConfig) -> nn.Embedding:
    if not config.ngrams:
        return nn.Embedding(config.source_size, config.embedding_size)
    return NGramEmbedding(
        config.source_size,
        config.embedding_size,
        ngrams=config.ngrams,
        features=max(1, config.embedding_size // 2),
        longest=config.longest_ngram,
        dropout=config.dropout,
    )


class Seq2Seq(Pretrained, TextGenerator, model_card_template=MODEL_CARD, library_name="fastgru"):
    """p(y | x) = product over t of softmax(W f_t + b), f_t: the decoder's features after y_1 ... y_{t-1}.

    `source_tokenizer`, `target_tokenizer`: as `fastgru.models.tokens` trains them. The folder of a model holds both,
    config.json, model.safetensors and a model card.

    >>> from fastgru.models import Seq2Seq, Seq2SeqConfig
    >>> from fastgru.models.tokens import source_tokenizer, target_tokenizer
    >>> letters, sounds = source_tokenizer("characters", "act", fold=True), target_tokenizer("words", ["AE", "K", "T"])
    >>> model = Seq2Seq(Seq2SeqConfig(source_size=6, target_size=7), letters, sounds)
    >>> (written,) = model.predict(["cat"], best=3)
    >>> len(written)
    3
    """

    model_type = "seq2seq"
    own_files = (SOURCE_TOKENIZER, TARGET_TOKENIZER)

    def __init__(self, config: Seq2SeqConfig, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        directions = 2 if config.bidirectional else 1
        memory_size = directions * config.encoder_size
        self.source_embedding = _source_embedding(config)
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
        return bool(self.config.attention != "none")

    def set_ngrams(self, codes: Tensor) -> None:
        """Tell which n-grams of the source have a vector: `codes [config.ngrams] int64`.

        `fastgru.models.ngrams.frequent_ngrams` gives them. ValueError for more or fewer.
        """
        if codes.shape != (self.config.ngrams,):
            raise ValueError(f"expected the codes of {self.config.ngrams} n-grams, got {[*codes.shape]}")
        if isinstance(self.source_embedding, NGramEmbedding):
            self.source_embedding.ngram_codes.copy_(codes)

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each source, its end included; InputError for what is no text."""
        return encode_texts(self.source_tokenizer, texts)

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each target, begin and end included; InputError for what is no text."""
        return encode_texts(self.target_tokenizer, texts)

    def start(self, ids: Tensor, lengths: Tensor, beam: int) -> tuple[Step, Tensor]:
        """Read the sources, and give what a search begins with."""
        device = self.output.weight.device
        source, state = self.encode(ids.to(device), lengths.to(device))
        source = source.repeat(beam)

        def step(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            logits, after, _ = self.decode(tokens[:, None], None, state.transpose(0, 1).contiguous(), source)
            return logits[:, 0].log_softmax(1), after.transpose(0, 1)

        return step, state.transpose(0, 1).repeat_interleave(beam, 0)

    def align(self, source: str, target: str) -> Alignment:
        """Give what the decoder looks at while it writes `target`; without attention the weights are empty."""
        read, written = self.source_tokenizer.encode(source), self.target_tokenizer.encode(target)
        device = self.output.weight.device
        with self.in_eval_mode(), torch.inference_mode():
            ids, lengths = pad_ids([read.ids])
            encoded, state = self.encode(ids.to(device), lengths.to(device))
            _, _, weights = self.decode(torch.tensor([written.ids[:-1]], device=device), None, state, encoded)
        return Alignment(read.tokens, written.tokens[1:], weights[0].tolist())

    def target_tokens(self, text: str) -> list[str]:
        """Give the tokens of a target, without begin and end."""
        return self.target_tokenizer.encode(text, add_special_tokens=False).tokens

    def target_text(self, ids: list[int]) -> str:
        """Give the text of a target's token ids."""
        return str(self.target_tokenizer.decode(ids, skip_special_tokens=False))

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        self.source_tokenizer.save(str(save_directory / SOURCE_TOKENIZER))
        self.target_tokenizer.save(str(save_directory / TARGET_TOKENIZER))

    @classmethod
    def _build(cls, config: Seq2SeqConfig, paths: dict[str, str]) -> Self:
        source = load_tokenizer(paths[SOURCE_TOKENIZER], config.source_size)
        target = load_tokenizer(paths[TARGET_TOKENIZER], config.target_size)
        return cls(config, source, target)
