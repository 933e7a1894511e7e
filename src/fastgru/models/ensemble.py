"""Seq2SeqEnsemble: several sequence-to-sequence models that write together."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn

from fastgru.common.eval_mode import eval_mode
from fastgru.models.generation import Alignment, TextGenerator
from fastgru.models.search import Step
from fastgru.models.seq2seq import Seq2Seq, Seq2SeqConfig


class Seq2SeqEnsemble(nn.Module, TextGenerator):
    """p(y_t | y_1 ... y_{t-1}, x) = mean over the models of theirs: fewer errors than any of them makes alone.

    `models`: those that write, with the same tokenizers, as trainings on the same data with other seeds have them;
    sizes and attention may differ. ValueError where there is none, or one has other tokens.

    >>> from fastgru.models import Seq2Seq, Seq2SeqConfig, Seq2SeqEnsemble
    >>> from fastgru.models.tokens import source_tokenizer, target_tokenizer
    >>> tokens = source_tokenizer("characters", "act", fold=True), target_tokenizer("words", ["AE", "K", "T"])
    >>> models = [Seq2Seq(Seq2SeqConfig(6, 7, encoder_size=size), *tokens) for size in (16, 32)]
    >>> (written,) = Seq2SeqEnsemble(models).predict(["cat"], best=3)
    >>> len(written)
    3
    """

    def __init__(self, models: Sequence[Seq2Seq]) -> None:
        super().__init__()
        if not models:
            raise ValueError("an ensemble is of one model or more, got none")
        for number, model in enumerate(models, start=1):
            for name in ("source_tokenizer", "target_tokenizer"):
                if getattr(model, name).to_str() != getattr(models[0], name).to_str():
                    raise ValueError(
                        f"models that write together have the same tokens; model {number} has another {name}"
                    )
        self.models = nn.ModuleList(models)

    def __iter__(self) -> Iterator[Seq2Seq]:
        """Give one model after the other."""
        return iter(self.models)  # type: ignore[arg-type]

    @property
    def config(self) -> tuple[Seq2SeqConfig, ...]:
        """The models' configurations."""
        return tuple(model.config for model in self)

    @property
    def attends(self) -> bool:
        """Whether any of the models looks at the source."""
        return any(model.attends for model in self)

    def start(self, ids: Tensor, lengths: Tensor, beam: int) -> tuple[Step, Tensor]:
        """Read the sources with each model; the state is theirs, one beside the other `[N, sum of L H]`."""
        steps, states = zip(*(model.start(ids, lengths, beam) for model in self), strict=True)
        shapes = [state.shape[1:] for state in states]
        sizes = [shape.numel() for shape in shapes]

        def step(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            parts = state.split(sizes, dim=1)
            told = [
                one(tokens, part.unflatten(1, shape)) for one, part, shape in zip(steps, parts, shapes, strict=True)
            ]
            log_probabilities = torch.stack([log_probability for log_probability, _ in told])
            mean = log_probabilities.logsumexp(0) - math.log(len(told))
            return mean, torch.cat([after.flatten(1) for _, after in told], dim=1)

        return step, torch.cat([state.flatten(1) for state in states], dim=1)

    def align(self, source: str, target: str) -> Alignment:
        """Give what the models that attend look at while they write `target`, on average."""
        found = [model.align(source, target) for model in self if model.attends or not self.attends]
        weights = torch.tensor([one.weights for one in found]).mean(0)
        return replace(found[0], weights=weights.tolist())

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each source, its end included; InputError for what is no text."""
        return self._first.encode_sources(texts)

    def target_tokens(self, text: str) -> list[str]:
        """Give the tokens of a target, without begin and end."""
        return self._first.target_tokens(text)

    def target_text(self, ids: list[int]) -> str:
        """Give the text of a target's token ids."""
        return self._first.target_text(ids)

    @property
    def _first(self) -> Seq2Seq:
        return next(iter(self))

    def in_eval_mode(self) -> AbstractContextManager[None]:
        """Keep all models in eval mode in here; afterwards each part is as it was."""
        return eval_mode(self)
