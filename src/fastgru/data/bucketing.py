"""Bucketing: batches of rows of like length, of so many rows or within a budget of tokens."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Batching:
    """How rows become batches.

    `batch_size`: rows a batch. `batch_tokens`: in its place, the tokens of a batch at most, padding included; a row
    that is longer is a batch of its own. `bucket`: batches that are sorted together; more give less padding, and
    batches that depend more on each other.
    """

    batch_size: int
    batch_tokens: int | None = None
    bucket: int = 20

    def shuffled(self, lengths: list[int], generator: torch.Generator) -> list[list[int]]:
        """Give batches of the rows in a random order, in which the rows of one batch have nearly the same length.

        The order is cut into buckets, each is sorted by length and cut into batches, and these are shuffled.
        `lengths [N]`: tokens of each row.
        """
        order = torch.randperm(len(lengths), generator=generator).tolist()
        size = self.batch_size * self.bucket
        batches: list[list[int]] = []
        for start in range(0, len(order), size):
            near = sorted(order[start : start + size], key=lengths.__getitem__)
            batches += self._cut(near, lengths)
        return [batches[batch] for batch in torch.randperm(len(batches), generator=generator).tolist()]

    def _cut(self, rows: list[int], lengths: list[int]) -> Iterator[list[int]]:
        """Cut rows, which go from short to long."""
        batch: list[int] = []
        for row in rows:
            if self.batch_tokens is None:
                full = len(batch) == self.batch_size
            else:
                full = (len(batch) + 1) * lengths[row] > self.batch_tokens
            if batch and full:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch
