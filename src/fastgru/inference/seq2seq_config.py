"""What a sequence-to-sequence model is besides its weights: Seq2SeqConfig."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from fastgru.inference.classifier_config import check_ngrams, check_size
from fastgru.inference.entries import Entry, cell_entries, gru_entries, linear_entries, ngram_entries
from fastgru.inference.tokens import END_ID

SOURCE_TOKENIZER, TARGET_TOKENIZER = "source_tokenizer.json", "target_tokenizer.json"
ATTENTIONS = ("luong", "gnmt", "bahdanau", "none")


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

    model_type = "seq2seq"
    own_files = (SOURCE_TOKENIZER, TARGET_TOKENIZER)

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
            check_size(name, getattr(self, name), 1)
        check_size("source_size", self.source_size, END_ID)
        check_size("target_size", self.target_size, END_ID + 1)
        check_ngrams(self.ngrams, self.longest_ngram)
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}, got {self.attention!r}")
        if not isinstance(self.dropout, float | int) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a number from 0 to 1, 1 excluded, got {self.dropout!r}")
        if not isinstance(self.bidirectional, bool) or not isinstance(self.bridge, bool):
            raise ValueError("bidirectional and bridge must be true or false")
        self._check_decoder()

    def _check_decoder(self) -> None:
        if self.attention == "bahdanau" and self.decoder_layers != 1:
            raise ValueError(f"a decoder with Bahdanau's attention has one layer, got {self.decoder_layers}")
        if self.attention == "gnmt" and self.decoder_layers < 2:
            raise ValueError(f"a decoder with GNMT's attention has two layers or more, got {self.decoder_layers}")
        states = (self.encoder_layers * self.directions, self.encoder_size)
        if not self.bridge and states != (self.decoder_layers, self.decoder_size):
            raise ValueError(
                f"without a bridge the decoder starts from the encoder's {states[0]} states of {states[1]} features, "
                f"got {self.decoder_layers} layers of {self.decoder_size}"
            )

    @property
    def vocabularies(self) -> tuple[int, ...]:
        """The sizes of the vocabularies, in the order of `own_files`."""
        return (self.source_size, self.target_size)

    @property
    def directions(self) -> int:
        """Of the encoder."""
        return 2 if self.bidirectional else 1

    @property
    def memory_size(self) -> int:
        """Features of the encoder's outputs."""
        return self.directions * self.encoder_size

    @property
    def attends(self) -> bool:
        """Whether the decoder looks at the source."""
        return self.attention != "none"

    def entries(self) -> Iterator[Entry]:
        """The weights of such a model."""
        yield Entry("source_embedding.weight", (self.source_size, self.embedding_size))
        yield from ngram_entries("source_embedding", self.ngrams, self.embedding_size)
        yield Entry("target_embedding.weight", (self.target_size, self.embedding_size))
        yield from gru_entries("encoder", self.embedding_size, self.encoder_size, self.encoder_layers, self.directions)
        if self.bridge:
            states = self.encoder_layers * self.memory_size
            yield from linear_entries("bridge", states, self.decoder_layers * self.decoder_size)
        features = yield from self._decoder_entries()
        yield from linear_entries("output", features, self.target_size)

    def _decoder_entries(self) -> Generator[Entry, None, int]:
        """The decoder's weights; returns how many features it gives the last layer."""
        embedding, memory, size = self.embedding_size, self.memory_size, self.decoder_size
        if self.attention == "bahdanau":
            yield from linear_entries("decoder.attention.query", size, size)
            yield from linear_entries("decoder.attention.score", memory, size, bias=False)
            yield from linear_entries("decoder.attention.sum", size, 1, bias=False)
            yield from cell_entries("decoder.cell", embedding + memory, size)
            yield from linear_entries("decoder.combine", size + embedding + memory, size)
            return size
        if self.attention == "gnmt":
            yield from gru_entries("decoder.first", embedding, size)
            yield from linear_entries("decoder.score", memory, size, bias=False)
            yield from gru_entries("decoder.above", size + memory, size, self.decoder_layers - 1)
            return size + memory
        yield from gru_entries("decoder.gru", embedding, size, self.decoder_layers)
        if self.attention == "luong":
            yield from linear_entries("decoder.attention.score", memory, size, bias=False)
            yield from linear_entries("decoder.attention.combine", memory + size, size)
        return size
