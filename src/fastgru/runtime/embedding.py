"""Vectors of tokens, and of the n-grams around them where there are any, without torch."""

import numpy as np

from fastgru.inference.batches import Ids
from fastgru.inference.ngrams import sizes, window_codes
from fastgru.runtime.functions import Linear, Vectors, Weights


class Embedding:
    """As `fastgru.models.ngrams.token_embedding` makes it, of the weights under `prefix`.

    `longest`: tokens in the longest n-gram.
    """

    def __init__(self, weights: Weights, prefix: str, longest: int) -> None:
        self.weight, self.longest = weights[f"{prefix}.weight"], longest
        self.codes = weights.get(f"{prefix}.ngram_codes")
        if self.codes is not None:
            self.vectors = weights[f"{prefix}.ngram_vectors"]
            self.project = Linear(weights, f"{prefix}.project")

    def __call__(self, ids: Ids) -> Vectors:
        """Give `[B, T, E]` of `ids [B, T]`, which are 0 beyond the end of a sequence."""
        embedded: Vectors = self.weight[ids]
        if self.codes is None:
            return embedded
        around = np.zeros((*ids.shape, self.vectors.shape[1]), np.float32)
        for n in sizes(self.longest):
            codes: Ids = window_codes(np.pad(ids, ((0, 0), (n // 2, n // 2))), n)
            rows = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
            around += self.vectors[rows] * (self.codes[rows] == codes)[..., None]
        return embedded + self.project(around)
