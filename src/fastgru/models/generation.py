"""TextGenerator: what turns source texts into target texts by beam search, be it one model or several."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from fastgru.models.search import Step, beam_search
from fastgru.models.tokens import pad_ids

BEGIN_ID, END_ID = 2, 3  # of the target


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
    """Generates text by beam search; a subclass says how a search begins, and how texts become tokens and come back.

    >>> from fastgru.models import Seq2Seq, Seq2SeqEnsemble, TextGenerator
    >>> issubclass(Seq2Seq, TextGenerator) and issubclass(Seq2SeqEnsemble, TextGenerator)
    True
    """

    @property
    @abstractmethod
    def attends(self) -> bool:
        """Whether there is attention, so that `align` has something to tell."""

    @abstractmethod
    def start(self, ids: Tensor, lengths: Tensor, beam: int) -> tuple[Step, Tensor]:
        """Read the sources `ids [B, S]`, `lengths [B]`: one step of the search, and the state before the first.

        Both are for N = B * beam hypotheses, those of one source side by side: as `beam_search` takes them.
        """

    @abstractmethod
    def align(self, source: str, target: str) -> Alignment:
        """Give what the decoder looks at while it writes `target`; without attention the weights are empty."""

    @abstractmethod
    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each source, its end included; InputError for what is no text."""

    @abstractmethod
    def target_tokens(self, text: str) -> list[str]:
        """Give the tokens of a target, without begin and end."""

    @abstractmethod
    def target_text(self, ids: list[int]) -> str:
        """Give the text of a target's token ids."""

    @abstractmethod
    def in_eval_mode(self) -> AbstractContextManager[None]:
        """Keep all in eval mode in here; afterwards each part is as it was."""

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
        rows = self.encode_sources(list(texts))
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        found: dict[int, list[GeneratedText]] = {}
        with self.in_eval_mode(), torch.inference_mode():
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                padded = pad_ids([rows[row] for row in batch])
                written = self.generate(*padded, beam=beam, best=best, max_length=max_length)
                found |= dict(zip(batch, written, strict=True))
        return [found[row] for row in range(len(rows))]

    def generate(
        self, ids: Tensor, lengths: Tensor, *, beam: int, best: int, max_length: int | None = None
    ) -> list[list[GeneratedText]]:
        """Generate the targets of one batch of sources `ids [B, S]`, `lengths [B]`, as `predict` does."""
        step, state = self.start(ids, lengths, beam)
        most = max_length or 2 * ids.shape[1] + 10
        found = beam_search(step, state, BEGIN_ID, END_ID, beam=beam, wanted=best, max_length=most)
        return [[GeneratedText(self.target_text(one.tokens), one.score) for one in several] for several in found]
