"""NGramEmbedding: vectors of tokens and of the n-grams around them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from fastgru.inference.entries import ngram_size
from fastgru.inference.ngrams import sizes, window_codes
from fastgru.models.tokens import pad_ids

LEAST = 5  # times that an n-gram is seen before it has a vector: rarer ones tell in training what they will not again
_CHUNK = 16_384  # texts whose n-grams are counted at once
_MOST_COUNTED = 4_000_000  # n-grams that are counted at a time, 16 bytes each


class NGramEmbedding(nn.Embedding):
    """e_t = E[id_t] + W sum over n of N[id_{t-m} ... id_{t+m}] with n = 2m + 1 = 3, 5 ... up to `longest`.

    Beyond both ends of a sequence stands padding, id 0. N has a vector of F features for each of `ngrams` n-grams, the
    ones that `ngram_codes` tells; others add nothing. In training each adds nothing with probability `dropout`.

    weight [V, E], ngram_vectors [N, F], project.weight [E, F] float; ngram_codes [N] int64: of which n-grams, sorted.

    As the hash n-gram embeddings of Pagnoni et al. 2024 (arXiv:2412.09871, section 3.2.1), but that a token stands in
    the middle of its n-grams, not at their end, and that only n-grams that were often seen have a vector, their own.
    """

    ngram_codes: Tensor

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, ngrams: int, features: int, longest: int, dropout: float
    ) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.longest = longest
        self.dropout = dropout
        self.ngram_vectors = nn.Parameter(torch.empty(ngrams, features).normal_(std=0.1))
        self.project = nn.Linear(features, embedding_dim, bias=False)
        self.register_buffer("ngram_codes", torch.zeros(ngrams, dtype=torch.int64))

    def forward(self, ids: Tensor) -> Tensor:
        """Give `e [B, T, E]` of `ids [B, T] int64`, which are 0 beyond the end of a sequence."""
        # All sizes are looked up at once: each look-up has a gradient of the size of all vectors.
        codes = torch.stack([ngram_codes(ids, n) for n in sizes(self.longest)])
        rows = torch.searchsorted(self.ngram_codes, codes).clamp(max=len(self.ngram_codes) - 1)
        known = self.ngram_codes[rows] == codes
        if self.training and self.dropout:
            known &= torch.rand(known.shape, device=ids.device) >= self.dropout
        around = (nn.functional.embedding(rows, self.ngram_vectors) * known[..., None]).sum(0)
        e: Tensor = super().forward(ids) + self.project(around)
        return e


def token_embedding(
    num_embeddings: int,
    embedding_dim: int,
    *,
    ngrams: int,
    longest: int,
    dropout: float,
    padding_idx: int | None = None,
) -> nn.Embedding:
    """Make vectors of tokens, and of the n-grams around them where there are any."""
    if not ngrams:
        return nn.Embedding(num_embeddings, embedding_dim, padding_idx=padding_idx)
    features = ngram_size(embedding_dim)
    return NGramEmbedding(
        num_embeddings, embedding_dim, ngrams=ngrams, features=features, longest=longest, dropout=dropout
    )


def set_ngrams(embedding: nn.Embedding, codes: Tensor) -> None:
    """Tell which n-grams have a vector: `codes [N] int64`, as `frequent_ngrams` gives them.

    ValueError for more or fewer than there are vectors.
    """
    ngrams = len(embedding.ngram_codes) if isinstance(embedding, NGramEmbedding) else 0
    if codes.shape != (ngrams,):
        raise ValueError(f"expected the codes of {ngrams} n-grams, got {[*codes.shape]}")
    if isinstance(embedding, NGramEmbedding):
        embedding.ngram_codes.copy_(codes)


def ngram_codes(ids: Tensor, n: int) -> Tensor:
    """Give `[B, T] int64`, a number for the n-gram around each token (`fastgru.inference.ngrams.window_codes`)."""
    return window_codes(pad(ids, (n // 2, n // 2)), n)


def frequent_ngrams(
    texts: Iterable[str], encode: Callable[[list[str]], list[list[int]]], *, longest: int, most: int
) -> Tensor:
    """Give the codes `[N] int64`, sorted, of the n-grams of `texts` that are seen most often, N <= `most`.

    `encode` gives the token ids of some texts. N-grams that are seen fewer than LEAST times are left out. Where there
    are more different ones than fit into memory, the rarest so far are forgotten while they are counted (as in Manku
    and Motwani 2002).
    """
    codes, counts = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    for some in _chunks(iter(texts)) if most else ():
        ids, lengths = pad_ids(encode(some))
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        seen = torch.cat([ngram_codes(ids, n)[real] for n in sizes(longest)])
        codes, places = torch.cat([codes, seen]).unique(return_inverse=True)
        weights = torch.cat([counts, torch.ones_like(seen)])
        counts = torch.zeros_like(codes).index_add_(0, places, weights)
        forgotten = 1
        while len(codes) > _MOST_COUNTED:
            codes, counts = codes[counts > forgotten], counts[counts > forgotten]
            forgotten += 1
    often = counts >= LEAST
    codes, counts = codes[often], counts[often]
    first = counts.argsort(descending=True, stable=True)[:most]
    return codes[first].sort().values


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    while some := list(islice(texts, _CHUNK)):
        yield some
