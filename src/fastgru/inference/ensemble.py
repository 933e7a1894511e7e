"""Ensemble: several models that write together, whatever they compute with."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from fastgru.inference.batches import Ids
from fastgru.inference.generation import Alignment, Array, Step, TextGenerator

Model = TypeVar("Model", bound=TextGenerator)


class Ensemble(TextGenerator):
    """p(y_t | y_1 ... y_{t-1}, x) = mean over the models of theirs. A subclass holds them, and gives this mean."""

    @abstractmethod
    def __iter__(self) -> Iterator[TextGenerator]:
        """Give one model after the other."""

    @abstractmethod
    def mean(self, log_probabilities: list[Array]) -> Array:
        """Give the logarithm `[N, V]` of the mean of probabilities, of which these are the logarithms."""

    @property
    def attends(self) -> bool:
        """Whether any of the models looks at the source."""
        return any(model.attends for model in self)

    def start(self, ids: Array, lengths: Array, beam: int) -> Step:
        """Read the sources with each model."""
        steps = [model.start(ids, lengths, beam) for model in self]

        def step(tokens: Ids, came_from: Ids) -> Array:
            return self.mean([one(tokens, came_from) for one in steps])

        return step

    def align(self, source: str, target: str) -> Alignment:
        """Give what the models that attend look at while they write `target`, on average."""
        found = [model.align(source, target) for model in self if model.attends or not self.attends]
        weights = np.array([one.weights for one in found], np.float32).mean(0)
        return replace(found[0], weights=weights.tolist())


def check_together(models: Sequence[Model]) -> Sequence[Model]:
    """Give the models of an ensemble; ValueError where there is none, or one has other tokens than the first."""
    if not models:
        raise ValueError("an ensemble is of one model or more, got none")
    for number, model in enumerate(models, start=1):
        for name in ("source_tokenizer", "target_tokenizer"):
            if getattr(model, name).to_str() != getattr(models[0], name).to_str():
                raise ValueError(f"models that write together have the same tokens; model {number} has another {name}")
    return models
