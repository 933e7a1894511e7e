"""TextGenerator: what turns source texts into target texts by beam search, be it one model or several."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgru.inference.batches import Ids, in_batches, pad_ids
from fastgru.inference.search import Scores, beam_search
from fastgru.inference.tokens import BEGIN_ID, END_ID, PAD_ID, encode_texts
from fastgru.inference.word_level import AnyTokenizer

Array = Any  # NumPy's or torch's
# Takes tokens [N], and which of the hypotheses before each came from [N]; gives the log-probabilities [N, V] of the
# next, which whoever called may write into.
Step = Callable[[Ids, Ids], Array]


@dataclass(frozen=True)
class GeneratedText:
    """What a model generated: the text, and the natural logarithm of its probability.

    >>> import math
    >>> from fastgru.models import GeneratedText
    >>> round(math.exp(GeneratedText("K AE T", score=-0.105).score), 2)
    0.9
    """

    text: str
    score: float


@dataclass(frozen=True)
class Alignment:
    """What the decoder looked at.

    `source [S]`: the tokens that it read, the end included; `target [T]`: those that it wrote, the end included.
    `weights [T, S]`: for each token that it wrote the attention to each that it read; a row sums to 1.

    >>> from fastgru.models import Alignment
    >>> found = Alignment(["a", "t", "[EOS]"], ["AE", "T"], [[0.8, 0.1, 0.1], [0.1, 0.7, 0.2]])
    >>> [found.source[row.index(max(row))] for row in found.weights]
    ['a', 't']
    """

    source: list[str]
    target: list[str]
    weights: list[list[float]]


class TextGenerator(ABC):
    """Generates text by beam search; a subclass says how a search begins, whatever it computes with.

    `source_tokenizer`, `target_tokenizer`: of what is read and of what is written.

    >>> from fastgru.models import Seq2Seq, Seq2SeqEnsemble, TextGenerator
    >>> issubclass(Seq2Seq, TextGenerator) and issubclass(Seq2SeqEnsemble, TextGenerator)
    True
    """

    source_tokenizer: AnyTokenizer
    target_tokenizer: AnyTokenizer

    @property
    @abstractmethod
    def attends(self) -> bool:
        """Whether there is attention, so that `align` has something to tell."""

    @abstractmethod
    def start(self, ids: Array, lengths: Array, beam: int) -> Step:
        """Read the sources `ids [B, S]`, `lengths [B]`, and give one step of the search.

        It is for N = B * beam hypotheses, those of one source side by side, and keeps their states.
        """

    @abstractmethod
    def likeliest(self, log_probabilities: Array, count: int) -> tuple[Scores, Ids]:
        """Give the `count` highest of each row of `[N, V]`, as NumPy's arrays, highest first, and where they stand."""

    @abstractmethod
    def align(self, source: str, target: str) -> Alignment:
        """Give what the decoder looks at while it writes `target`; without attention the weights are empty."""

    def answering(self) -> AbstractContextManager[Any]:
        """What has to be so while the model answers."""
        return nullcontext()

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each source, its end included; InputError for what is no text."""
        return encode_texts(self.source_tokenizer, texts)

    def target_tokens(self, text: str) -> list[str]:
        """Give the tokens of a target, without begin and end."""
        return self.target_tokenizer.encode(text, add_special_tokens=False).tokens

    def target_text(self, ids: list[int]) -> str:
        """Give the text of a target's token ids."""
        return str(self.target_tokenizer.decode(ids, skip_special_tokens=False))

    def predict(
        self,
        texts: Iterable[str],
        *,
        beam: int = 5,
        best: int = 1,
        max_length: int | None = None,
        batch_size: int = 256,
    ) -> list[list[GeneratedText]]:
        """Generate the `best` likeliest targets of each of `texts`, likeliest first, by beam search; in eval mode.

        `beam`: hypotheses that are kept a step; 1 is greedy search. `max_length`: tokens of a target with its end, by
        default twice as many as the longest source of a batch has, and 10.
        TypeError for a single string, ValueError for a number below 1 or `best` above `beam`, InputError for no text.
        """
        if isinstance(texts, str):
            raise TypeError("predict takes several texts: put this one into a list")
        if min(beam, best, batch_size, max_length or 1) < 1 or best > beam:
            raise ValueError(
                f"beam, best, max_length and batch_size must be at least 1 and best at most beam, got "
                f"{beam}, {best}, {max_length} and {batch_size}"
            )

        def answer(rows: list[list[int]]) -> list[list[GeneratedText]]:
            return self.generate(*pad_ids(rows), beam=beam, best=best, max_length=max_length)

        with self.answering():
            return in_batches(self.encode_sources(list(texts)), batch_size, answer)

    def generate(
        self, ids: Array, lengths: Array, *, beam: int, best: int, max_length: int | None = None
    ) -> list[list[GeneratedText]]:
        """Generate the targets of one batch of sources `ids [B, S]`, `lengths [B]`, as `predict` does."""
        go_on = self.start(ids, lengths, beam)

        def step(tokens: Ids, came_from: Ids) -> tuple[Scores, Ids]:
            log_probabilities = go_on(tokens, came_from)
            for never in (PAD_ID, BEGIN_ID):
                log_probabilities[:, never] = -np.inf
            return self.likeliest(log_probabilities, min(beam, log_probabilities.shape[1]))

        most = max_length or 2 * ids.shape[1] + 10
        found = beam_search(step, len(ids), BEGIN_ID, END_ID, beam=beam, wanted=best, max_length=most)
        return [[GeneratedText(self.target_text(one.tokens), one.score) for one in several] for several in found]
