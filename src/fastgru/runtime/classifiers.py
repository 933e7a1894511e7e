"""TextClassifier and SequenceClassifier of `fastgru.models`, without torch."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastgru.inference.batches import Ids, as_vectors, in_batches, pad_ids, pad_vectors
from fastgru.inference.classifier_config import SequenceClassifierConfig, TextClassifierConfig
from fastgru.inference.prediction import Prediction, other_answers, predictions
from fastgru.inference.problem import SINGLE
from fastgru.inference.tokens import encode_texts
from fastgru.inference.word_level import AnyTokenizer
from fastgru.runtime.embedding import Embedding
from fastgru.runtime.functions import Linear, Vectors, Weights, softmax
from fastgru.runtime.gru import GRU


class _Head:
    """GRU, pooled states, linear: what both classifiers end with."""

    def __init__(self, config: TextClassifierConfig | SequenceClassifierConfig, weights: Weights, threads: int) -> None:
        self.config, self.pooling = config, config.pooling
        self.gru = GRU(weights, prefix="gru.", batch_first=True, threads=threads)
        self.classify = Linear(weights, "classify")
        if "attention" in self.pooling:
            self.attend, self.score = (Linear(weights, f"pooling.attend.{part}") for part in (0, 2))

    def predict(self, x: Vectors, lengths: Ids, threshold: float | None = None) -> list[Any]:
        """Classify sequences `x [B, T, I]` of `lengths [B]`; `threshold`: of `predictions`."""
        y, h_n = self.gru(x, lengths=lengths)
        padding = np.arange(y.shape[1]) >= lengths[:, None]  # [B, T]
        features = [self._pool(name, y, h_n, lengths, padding) for name in self.pooling]
        return self.answers(self.classify(np.concatenate(features, axis=1)), threshold)

    def answers(self, logits: Vectors, threshold: float | None = None) -> list[Any]:
        """Give what logits `[B, C]` say: Predictions, or what the model's problem_type has in their place."""
        if self.config.problem_type != SINGLE:
            return other_answers(self.config, logits.tolist())
        return predictions(self.config.labels, softmax(logits).tolist(), threshold)

    def _pool(self, name: str, y: Vectors, h_n: Vectors, lengths: Ids, padding: Any) -> Any:
        """Features `[B, F]`, as `fastgru.models.pooling.Pooling` has them."""
        if name == "last":
            return h_n[-2 if self.gru.bidirectional else -1 :].swapaxes(0, 1).reshape(len(y), -1)
        if name == "max":
            return np.where(padding[:, :, None], -np.inf, y).max(1).astype(y.dtype)
        if name == "mean":
            return y.sum(1) / lengths[:, None].astype(y.dtype)
        attended = self.attend(y)
        scores = self.score(np.tanh(attended, out=attended))[:, :, 0]
        scores[padding] = -np.inf
        return (softmax(scores)[:, None] @ y)[:, 0]


class TextClassifier:
    """Tells which label a text has, as `fastgru.models.TextClassifier` does. `fastgru.runtime.load` makes one.

    >>> from fastgru import runtime
    >>> from fastgru.data.tokenizer import train_tokenizer
    >>> from fastgru.models import TextClassifier, TextClassifierConfig
    >>> tokenizer = train_tokenizer(["a fine film", "a dull film"], min_count=1)
    >>> config = TextClassifierConfig(["bad", "good"], tokenizer.get_vocab_size())
    >>> TextClassifier(config, tokenizer).save_pretrained("mail")
    >>> (found,) = runtime.load("mail").predict(["a fine story"])
    >>> list(found.probabilities)
    ['bad', 'good']
    """

    def __init__(
        self, config: TextClassifierConfig, tokenizer: AnyTokenizer, weights: Weights, threads: int = 1
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.embedding = Embedding(weights, "embedding", config.longest_ngram)
        self._head = _Head(config, weights, threads)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each text; `[UNK]` alone for a text without a token. InputError for what is no text."""
        return encode_texts(self.tokenizer, texts)

    def predict(self, texts: Iterable[str], *, batch_size: int = 256) -> list[Prediction]:
        """Classify `texts`.

        TypeError for a single string in place of several, ValueError for a batch_size below 1, InputError for what
        is no text.
        """
        if isinstance(texts, str):
            raise TypeError("predict takes several texts: put this one into a list")

        def answer(rows: list[list[int]]) -> list[Prediction]:
            ids, lengths = pad_ids(rows)
            return self._head.predict(self.embedding(ids), lengths, self.config.threshold)

        return in_batches(self.encode(list(texts)), batch_size, answer)


class SequenceClassifier:
    """Tells which label a sequence of vectors has, as `fastgru.models.SequenceClassifier` does.

    `fastgru.runtime.load` makes one.

    >>> import numpy
    >>> from fastgru import runtime
    >>> from fastgru.models import SequenceClassifier, SequenceClassifierConfig
    >>> SequenceClassifier(SequenceClassifierConfig(["down", "up"], input_size=3)).save_pretrained("moves")
    >>> (found,) = runtime.load("moves").predict([numpy.zeros((20, 3))])
    >>> list(found.probabilities)
    ['down', 'up']
    """

    def __init__(self, config: SequenceClassifierConfig, weights: Weights, threads: int = 1) -> None:
        self.config = config
        self.mean, self.deviation = weights["mean"], weights["deviation"]
        self._head = _Head(config, weights, threads)

    def predict(self, sequences: Iterable[Any], *, batch_size: int = 256) -> list[Prediction]:
        """Classify `sequences`, arrays [T, I].

        ValueError for a batch_size below 1, InputError for what is no sequence of I finite numbers a step.
        """

        def answer(rows: list[Vectors]) -> list[Prediction]:
            x, lengths = pad_vectors(rows)
            return self._head.predict(self._standardise(x), lengths)

        rows = [self._row(sequence, number) for number, sequence in enumerate(sequences, start=1)]
        return in_batches(rows, batch_size, answer)

    def predict_parts(self, parts: Iterable[Any]) -> Iterator[Prediction]:
        """Classify one sequence that comes in parts, each [t, I]: after every part, what `predict` says of all so far.

        The state goes from part to part; nothing is kept of the parts, however long the sequence.
        ValueError for a model that reads from both ends or pools by attention, InputError as in `predict`.
        """
        if self.config.bidirectional or "attention" in self.config.pooling:
            raise ValueError("a sequence in parts needs a model with bidirectional=False, without pooling by attention")
        head, state, count = self._head, None, 0
        highest = np.full(self.config.hidden_size, -np.inf, np.float32)
        total = np.zeros_like(highest)
        for number, part in enumerate(parts, start=1):
            y, state = head.gru(self._standardise(self._row(part, number)), state)  # [t, H], [L, H]
            total, count, highest = total + y.sum(0), count + len(y), np.maximum(highest, y.max(0))
            pooled = {"last": state[-1], "max": highest, "mean": total / np.float32(count)}
            logits = head.classify(np.concatenate([pooled[name] for name in self.config.pooling]))
            yield from head.answers(logits[None])

    def _row(self, sequence: Any, number: int) -> Vectors:
        return as_vectors(sequence, number, self.config.input_size)

    def _standardise(self, x: Vectors) -> Vectors:
        return (x - self.mean) / self.deviation
