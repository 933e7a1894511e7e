"""Seq2SeqEnsemble: several sequence-to-sequence models that write together."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from fastgru.common.eval_mode import eval_mode
from fastgru.inference.ensemble import Ensemble, check_together
from fastgru.inference.seq2seq_config import Seq2SeqConfig
from fastgru.models.generation import TorchTextGenerator
from fastgru.models.seq2seq import Seq2Seq


class Seq2SeqEnsemble(nn.Module, TorchTextGenerator, Ensemble):
    """Several models that write together, with fewer errors than any of them makes alone.

        p(y_t | y_1 ... y_{t-1}, x) = mean over the models of theirs

    `models`: those that write, with the same tokenizers, as trainings on the same data with other seeds have them;
        sizes and attention may differ.

    Raises ValueError where there is none, or one has other tokens.

    >>> from fastgru.models import Seq2Seq, Seq2SeqConfig, Seq2SeqEnsemble
    >>> from fastgru.inference.tokens import source_tokenizer, target_tokenizer
    >>> tokens = source_tokenizer("characters", "act", fold=True), target_tokenizer("words", ["AE", "K", "T"])
    >>> models = [Seq2Seq(Seq2SeqConfig(6, 7, encoder_size=size), *tokens) for size in (16, 32)]
    >>> (written,) = Seq2SeqEnsemble(models).predict(["cat"], best=3)
    >>> len(written)
    3
    """

    def __init__(self, models: Sequence[Seq2Seq]) -> None:
        super().__init__()
        self.models = nn.ModuleList(check_together(models))
        self.source_tokenizer, self.target_tokenizer = models[0].source_tokenizer, models[0].target_tokenizer

    def __iter__(self) -> Iterator[Seq2Seq]:
        """Give one model after the other."""
        return iter(self.models)  # type: ignore[arg-type]

    @property
    def config(self) -> tuple[Seq2SeqConfig, ...]:
        """The models' configurations."""
        return tuple(model.config for model in self)

    def mean(self, log_probabilities: list[Tensor]) -> Tensor:
        """Give the logarithm `[N, V]` of the mean of probabilities, of which these are the logarithms."""
        return torch.stack(log_probabilities).logsumexp(0) - math.log(len(log_probabilities))

    def in_eval_mode(self) -> AbstractContextManager[None]:
        """Keep all models in eval mode in here; afterwards each part is as it was."""
        return eval_mode(self)
