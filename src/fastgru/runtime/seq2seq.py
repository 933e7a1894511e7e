"""Seq2Seq and Seq2SeqEnsemble of `fastgru.models`, without torch."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from fastgru.inference.batches import Ids, pad_ids
from fastgru.inference.ensemble import Ensemble, check_together
from fastgru.inference.generation import Alignment, Step, TextGenerator
from fastgru.inference.seq2seq_config import Seq2SeqConfig
from fastgru.inference.tokens import encode_texts
from fastgru.inference.word_level import AnyTokenizer
from fastgru.runtime.decoder import Source, decoder_of
from fastgru.runtime.embedding import Embedding
from fastgru.runtime.functions import Linear, Vectors, Weights, log_softmax
from fastgru.runtime.gru import GRU


class _Generator(TextGenerator):
    """How the search asks models of NumPy."""

    def likeliest(self, log_probabilities: Vectors, count: int) -> tuple[Vectors, Ids]:
        """Give the `count` highest of each row, and where they stand."""
        rows = np.arange(len(log_probabilities))[:, None]
        if count == 1:
            ids = log_probabilities.argmax(1)[:, None]
            return log_probabilities[rows, ids], ids
        ids = np.argpartition(log_probabilities, -count, axis=1)[:, -count:]
        values = log_probabilities[rows, ids]
        order = np.argsort(-values, axis=1, kind="stable")
        return values[rows, order], ids[rows, order]


class Seq2Seq(_Generator):
    """Writes one sequence of tokens from another, as `fastgru.models.Seq2Seq` does. `fastgru.runtime.load` makes one.

    >>> from fastgru import runtime
    >>> from fastgru.inference.tokens import source_tokenizer, target_tokenizer
    >>> from fastgru.models import Seq2Seq, Seq2SeqConfig
    >>> letters, sounds = source_tokenizer("characters", "act", fold=True), target_tokenizer("words", ["AE", "K", "T"])
    >>> Seq2Seq(Seq2SeqConfig(source_size=6, target_size=7), letters, sounds).save_pretrained("words")
    >>> (written,) = runtime.load("words").predict(["cat"], best=3)
    >>> len(written)
    3
    """

    def __init__(
        self,
        config: Seq2SeqConfig,
        source_tokenizer: AnyTokenizer,
        target_tokenizer: AnyTokenizer,
        weights: Weights,
        threads: int = 1,
    ) -> None:
        self.config = config
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer
        self.source_embedding = Embedding(weights, "source_embedding", config.longest_ngram)
        self.target_embedding = weights["target_embedding.weight"]
        self.encoder = GRU(weights, prefix="encoder.", batch_first=True, threads=threads)
        self.bridge = Linear(weights, "bridge") if config.bridge else None
        self.decoder = decoder_of(config, weights, threads)
        self.output = Linear(weights, "output")

    @property
    def attends(self) -> bool:
        """Whether the decoder looks at the source."""
        return self.config.attends

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each target, begin and end included; InputError for what is no text."""
        return encode_texts(self.target_tokenizer, texts)

    def start(self, ids: Ids, lengths: Ids, beam: int) -> Step:
        """Read the sources, and give one step of the search."""
        step = self.decoder.start(*self._encode(ids, lengths), beam)

        def go_on(tokens: Ids, came_from: Ids) -> Vectors:
            features, _ = step(self.target_embedding[tokens], came_from if beam > 1 else None)
            return log_softmax(self.output(features))

        return go_on

    def align(self, source: str, target: str) -> Alignment:
        """Give what the decoder looks at while it writes `target`; without attention the weights are empty."""
        read, written = self.source_tokenizer.encode(source), self.target_tokenizer.encode(target)
        step = self.decoder.start(*self._encode(*pad_ids([read.ids])), 1)
        weights = [step(self.target_embedding[[token]], None)[1][0, 0].tolist() for token in written.ids[:-1]]
        return Alignment(read.tokens, written.tokens[1:], weights)

    def _encode(self, ids: Ids, lengths: Ids) -> tuple[Source, Vectors]:
        """What the decoder looks at, and the state that it starts from `[L, B, H]`."""
        memory, h_n = self.encoder(self.source_embedding(ids), lengths=lengths)
        beyond = np.arange(ids.shape[1]) >= lengths[:, None]
        source = Source(memory, np.where(beyond, -np.inf, 0).astype(np.float32)[:, None])
        if self.bridge is None:
            return source, h_n
        states = np.tanh(self.bridge(h_n.swapaxes(0, 1).reshape(len(ids), -1)))
        return source, states.reshape(len(ids), self.config.decoder_layers, -1).swapaxes(0, 1)


class Seq2SeqEnsemble(_Generator, Ensemble):
    """Several models that write together, as `fastgru.models.Seq2SeqEnsemble`; `models` have the same tokenizers.

    ValueError where there is none, or one has other tokens.

    >>> from fastgru import runtime
    >>> from fastgru.inference.tokens import source_tokenizer, target_tokenizer
    >>> from fastgru.models import Seq2Seq, Seq2SeqConfig
    >>> tokens = source_tokenizer("characters", "act", fold=True), target_tokenizer("words", ["AE", "K", "T"])
    >>> for size in (16, 32):
    ...     Seq2Seq(Seq2SeqConfig(6, 7, encoder_size=size), *tokens).save_pretrained(f"words{size}")
    >>> ensemble = runtime.models.Seq2SeqEnsemble([runtime.load("words16"), runtime.load("words32")])
    >>> len(ensemble.predict(["cat"], best=3)[0])
    3
    """

    def __init__(self, models: Sequence[Seq2Seq]) -> None:
        self.models = check_together(models)
        self.source_tokenizer, self.target_tokenizer = models[0].source_tokenizer, models[0].target_tokenizer

    def __iter__(self) -> Iterator[Seq2Seq]:
        """Give one model after the other."""
        return iter(self.models)

    @property
    def config(self) -> tuple[Seq2SeqConfig, ...]:
        """The models' configurations."""
        return tuple(model.config for model in self)

    def mean(self, log_probabilities: list[Vectors]) -> Vectors:
        """Give the logarithm `[N, V]` of the mean of probabilities, of which these are the logarithms."""
        return np.logaddexp.reduce(log_probabilities, axis=0) - np.float32(math.log(len(log_probabilities)))  # type: ignore[no-any-return]
